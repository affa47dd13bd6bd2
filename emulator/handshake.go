package emulator

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// serveClient answers the handshake of a WebSocket client, at /client/hubs/{hub} or /client/?hub={hub}.
func (s *Server) serveClient(w http.ResponseWriter, r *http.Request) {
	if err := s.connectClient(w, r); err != nil {
		hub, _ := clientHub(r)
		s.refuseClient(w, r, hub, err)
	}
}

// refuseClient answers a handshake with what is wrong with it.
func (s *Server) refuseClient(w http.ResponseWriter, r *http.Request, hub string, err *restError) {
	s.log.Info("client refused", "path", r.URL.Path, "status", err.status, "reason", err.message)
	if s.traffic.on() {
		s.traffic.publish(trafficEvent{Kind: "connection", Hub: hub, Status: err.status, Text: "refused: " + err.message})
	}
	writeError(w, r, err)
}

// admit looks at what a handshake says before its token: the hub, and the page it comes from.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, hub string) *restError {
	if !hubPattern.MatchString(hub) {
		return badRequest("hub", "the hub name %.140q does not match %s", hub, hubPattern)
	}
	if origin := r.Header.Get("Origin"); origin != "" && !loopbackOrigin(origin) && !s.ownOrigin(r, origin) {
		return &restError{http.StatusForbidden, "Forbidden",
			"the origin " + shorten(origin, 100) + " may not connect: only pages of this machine may", "Origin"}
	}
	return s.strike(s.takeFault(OperationConnect), w, r)
}

// acceptable looks at what a handshake says with its token.
func acceptable(r *http.Request, c *claims) *restError {
	for _, g := range c.Groups {
		if fault := checkGroup(g); fault != "" {
			return badRequest("webpubsub.group", "%s", fault)
		}
	}
	if !isWebSocket(r) {
		return badRequest("Upgrade", "this is not a WebSocket handshake of version 13")
	}
	return nil
}

func (s *Server) connectClient(w http.ResponseWriter, r *http.Request) *restError {
	hubName, ok := clientHub(r)
	if !ok {
		return &restError{http.StatusNotFound, "NotFound", "clients connect at /client/hubs/{hub}", ""}
	}
	if err := s.admit(w, r, hubName); err != nil {
		return err
	}
	query := r.URL.Query()
	if query.Has("awps_connection_id") && isWebSocket(r) {
		return s.recoverClient(w, r, hubName)
	}
	claims, err := s.authorizeClient(r, clientPaths["default"], hubName)
	if err != nil {
		return unauthorized(err)
	}
	raw, bad := rawMode(query)
	if bad != nil {
		return bad
	}
	if err := acceptable(r, claims); err != nil {
		return err
	}

	sock := &socket{server: s}
	sock.connection = connection{id: rand.Text(), hub: s.openHub(hubName), userID: claims.Subject, link: sock}
	offered := offeredSubprotocols(r)
	roles, groups := []string(claims.Roles), []string(claims.Groups)
	var chosen string
	if i := slices.IndexFunc(offered, func(p string) bool { _, ok := subprotocols[p]; return ok }); i >= 0 {
		chosen = offered[i]
	}
	if s.upstream.listens(hubName) {
		sock.events = newEventQueue(s)
		query.Del("access_token")
		reply, err := s.upstream.connect(r.Context(), &sock.connection, &connectRequest{claims: tokenClaims(r),
			query: query, header: r.Header, subprotocols: offered, certificates: peerCertificates(r)})
		var rejected *rejection
		switch {
		case errors.As(err, &rejected):
			return &restError{rejected.status, "Rejected", rejected.reason, ""}
		case err != nil:
			return &restError{http.StatusInternalServerError, "InternalServerError", "the connect event failed: " + err.Error(), ""}
		}
		if reply.subprotocol != "" {
			chosen = reply.subprotocol
		}
		if reply.userID != "" {
			sock.userID = reply.userID
		}
		roles = slices.Concat(roles, reply.roles)
		groups = slices.Concat(groups, reply.groups)
	}
	sock.subprotocol = chosen
	sock.codec = raw
	var reconnectionToken string
	if p, ok := subprotocols[chosen]; ok {
		sock.codec = p.codec
		if p.reliable {
			sock.reliable = newReliable()
			sock.reliable.reading.Lock()
			reconnectionToken = sock.reliable.token
		}
	}
	if sock.permissions, err = newPermissions(roles); err != nil {
		return &restError{http.StatusBadRequest, "BadRequest", err.Error(), "role"}
	}

	// The connection is in its hub before the client knows that it is connected, so that nothing passes it by.
	sock.hub.add(&sock.connection, groups, func() {
		sock.enqueue(sock.codec.connected(&sock.connection, reconnectionToken))
		if sock.events != nil {
			sock.events.connected(&sock.connection)
		}
	})
	ws, nc := s.upgrade(w, r, chosen)
	if ws == nil {
		sock.left("the handshake failed")
		return nil
	}
	s.log.Debug("client connected", "hub", hubName, "connection", sock.id, "user", sock.userID, "subprotocol", chosen)
	sock.show("connection", "connected ", chosen)
	sock.open(ws, nc)
	if s.isClosing() { // Close may have missed this one
		nc.hurry(closeHandshakeTimeout)
		sock.end(closeReason)
	}
	// Not in this goroutine, which would keep the request and net/http's buffers alive as long as the client stays.
	go sock.read(ws, nc)
	return nil
}

// upgrade answers a handshake and counts the goroutine that the caller starts to read the socket. It returns nil when
// there is nothing to read.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, subprotocol string) (*websocket.Conn, *netConn) {
	nc := r.Context().Value(netConnKey{}).(*netConn)
	if !s.track(nc) {
		writeError(w, r, &restError{http.StatusServiceUnavailable, "ServiceUnavailable", closeReason, ""})
		return nil, nil
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // the caller has looked at the origin
	})
	if err != nil { // Accept has answered
		s.log.Info("handshake failed", "error", err)
		s.untrack(nc)
		return nil, nil
	}
	nc.hijacked()
	return ws, nc
}

// clientHub returns the hub a client wants, and false when the path is none that clients use.
func clientHub(r *http.Request) (string, bool) {
	if path := r.URL.EscapedPath(); path == "/client" || path == "/client/" {
		return r.URL.Query().Get("hub"), true
	} else if rest, ok := strings.CutPrefix(path, clientPaths["default"]); ok && !strings.Contains(rest, "/") {
		hub, err := url.PathUnescape(rest)
		return hub, err == nil
	}
	return "", false
}

// rawMode reads what a client without a protocol of the service wants its frames to mean.
func rawMode(query url.Values) (rawCodec, *restError) {
	switch mode := query.Get("webpubsub_mode"); {
	case mode == "", strings.EqualFold(mode, "sendEvent"):
		return rawCodec{}, nil
	case strings.EqualFold(mode, "sendToGroup"):
		group := query.Get("group")
		if fault := checkGroup(group); fault != "" {
			return rawCodec{}, badRequest("group", "%s", fault)
		}
		return rawCodec{group: group, noEcho: strings.EqualFold(query.Get("noEcho"), "true")}, nil
	default:
		return rawCodec{}, badRequest("webpubsub_mode", "webpubsub_mode is neither sendEvent nor sendToGroup")
	}
}

// offeredSubprotocols are those a client offers, in its order.
func offeredSubprotocols(r *http.Request) []string {
	var offered []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				offered = append(offered, p)
			}
		}
	}
	return offered
}

// isWebSocket reports whether a request is a handshake that can be answered.
func isWebSocket(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && err == nil && len(key) == 16 &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}
