// Package mqtt serves the clients that speak MQTT 3.1.1 or 5.0 over WebSocket: their sessions, packets and events. It knows
// packets through room protocol and everything else through the kernel: topics are groups, and the hub is the broker.
package mqtt

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	// maxClientID bounds the id of an MQTT client, in bytes, as the service does.
	maxClientID = 128
	// maxKeepAlive bounds the keep-alive of a client, in seconds. A client of MQTT 5.0 is told to keep it, one of 3.1.1 that
	// wants another is refused.
	maxKeepAlive = 180
)

// Server serves MQTT clients.
type Server struct{ *handshake.Handshaker }

// ServeHTTP answers the handshake of an MQTT client, at /clients/mqtt/hubs/{hub}.
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
	if err := handshake.Check(r, claims); err != nil {
		return err
	}
	if !slices.Contains(handshake.Offered(r), protocol.MQTTSubprotocol) {
		return wire.BadRequest("Sec-WebSocket-Protocol", "an MQTT client offers the subprotocol %s", protocol.MQTTSubprotocol)
	}
	p := &pendingClient{server: s, hub: s.Service.Hub(hubName), user: claims.User(),
		host: handshake.Host(r), roles: claims.AllRoles(), groups: claims.Groups, request: handshake.Describe(r)}
	n := &conn{physicalID: rand.Text()}
	if n.ws, n.nc = s.Upgrade(w, r, protocol.MQTTSubprotocol, n.pinged); n.ws == nil {
		return nil
	}
	// Not in this goroutine, which would keep the request and net/http's buffers alive as long as the client stays.
	go p.run(n)
	return nil
}

// pendingClient is an MQTT client on its way into its hub: its WebSocket is open, its CONNECT packet has not been
// answered.
type pendingClient struct {
	server        Server
	hub           *hub.Hub
	user          string
	roles, groups []string
	request       *hub.ConnectRequest
	host          string // the one that the client connected to
}

