package emulator

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxMQTTClientID bounds the id of an MQTT client, in bytes. MQTT leaves more than 23 to the server.
const maxMQTTClientID = 256

// serveMQTT answers the handshake of an MQTT client, at /clients/mqtt/hubs/{hub}.
func (s *Server) serveMQTT(w http.ResponseWriter, r *http.Request) {
	hub, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), clientPaths["mqtt"]))
	if err != nil {
		hub = ""
	}
	if err := s.connectMQTT(w, r, hub); err != nil {
		s.refuseClient(w, r, hub, err)
	}
}

func (s *Server) connectMQTT(w http.ResponseWriter, r *http.Request, hubName string) *restError {
	if err := s.admit(w, r, hubName); err != nil {
		return err
	}
	claims, err := s.authorizeClient(r, clientPaths["mqtt"], hubName)
	if err != nil {
		return unauthorized(err)
	}
	if err := acceptable(r, claims); err != nil {
		return err
	}
	offered := offeredSubprotocols(r)
	if !slices.Contains(offered, mqttSubprotocol) {
		return badRequest("Sec-WebSocket-Protocol", "an MQTT client offers the subprotocol %s", mqttSubprotocol)
	}
	query := r.URL.Query()
	query.Del("access_token")
	h := &mqttHandshake{server: s, hub: s.openHub(hubName), user: claims.Subject,
		roles: claims.Roles, groups: claims.Groups,
		request: connectRequest{claims: tokenClaims(r), query: query, header: r.Header, subprotocols: offered,
			certificates: peerCertificates(r)}}
	ws, nc := s.upgrade(w, r, mqttSubprotocol)
	if ws == nil {
		return nil
	}
	go h.run(ws, nc) // see connectClient
	return nil
}

// mqttHandshake is an MQTT client on its way into its hub: its WebSocket is open, its CONNECT packet has not been
// answered.
type mqttHandshake struct {
	server        *Server
	hub           *hub
	user          string
	roles, groups []string
	request       connectRequest
}

// run reads the CONNECT packet, and then, if it can be accepted, everything that follows.
func (h *mqttHandshake) run(ws *websocket.Conn, nc *netConn) {
	defer h.server.untrack(nc)
	ctx, cancel := context.WithTimeout(h.server.ctx, handshakeTimeout)
	defer cancel()
	impatience := context.AfterFunc(ctx, func() { nc.Close() })
	ws.SetReadLimit(-1) // packets have a limit; a WebSocket message may hold any number of them
	n := &mqttConn{ws: ws, nc: nc, stream: &mqttStream{ws: ws}, physicalID: rand.Text()}
	n.in = bufio.NewReader(n.stream)
	pk, err := readMQTT(n.in, 0)
	impatience()

	var c *mqttClient
	if err == nil {
		c, err = h.accept(pk, n)
	}
	if fault, ok := errors.AsType[*mqttRefusal](err); ok {
		h.server.log.Info("MQTT client refused", "hub", h.hub.name, "reason", fault.reason)
		h.refuse(n, pk, fault)
	} else if fault, ok := errors.AsType[*mqttFault](err); ok {
		h.server.log.Info("MQTT client refused", "hub", h.hub.name, "reason", fault.reason)
		n.leave(websocket.StatusProtocolError, fault.reason)
	}
	if err != nil {
		nc.Close()
		ws.CloseNow()
		return
	}
	if h.server.isClosing() { // Close may have missed this one
		nc.hurry(closeHandshakeTimeout)
		c.end(closeReason)
	}
	c.read(n)
}

// mqttRefusal is the answer to a CONNECT packet that is not accepted: a reason code of MQTT 5.0, a return code of MQTT
// 3.1.1 or 0, to close without an answer, and words.
type mqttRefusal struct {
	code, code311 byte
	reason        string
	properties    []mqttUserProperty
}

func (r *mqttRefusal) Error() string { return r.reason }

// The return codes of MQTT 3.1.1.
const (
	mqtt311Version     = 1
	mqtt311ClientID    = 2
	mqtt311Unavailable = 3
	mqtt311Forbidden   = 5
)

func refuseMQTT(code packets.Code, code311 byte, format string, args ...any) *mqttRefusal {
	return &mqttRefusal{code: code.Code, code311: code311, reason: fmt.Sprintf(format, args...)}
}

// refuse answers a CONNECT packet and closes.
func (h *mqttHandshake) refuse(n *mqttConn, pk *packets.Packet, r *mqttRefusal) {
	n.nc.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: r.code311}
	if pk.ProtocolVersion >= byte(mqtt5) {
		answer.ProtocolVersion, answer.ReasonCode = byte(mqtt5), r.code
		answer.Properties = packets.Properties{ReasonString: mqttString(r.reason), User: fromMQTTUserProperties(r.properties)}
	}
	if answer.ReasonCode != 0 {
		n.ws.Write(context.Background(), websocket.MessageBinary, encodeMQTT(&answer))
	}
	n.leave(websocket.StatusPolicyViolation, r.reason)
}

