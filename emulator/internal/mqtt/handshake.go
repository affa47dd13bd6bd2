// Package mqtt serves MQTT 3.1.1 and 5.0 clients over WebSocket: their sessions, packets and events. Package protocol translates
// packets to messages. The kernel does everything else: topics are groups, and the hub is the broker.
package mqtt

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/coder/websocket"
)

const (
	// maxClientID is the service's limit for the length of an MQTT client's id, in bytes.
	maxClientID = 128
	// maxKeepAlive is the limit for a client's keep-alive, in seconds. The server tells MQTT 5.0 clients to use a lower value,
	// and rejects MQTT 3.1.1 clients.
	maxKeepAlive = 180
)

// Server is the handler of MQTT clients.
type Server struct{ *handshake.Handshaker }

// ServeHTTP handles the WebSocket handshake of an MQTT client at /clients/mqtt/hubs/{hub}.
func (s Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), wire.MQTTPath))
	if err != nil {
		name = ""
	}
	if err := s.connect(w, r, name); err != nil {
		s.Refuse(w, r, name, err)
	}
}

func (s Server) connect(w http.ResponseWriter, r *http.Request, hubName string) *wire.Error {
	if err := s.Admit(w, r, hubName); err != nil {
		return err
	}
	claims, err := s.Authorize(r, wire.MQTTPath, hubName)
	if err != nil {
		return err
	}
	if err := handshake.Check(claims); err != nil {
		return err
	}
	if err := handshake.CheckWebSocket(r); err != nil {
		return err
	}
	if !slices.Contains(handshake.Offered(r), protocol.MQTTSubprotocol) {
		return wire.BadRequest("Sec-WebSocket-Protocol", "an MQTT client must offer the subprotocol %s", protocol.MQTTSubprotocol)
	}
	p := &pendingClient{server: s, hub: s.Service.Hub(hubName), user: claims.User(),
		host: handshake.Host(r), roles: claims.AllRoles(), groups: claims.Groups, request: handshake.Describe(r)}
	n := &conn{physicalID: rand.Text(), gone: make(chan struct{}), acked: make(chan struct{}, 1)}
	if n.ws, n.nc = s.Upgrade(w, r, protocol.MQTTSubprotocol, n.sendPong); n.ws == nil {
		return nil
	}
	// In a new goroutine: this one would keep the request and net/http's buffers alive as long as the client stays connected.
	go p.run(n)
	return nil
}

// pendingClient is an MQTT client that is not in its hub yet: the WebSocket is open, but the CONNECT packet has not been
// accepted.
type pendingClient struct {
	server        Server
	hub           *hub.Hub
	user          string
	roles, groups []string
	request       *hub.ConnectRequest
	host          string // the host to which the client connected
}

// run reads the CONNECT packet. If the packet is accepted, run handles all further packets.
func (h *pendingClient) run(n *conn) {
	ws, nc := n.ws, n.nc
	defer nc.Untrack()
	stopClosing := context.AfterFunc(h.server.Service.Life.Context(), func() { nc.Close() })
	timeout := time.AfterFunc(wire.HandshakeTimeout, func() { nc.Close() })
	ws.SetReadLimit(-1) // packets have their own limit; a WebSocket message may hold any number of packets
	// Each progress restarts the time limit, so that a slow client is not cut off.
	n.stream = &byteStream{ws: ws, onRead: func() { timeout.Reset(wire.HandshakeTimeout) }}
	n.in = bufio.NewReader(n.stream)
	pk, err := mqttpacket.Read(n.in, mqttpacket.V311, protocol.MaxMQTTPacket)
	n.stream.onRead = nil
	timeout.Stop()
	stopClosing()

	var c *session
	if err == nil {
		c, err = h.accept(pk, n)
	}
	if fault, ok := errors.AsType[*rejection](err); ok {
		h.server.Service.Log.Info("MQTT client rejected", "hub", h.hub.Name, "reason", fault.reason)
		h.reject(n, pk, fault)
	} else if fault, ok := errors.AsType[*mqttpacket.Fault](err); ok {
		h.server.Service.Log.Info("MQTT client rejected", "hub", h.hub.Name, "reason", fault.Reason)
		n.close(protocol.CloseProtocolError, fault.Reason)
	}
	if err != nil {
		nc.Close()
		ws.CloseNow()
		return
	}
	n.session = c
	h.server.EndIfClosing(&c.Connection, nc)
	c.read(n)
}

// rejection is the error for a CONNECT packet that is not accepted.
type rejection struct {
	code       byte // the reason code of MQTT 5.0
	code311    byte // the return code of MQTT 3.1.1; 0 = close without a CONNACK
	reason     string
	properties []protocol.MQTTUserProperty
}

func (r *rejection) Error() string { return r.reason }

// The return codes of MQTT 3.1.1.
const (
	mqtt311Version     = 1
	mqtt311ClientID    = 2
	mqtt311Unavailable = 3
	mqtt311BadUsername = 4
	mqtt311Forbidden   = 5
)

func newRejection(code, code311 byte, format string, args ...any) *rejection {
	return &rejection{code: code, code311: code311, reason: fmt.Sprintf(format, args...)}
}