// run reads the CONNECT packet, and then, if it can be accepted, everything that follows.
func (h *pendingClient) run(n *conn) {
	ws, nc := n.ws, n.nc
	defer nc.Untrack()
	ctx, cancel := context.WithTimeout(h.server.Service.Life.Context(), wire.HandshakeTimeout)
	defer cancel()
	impatience := context.AfterFunc(ctx, func() { nc.Close() })
	ws.SetReadLimit(-1) // packets have a limit; a WebSocket message may hold any number of them
	n.stream = &byteStream{ws: ws}
	n.in = bufio.NewReader(n.stream)
	pk, err := mqttpacket.Read(n.in, mqttpacket.V311, protocol.MaxMQTTPacket)
	impatience()

	var c *session
	if err == nil {
		c, err = h.accept(pk, n)
	}
	if fault, ok := errors.AsType[*refusal](err); ok {
		h.server.Service.Log.Info("MQTT client refused", "hub", h.hub.Name, "reason", fault.reason)
		h.refuse(n, pk, fault)
	} else if fault, ok := errors.AsType[*mqttpacket.Fault](err); ok {
		h.server.Service.Log.Info("MQTT client refused", "hub", h.hub.Name, "reason", fault.Reason)
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

// refusal is the answer to a CONNECT packet that is not accepted: a reason code of MQTT 5.0, a return code of MQTT
// 3.1.1 or 0, to close without an answer, and words.
type refusal struct {
	code, code311 byte
	reason        string
	properties    []protocol.MQTTUserProperty
}

func (r *refusal) Error() string { return r.reason }

// The return codes of MQTT 3.1.1.
const (
	mqtt311Version     = 1
	mqtt311ClientID    = 2
	mqtt311Unavailable = 3
	mqtt311BadUsername = 4
	mqtt311Forbidden   = 5
)

func refuse(code, code311 byte, format string, args ...any) *refusal {
	return &refusal{code: code, code311: code311, reason: fmt.Sprintf(format, args...)}
}

// refuse answers a CONNECT packet and closes.
func (h *pendingClient) refuse(n *conn, pk *mqttpacket.Packet, r *refusal) {
	n.nc.LimitWrites(wire.HandshakeTimeout)
	answer := &mqttpacket.Packet{Type: mqttpacket.Connack, Version: mqttpacket.V311, Code: r.code311}
	if pk.Version >= mqttpacket.V5 {
		answer.Version, answer.Code = mqttpacket.V5, r.code
		answer.Properties = mqttpacket.Properties{ReasonString: protocol.MQTTString(r.reason), User: protocol.FromMQTTUserProperties(r.properties)}
	}
	if answer.Code != 0 {
		data := mqttpacket.Encode(answer)
		if limit := int(pk.Properties.MaximumPacketSize); limit > 0 && len(data) > limit {
			answer.Properties = mqttpacket.Properties{}
			data = mqttpacket.Encode(answer)
		}
		_ = n.ws.Write(context.Background(), websocket.MessageBinary, data)
	}
	n.close(protocol.ClosePolicyViolation, r.reason)
}

// accept lets a client in: into a new session, or into the one it has left.
func (h *pendingClient) accept(pk *mqttpacket.Packet, n *conn) (*session, error) {
	if err := checkConnect(pk); err != nil {
		return nil, err
	}
	p, v := &pk.Connect, &pk.Properties
	n.receiveMaximum, n.maxPacket = int(v.ReceiveMaximum), int(v.MaximumPacketSize)
	n.noProblemInfo = v.RequestProblemInfo != nil && *v.RequestProblemInfo == 0
	n.keepAlive = time.Duration(keepAlive(p)) * time.Second * 3 / 2

	c := &session{version: protocol.MQTTVersion(pk.Version), conn: n, physicalID: n.physicalID, sessionID: rand.Text(),
		tokenUser: h.user, subscriptions: make(map[string]subscription), received: make(map[uint16]bool)}
	c.events.changed.L = &c.mu
	// The hosted service's connection id is the MQTT client's id, so that it may be found by it.
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
		return nil, rejected(err, answer, c.version)
	}
	c.SetRoles(reply.Roles, protocol.CheckGroup)
	if p.Will != nil {
		will, fault := newWill(p.Will)
		if fault != nil {
			return nil, refuse(fault.Code, mqtt311Forbidden, "%s", fault.Reason)
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

// enter takes the client's id in the hub: from nobody, or from an earlier connection of the same user. announce queues
// the answer to CONNECT. The user, the roles and the groups that the application has given count for a new session only.
func (h *pendingClient) enter(c *session, n *conn, groups []string, clean bool, announce func(resumed bool)) (*session, error) {
	h.hub.EntryLock.Lock()
	defer h.hub.EntryLock.Unlock()
	if other := h.hub.Find(c.ID); other != nil {
		old, ok := other.Link.(*session)
		if !ok || old.tokenUser != c.tokenUser {
			return nil, refuse(mqttpacket.ClientIDNotValid, mqtt311ClientID, "the client id is another user's")
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
		if err := checkWill(c.will, c); err != nil {
			return nil, err
		}
		old.takeOver()
	}
	if err := checkWill(c.will, c); err != nil {
		return nil, err
	}
	h.hub.Add(&c.Connection, groups, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		announce(false)
		c.wake(n)
	})
	h.server.Service.Log.Debug("MQTT client connected", "hub", h.hub.Name, "connection", c.ID, "user", c.UserID,
		"version", c.version)
	c.Show("connection", "connected ", protocol.MQTTSubprotocol)
	return c, nil
}

// checkWill fails if the session that a will is for may not send it.
func checkWill(w *will, c *session) error {
	if w == nil || c.Allows(hub.SendToGroup, w.message.Group) {
		return nil
	}
	return refuse(mqttpacket.NotAuthorized, mqtt311Forbidden, "the client may not send its will to the group %.64q", w.message.Group)
}

// checkConnect refuses what the service does not allow, and what is no CONNECT packet.
func checkConnect(pk *mqttpacket.Packet) error {
	if pk.Type != mqttpacket.Connect {
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the first packet is not CONNECT")
	}
	p, v5 := &pk.Connect, pk.Version == mqttpacket.V5
	switch {
	case p.Protocol != "MQTT" && p.Protocol != "MQIsdp":
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the protocol's name is not MQTT")
	case p.Protocol != "MQTT" || pk.Version != mqttpacket.V311 && !v5:
		return refuse(mqttpacket.UnsupportedProtocolVersion, mqtt311Version,
			"version %d of the protocol is neither 4 (MQTT 3.1.1) nor 5 (MQTT 5.0)", pk.Version)
	case p.ClientID == "" && !v5:
		return refuse(mqttpacket.ClientIDNotValid, mqtt311ClientID, "the client id is empty: only MQTT 5.0 has ids that the service assigns")
	case len(p.ClientID) > maxClientID:
		return refuse(mqttpacket.ClientIDNotValid, mqtt311ClientID,
			"the client id is longer than %d characters", maxClientID)
	case strings.ContainsFunc(p.ClientID, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }):
		return refuse(mqttpacket.ClientIDNotValid, mqtt311ClientID,
			"the client id %.64q has characters other than 0-9, A-Z and a-z", p.ClientID)
	case !v5 && (p.KeepAlive == 0 || p.KeepAlive > maxKeepAlive):
		return refuse(mqttpacket.ImplementationSpecificError, mqtt311Forbidden,
			"the keep-alive of a client of MQTT 3.1.1 is from 1 to %d seconds, not %d", maxKeepAlive, p.KeepAlive)
	case pk.Properties.AuthenticationMethod != nil:
		return refuse(mqttpacket.BadAuthenticationMethod, 0,
			"there is no authentication but by access token, user name and password")
	}
	return nil
}

// keepAlive is the keep-alive that counts for a client, in seconds.
func keepAlive(p *mqttpacket.ConnectFields) uint16 {
	if p.KeepAlive == 0 || p.KeepAlive > maxKeepAlive {
		return maxKeepAlive
	}
	return p.KeepAlive
}

// rejected is the application's no, or its failure, in the client's words.
func rejected(err error, answer *protocol.MQTTConnack, version protocol.MQTTVersion) *refusal {
	r := refuse(mqttpacket.ServerUnavailable, mqtt311Unavailable, "the connect event failed")
	no, ok := errors.AsType[*hub.Rejection](err)
	if !ok {
		return r
	}
	r.reason = no.Reason
	switch no.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.code, r.code311 = mqttpacket.NotAuthorized, mqtt311Forbidden
	case http.StatusTooManyRequests:
		r.code = mqttpacket.ConnectionRateExceeded
	case http.StatusBadRequest:
		r.code, r.code311 = mqttpacket.BadUsernameOrPassword, mqtt311BadUsername
	default:
		if no.Status < 500 {
			r.code = mqttpacket.UnspecifiedError
		}
	}
	if answer != nil { // in the words of MQTT, of which 3.1.1 has none for an unspecified error
		r.properties, r.code = answer.UserProperties, mqttpacket.UnspecifiedError
		if mqttpacket.RefusesConnect(byte(version), answer.Code) {
			r.code, r.code311 = byte(answer.Code), byte(answer.Code)
		}
	}
	return r
}

// connack accepts a client, and announces what the server does not support.
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