// accept lets a client in: into a new session, or into the one it has left.
func (h *mqttHandshake) accept(pk *packets.Packet, n *mqttConn) (*mqttClient, error) {
	if err := checkMQTTConnect(pk); err != nil {
		return nil, err
	}
	p, v := &pk.Connect, &pk.Properties
	n.receiveMaximum, n.maxPacket = int(v.ReceiveMaximum), int(v.MaximumPacketSize)
	n.noProblemInfo = v.RequestProblemInfoFlag && v.RequestProblemInfo == 0
	n.keepAlive = time.Duration(p.Keepalive) * time.Second * 3 / 2

	c := &mqttClient{server: h.server, version: mqttVersion(pk.ProtocolVersion), conn: n, physicalID: n.physicalID,
		sessionID: rand.Text(), subscriptions: make(map[string]packets.Subscription)}
	// The hosted service's connection id is the MQTT client's id, so that it may be found by it.
	c.connection = connection{id: p.ClientIdentifier, hub: h.hub, userID: h.user, subprotocol: mqttSubprotocol,
		link: c, mqtt: c}
	if c.id == "" {
		c.id = rand.Text()
	}
	if c.version == mqtt5 {
		c.lifetime = mqttLifetime(v.SessionExpiryInterval)
	} else if !p.Clean {
		c.lifetime = recoveryWindow
	}
	clean := p.Clean
	answer := &mqttConnack{}
	if s := h.server; s.upstream.listens(h.hub.name) {
		if old := h.hub.mqttClient(c.id); old != nil && !clean {
			c.sessionID = old.sessionID
		}
		c.events = newEventQueue(s)
		h.request.mqtt = newMQTTConnect(pk)
		reply, err := s.upstream.connect(s.ctx, &c.connection, &h.request)
		if err != nil {
			return nil, mqttRejection(err, reply.mqtt, c.version)
		}
		if reply.userID != "" {
			c.userID = reply.userID
		}
		h.roles, h.groups = slices.Concat(h.roles, reply.roles), slices.Concat(h.groups, reply.groups)
		if reply.mqtt != nil {
			answer = reply.mqtt
		}
	}
	var err error
	if c.permissions, err = newPermissions(h.roles); err != nil {
		return nil, refuseMQTT(packets.ErrQuotaExceeded, mqtt311Forbidden, "%v", err)
	}
	if p.WillFlag {
		will, fault := newMQTTWill(pk)
		if fault == nil && !c.permissions.allows(permissionSendToGroup, will.message.group) {
			fault = newMQTTFault(packets.ErrNotAuthorized, "the client may not send its will to the group %.64q",
				will.message.group)
		}
		if fault != nil {
			r := &mqttRefusal{code: fault.code, reason: fault.reason}
			if fault.code == packets.ErrNotAuthorized.Code {
				r.code311 = mqtt311Forbidden
			}
			return nil, r
		}
		c.will = will
	}
	return h.enter(c, n, clean, func(resumed bool) { n.control = append(n.control, c.connack(p, v, resumed, answer)) })
}

// enter takes the client's id in the hub: from nobody, or from an earlier connection of the same user. announce queues
// the answer to CONNECT.
func (h *mqttHandshake) enter(c *mqttClient, n *mqttConn, clean bool, announce func(resumed bool)) (*mqttClient, error) {
	h.hub.mqttEntry.Lock()
	defer h.hub.mqttEntry.Unlock()
	h.hub.mu.RLock()
	other := h.hub.connections[c.id]
	h.hub.mu.RUnlock()
	if other != nil {
		old := other.mqtt
		if old == nil || old.userID != c.userID {
			return nil, refuseMQTT(packets.ErrClientIdentifierNotValid, mqtt311ClientID, "the client id is another user's")
		}
		if !clean && old.version == c.version && old.resume(c, n, announce) {
			h.server.log.Debug("MQTT client came back", "hub", h.hub.name, "connection", c.id)
			old.show("connection", "came back", "")
			return old, nil
		}
		old.takeOver()
	}
	h.hub.add(&c.connection, h.groups, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		announce(false)
		c.wake(n)
		if c.events != nil {
			c.events.connected(&c.connection)
		}
	})
	h.server.log.Debug("MQTT client connected", "hub", h.hub.name, "connection", c.id, "user", c.userID,
		"version", c.version)
	c.show("connection", "connected ", mqttSubprotocol)
	return c, nil
}

// mqttClient returns the MQTT client of an id, or nil.
func (h *hub) mqttClient(id string) *mqttClient {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if c := h.connections[id]; c != nil {
		return c.mqtt
	}
	return nil
}