// reject responds to a CONNECT packet with an error and closes the connection.
func (h *pendingClient) reject(n *conn, pk *mqttpacket.Packet, r *rejection) {
	n.nc.LimitWrites(wire.HandshakeTimeout)
	connack := &mqttpacket.Packet{Type: mqttpacket.Connack, Version: mqttpacket.V311, Code: r.code311}
	if pk.Version >= mqttpacket.V5 {
		connack.Version, connack.Code = mqttpacket.V5, r.code
		connack.Properties = mqttpacket.Properties{ReasonString: protocol.MQTTReason(r.reason), User: protocol.FromMQTTUserProperties(r.properties)}
	}
	if connack.Code != 0 {
		data := mqttpacket.Encode(connack)
		if limit := int(min(pk.Properties.MaximumPacketSize, math.MaxInt32)); limit > 0 && len(data) > limit {
			connack.Properties = mqttpacket.Properties{}
			data = mqttpacket.Encode(connack)
		}
		_ = n.ws.Write(context.Background(), websocket.MessageBinary, data)
	}
	n.close(protocol.ClosePolicyViolation, r.reason)
}

// accept adds a client to its hub, in a new session or in its previous one. It returns a *rejection or a *mqttpacket.Fault if
// the CONNECT packet is not acceptable.
func (h *pendingClient) accept(pk *mqttpacket.Packet, n *conn) (*session, error) {
	if err := checkConnect(pk); err != nil {
		return nil, err
	}
	p, v := &pk.Connect, &pk.Properties
	n.receiveMaximum, n.maxPacket = int(v.ReceiveMaximum), int(min(v.MaximumPacketSize, math.MaxInt32))
	n.noProblemInfo = v.RequestProblemInfo != nil && *v.RequestProblemInfo == 0
	n.keepAlive = time.Duration(keepAlive(p)) * time.Second * 3 / 2

	c := &session{version: protocol.MQTTVersion(pk.Version), conn: n, physicalID: n.physicalID, sessionID: rand.Text(),
		tokenUser: h.user, subscriptions: make(map[string]subscription), received: make(map[uint16]bool)}
	c.events.changed.L = &c.mu
	// Like in the hosted service, the connection id is the MQTT client id.
	c.Connection = hub.Connection{ID: p.ClientID, Hub: h.hub, UserID: h.user, Subprotocol: protocol.MQTTSubprotocol,
		Host: h.host, Link: c}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if c.version == protocol.MQTT5 {
		c.lifetime = lifetime(v.SessionExpiry)
	} else if !p.Clean {
		c.lifetime = hub.RecoveryWindow
	}
	reply, err := c.Connect(h.server.Service.Life.Context(), h.roles, h.groups, func() *hub.ConnectRequest {
		h.request.Detail = protocol.NewMQTTConnect(pk)
		return h.request
	})
	answer, _ := reply.Detail.(*protocol.MQTTConnack)
	if err != nil {
		return nil, connectRejection(err, answer, c.version)
	}
	c.SetRoles(reply.Roles, protocol.CheckGroup)
	if p.Will != nil {
		will, fault := newWill(p.Will)
		if fault != nil {
			return nil, newRejection(fault.Code, mqtt311Forbidden, "%s", fault.Reason)
		}
		c.will = will
	}
	if answer == nil {
		answer = &protocol.MQTTConnack{}
	}
	return h.enter(c, n, reply.Groups, p.Clean, func(resumed bool) {
		n.control = append(n.control, c.connack(n, p, v, resumed, answer))
	})
}

// enter adds the client to the hub, or resumes the session that has the same client id. announce queues the CONNACK. The user,
// the roles and the groups from the application apply to a new session only.
func (h *pendingClient) enter(c *session, n *conn, groups []string, clean bool, announce func(resumed bool)) (*session, error) {
	h.hub.EntryLock.Lock()
	defer h.hub.EntryLock.Unlock()
	var old *session
	if other := h.hub.Find(c.ID); other != nil {
		var ok bool
		if old, ok = other.Link.(*session); !ok || old.tokenUser != c.tokenUser {
			return nil, newRejection(mqttpacket.ClientIDNotValid, mqtt311ClientID, "the client id is in use by another user")
		}
		if !clean && old.version == c.version {
			if err := checkWill(c.will, old); err != nil {
				return nil, err
			}
			if old.resume(c, n, announce) {
				h.server.Service.Log.Debug("MQTT client came back", "hub", h.hub.Name, "connection", c.ID)
				old.Show("connection", "came back", "")
				return old, nil
			}
		}
	}
	if err := checkWill(c.will, c); err != nil {
		return nil, err
	}
	if old != nil {
		old.takeOver()
	}
	h.hub.Add(&c.Connection, groups, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		announce(false)
		c.startWriter(n)
	})
	h.server.Service.Log.Debug("MQTT client connected", "hub", h.hub.Name, "connection", c.ID, "user", c.UserID,
		"version", c.version)
	c.Show("connection", "connected ", protocol.MQTTSubprotocol)
	return c, nil
}