// checkMQTTConnect looks at what the packets package leaves open, or is too strict with.
func checkMQTTConnect(pk *packets.Packet) error {
	if pk.FixedHeader.Type != packets.Connect {
		return newMQTTFault(packets.ErrProtocolViolation, "the first packet is not CONNECT")
	}
	p, v5 := &pk.Connect, pk.ProtocolVersion >= byte(mqtt5)
	name := string(p.ProtocolName)
	switch {
	case name != "MQTT" && name != "MQIsdp":
		return newMQTTFault(packets.ErrProtocolViolation, "the protocol's name is not MQTT")
	case name != "MQTT" || pk.ProtocolVersion != byte(mqtt311) && pk.ProtocolVersion != byte(mqtt5):
		return refuseMQTT(packets.ErrUnsupportedProtocolVersion, mqtt311Version,
			"version %d of the protocol is neither 4 (MQTT 3.1.1) nor 5 (MQTT 5.0)", pk.ProtocolVersion)
	case pk.ReservedBit != 0,
		!p.WillFlag && (p.WillQos != 0 || p.WillRetain),
		p.WillQos > 2,
		p.PasswordFlag && !p.UsernameFlag && !v5,
		v5 && pk.Properties.AuthenticationMethod == "" && pk.Properties.AuthenticationData != nil:
		return newMQTTFault(packets.ErrProtocolViolation, "the flags of CONNECT contradict each other")
	case p.ClientIdentifier == "" && !p.Clean && !v5:
		return refuseMQTT(packets.ErrClientIdentifierNotValid, mqtt311ClientID, "a session that is kept needs a client id")
	case len(p.ClientIdentifier) > maxMQTTClientID:
		return refuseMQTT(packets.ErrClientIdentifierNotValid, mqtt311ClientID,
			"the client id is longer than %d bytes", maxMQTTClientID)
	case headerValue(p.ClientIdentifier) != p.ClientIdentifier || strings.TrimSpace(p.ClientIdentifier) != p.ClientIdentifier:
		// An event's ce-connectionId could not carry it as it is, and ce-signature is of that.
		return refuseMQTT(packets.ErrClientIdentifierNotValid, mqtt311ClientID,
			"the client id has control characters or white space at its ends")
	case pk.Properties.AuthenticationMethod != "":
		return refuseMQTT(packets.ErrBadAuthenticationMethod, 0,
			"there is no authentication but by access token, user name and password")
	case p.WillQos > maxMQTTQoS:
		return refuseMQTT(packets.ErrQosNotSupported, 0, "the quality of service is %d at most", maxMQTTQoS)
	case p.WillRetain:
		return refuseMQTT(packets.ErrRetainNotSupported, 0, "no message is retained")
	}
	return nil
}

// mqttRejection is the application's no, or its failure, in the client's words.
func mqttRejection(err error, answer *mqttConnack, version mqttVersion) *mqttRefusal {
	r := refuseMQTT(packets.ErrServerUnavailable, mqtt311Unavailable, "the connect event failed: %v", err)
	rejected, ok := errors.AsType[*rejection](err)
	if !ok {
		return r
	}
	r.reason = rejected.reason
	switch rejected.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.code, r.code311 = packets.ErrNotAuthorized.Code, mqtt311Forbidden
	case http.StatusTooManyRequests:
		r.code = packets.ErrConnectionRateExceeded.Code
	case http.StatusBadRequest:
		r.code, r.code311 = packets.ErrBadUsernameOrPassword.Code, packets.ErrMalformedUsernameOrPassword.Code
	default:
		if rejected.status < 500 {
			r.code = packets.ErrUnspecifiedError.Code
		}
	}
	if answer != nil {
		r.properties = answer.UserProperties
		if version == mqtt5 && answer.Code >= packets.ErrUnspecifiedError.Code {
			r.code = answer.Code
		} else if version == mqtt311 && mqtt311Version <= answer.Code && answer.Code <= mqtt311Forbidden {
			r.code311 = answer.Code
		}
	}
	return r
}

// connack accepts a client, and says what it must not ask for.
func (c *mqttClient) connack(p *packets.ConnectParams, v *packets.Properties, resumed bool, answer *mqttConnack) []byte {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: byte(c.version),
		SessionPresent: resumed}
	pk.Properties = packets.Properties{
		MaximumQos: maxMQTTQoS, MaximumQosFlag: true,
		RetainAvailableFlag:      true, // and 0: it is not
		WildcardSubAvailableFlag: true,
		SubIDAvailableFlag:       true,
		SharedSubAvailableFlag:   true,
		MaximumPacketSize:        maxMQTTPacket,
		User:                     fromMQTTUserProperties(answer.UserProperties),
	}
	if p.ClientIdentifier == "" {
		pk.Properties.AssignedClientID = c.id
	}
	if seconds := uint32(c.lifetime / time.Second); seconds != v.SessionExpiryInterval {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
	return encodeMQTT(&pk)
}

// mqttStream is the bytes of a WebSocket, in which MQTT packets begin and end anywhere.
type mqttStream struct {
	ws      *websocket.Conn
	message io.Reader // what is left of the last one; nil = nothing
	lenient bool      // text will do
}

func (s *mqttStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			s.message = message
			if typ != websocket.MessageBinary && !s.lenient {
				return 0, newMQTTFault(packets.ErrProtocolViolation, "MQTT packets come in binary frames")
			}
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}