// checkWill returns a *rejection if the session may not send a will.
func checkWill(w *will, c *session) error {
	if w == nil || c.Allows(hub.SendToGroup, w.message.Group) {
		return nil
	}
	return newRejection(mqttpacket.NotAuthorized, mqtt311Forbidden, "the client may not send its will to the group %.64q", w.message.Group)
}

// checkConnect checks a client's first packet. It returns a *mqttpacket.Fault if the packet is not a CONNECT packet of MQTT, and
// a *rejection if the service does not allow it.
func checkConnect(pk *mqttpacket.Packet) error {
	if pk.Type != mqttpacket.Connect {
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the first packet is not CONNECT")
	}
	p, v5 := &pk.Connect, pk.Version == mqttpacket.V5
	switch {
	case p.Protocol != "MQTT" && p.Protocol != "MQIsdp":
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the protocol's name is not MQTT")
	case p.Protocol != "MQTT" || pk.Version != mqttpacket.V311 && !v5:
		return newRejection(mqttpacket.UnsupportedProtocolVersion, mqtt311Version,
			"protocol version %d is neither 4 (MQTT 3.1.1) nor 5 (MQTT 5.0)", pk.Version)
	case p.ClientID == "" && !v5:
		return newRejection(mqttpacket.ClientIDNotValid, mqtt311ClientID, "the client id is empty: the service assigns ids to MQTT 5.0 clients only")
	case len(p.ClientID) > maxClientID:
		return newRejection(mqttpacket.ClientIDNotValid, mqtt311ClientID,
			"the client id is longer than %d characters", maxClientID)
	case strings.ContainsFunc(p.ClientID, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }):
		return newRejection(mqttpacket.ClientIDNotValid, mqtt311ClientID,
			"the client id %.64q has characters other than 0-9, A-Z and a-z", p.ClientID)
	case !v5 && (p.KeepAlive == 0 || p.KeepAlive > maxKeepAlive):
		return newRejection(mqttpacket.ImplementationSpecificError, mqtt311Forbidden,
			"the keep-alive of an MQTT 3.1.1 client must be from 1 to %d seconds, not %d", maxKeepAlive, p.KeepAlive)
	case pk.Properties.AuthenticationMethod != nil:
		return newRejection(mqttpacket.BadAuthenticationMethod, 0,
			"enhanced authentication is not supported: use an access token, or a user name and a password")
	}
	return nil
}

// keepAlive returns the effective keep-alive of a client, in seconds.
func keepAlive(p *mqttpacket.ConnectFields) uint16 {
	if p.KeepAlive == 0 || p.KeepAlive > maxKeepAlive {
		return maxKeepAlive
	}
	return p.KeepAlive
}

// connectRejection converts a failure of the connect event to a rejection of the CONNECT packet.
func connectRejection(err error, answer *protocol.MQTTConnack, version protocol.MQTTVersion) *rejection {
	r := newRejection(mqttpacket.ServerUnavailable, mqtt311Unavailable, "the connect event failed")
	rejected, ok := errors.AsType[*hub.Rejection](err)
	if !ok {
		return r
	}
	r.reason = rejected.Reason
	switch rejected.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.code, r.code311 = mqttpacket.NotAuthorized, mqtt311Forbidden
	case http.StatusTooManyRequests:
		r.code = mqttpacket.ConnectionRateExceeded
	case http.StatusBadRequest:
		r.code, r.code311 = mqttpacket.BadUsernameOrPassword, mqtt311BadUsername
	default:
		if rejected.Status < 500 {
			r.code = mqttpacket.UnspecifiedError
		}
	}
	if answer != nil { // the application set MQTT codes; for 3.1.1, which has no code for an unspecified error, code311 stays
		r.properties, r.code = answer.UserProperties, mqttpacket.UnspecifiedError
		if mqttpacket.RefusesConnect(byte(version), answer.Code) {
			r.code, r.code311 = byte(answer.Code), byte(answer.Code)
		}
	}
	return r
}

// connack returns the CONNACK packet that accepts a client. It lists the features that the server does not support.
func (c *session) connack(n *conn, p *mqttpacket.ConnectFields, v *mqttpacket.Properties, resumed bool, answer *protocol.MQTTConnack) []byte {
	pk := &mqttpacket.Packet{Type: mqttpacket.Connack, SessionPresent: resumed}
	pk.Properties = mqttpacket.Properties{
		RetainAvailable:    new(byte(0)),
		WildcardsAvailable: new(byte(0)),
		SharedAvailable:    new(byte(0)),
		MaximumPacketSize:  protocol.MaxMQTTPacket,
		User:               protocol.FromMQTTUserProperties(answer.UserProperties),
	}
	if p.ClientID == "" {
		pk.Properties.AssignedClientID = c.ID
	}
	if v.SessionExpiry != nil && c.lifetime != time.Duration(*v.SessionExpiry)*time.Second {
		pk.Properties.SessionExpiry = new(uint32(c.lifetime / time.Second))
	}
	if k := keepAlive(p); k != p.KeepAlive {
		pk.Properties.ServerKeepAlive = new(k)
	}
	return c.encode(n, pk)
}
