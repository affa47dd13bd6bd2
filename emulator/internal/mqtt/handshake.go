// Package mqtt serves the clients that speak MQTT 3.1.1 or 5.0 over WebSocket: their sessions, packets and events. It knows
// packets through room protocol and everything else through the kernel: topics are groups, and the hub is the broker.
package mqtt

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

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// maxClientID bounds the id of an MQTT client, in bytes. MQTT leaves more than 23 to the server.
const maxClientID = 256

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
		roles: claims.AllRoles(), groups: claims.Groups, request: handshake.Describe(r)}
	ws, nc := s.Upgrade(w, r, protocol.MQTTSubprotocol, nil)
	if ws == nil {
		return nil
	}
	// Not in this goroutine, which would keep the request and net/http's buffers alive as long as the client stays.
	go p.run(ws, nc)
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
}

// run reads the CONNECT packet, and then, if it can be accepted, everything that follows.
func (h *pendingClient) run(ws *websocket.Conn, nc *wire.Conn) {
	defer nc.Untrack()
	ctx, cancel := context.WithTimeout(h.server.Service.Life.Context(), wire.HandshakeTimeout)
	defer cancel()
	impatience := context.AfterFunc(ctx, func() { nc.Close() })
	ws.SetReadLimit(-1) // packets have a limit; a WebSocket message may hold any number of them
	n := &conn{ws: ws, nc: nc, stream: &byteStream{ws: ws}, physicalID: rand.Text()}
	n.in = bufio.NewReader(n.stream)
	pk, err := protocol.ReadMQTT(n.in, 0)
	impatience()

	var c *session
	if err == nil {
		c, err = h.accept(pk, n)
	}
	if fault, ok := errors.AsType[*refusal](err); ok {
		h.server.Service.Log.Info("MQTT client refused", "hub", h.hub.Name, "reason", fault.reason)
		h.refuse(n, pk, fault)
	} else if fault, ok := errors.AsType[*protocol.MQTTFault](err); ok {
		h.server.Service.Log.Info("MQTT client refused", "hub", h.hub.Name, "reason", fault.Reason)
		n.close(protocol.CloseProtocolError, fault.Reason)
	}
	if err != nil {
		nc.Close()
		ws.CloseNow()
		return
	}
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
	mqtt311Forbidden   = 5
)

func refuse(code packets.Code, code311 byte, format string, args ...any) *refusal {
	return &refusal{code: code.Code, code311: code311, reason: fmt.Sprintf(format, args...)}
}

// refuse answers a CONNECT packet and closes.
func (h *pendingClient) refuse(n *conn, pk *packets.Packet, r *refusal) {
	n.nc.SetWriteDeadline(time.Now().Add(wire.HandshakeTimeout))
	answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: r.code311}
	if pk.ProtocolVersion >= byte(protocol.MQTT5) {
		answer.ProtocolVersion, answer.ReasonCode = byte(protocol.MQTT5), r.code
		answer.Properties = packets.Properties{ReasonString: protocol.MQTTString(r.reason), User: protocol.FromMQTTUserProperties(r.properties)}
	}
	if answer.ReasonCode != 0 {
		_ = n.ws.Write(context.Background(), websocket.MessageBinary, protocol.EncodeMQTT(&answer))
	}
	n.close(protocol.ClosePolicyViolation, r.reason)
}

// accept lets a client in: into a new session, or into the one it has left.
func (h *pendingClient) accept(pk *packets.Packet, n *conn) (*session, error) {
	if err := checkConnect(pk); err != nil {
		return nil, err
	}
	p, v := &pk.Connect, &pk.Properties
	n.receiveMaximum, n.maxPacket = int(v.ReceiveMaximum), int(v.MaximumPacketSize)
	n.noProblemInfo = v.RequestProblemInfoFlag && v.RequestProblemInfo == 0
	n.keepAlive = time.Duration(p.Keepalive) * time.Second * 3 / 2

	c := &session{version: protocol.MQTTVersion(pk.ProtocolVersion), conn: n, physicalID: n.physicalID,
		sessionID: rand.Text(), subscriptions: make(map[string]packets.Subscription)}
	// The hosted service's connection id is the MQTT client's id, so that it may be found by it.
	c.Connection = hub.Connection{ID: p.ClientIdentifier, Hub: h.hub, UserID: h.user,
		Subprotocol: protocol.MQTTSubprotocol, Link: c}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if c.version == protocol.MQTT5 {
		c.lifetime = lifetime(v.SessionExpiryInterval)
	} else if !p.Clean {
		c.lifetime = hub.RecoveryWindow
	}
	if other := h.hub.Find(c.ID); other != nil && !p.Clean {
		if old, ok := other.Link.(*session); ok {
			c.sessionID = old.sessionID
		}
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
	if p.WillFlag {
		will, fault := newWill(pk)
		if fault == nil && !c.Allows(hub.SendToGroup, will.message.Group) {
			fault = protocol.NewMQTTFault(packets.ErrNotAuthorized, "the client may not send its will to the group %.64q",
				will.message.Group)
		}
		if fault != nil {
			r := &refusal{code: fault.Code, reason: fault.Reason}
			if fault.Code == packets.ErrNotAuthorized.Code {
				r.code311 = mqtt311Forbidden
			}
			return nil, r
		}
		c.will = will
	}
	if answer == nil {
		answer = &protocol.MQTTConnack{}
	}
	return h.enter(c, n, reply.Groups, p.Clean, func(resumed bool) {
		n.control = append(n.control, c.connack(p, v, resumed, answer))
	})
}

// enter takes the client's id in the hub: from nobody, or from an earlier connection of the same user. announce queues
// the answer to CONNECT.
func (h *pendingClient) enter(c *session, n *conn, groups []string, clean bool, announce func(resumed bool)) (*session, error) {
	h.hub.EntryLock.Lock()
	defer h.hub.EntryLock.Unlock()
	if other := h.hub.Find(c.ID); other != nil {
		old, ok := other.Link.(*session)
		if !ok || old.UserID != c.UserID {
			return nil, refuse(packets.ErrClientIdentifierNotValid, mqtt311ClientID, "the client id is another user's")
		}
		if !clean && old.version == c.version && old.resume(c, n, announce) {
			h.server.Service.Log.Debug("MQTT client came back", "hub", h.hub.Name, "connection", c.ID)
			old.Show("connection", "came back", "")
			return old, nil
		}
		old.takeOver()
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

// checkConnect looks at what the packets package leaves open, or is too strict with.
func checkConnect(pk *packets.Packet) error {
	if pk.FixedHeader.Type != packets.Connect {
		return protocol.NewMQTTFault(packets.ErrProtocolViolation, "the first packet is not CONNECT")
	}
	p, v5 := &pk.Connect, pk.ProtocolVersion >= byte(protocol.MQTT5)
	name := string(p.ProtocolName)
	switch {
	case name != "MQTT" && name != "MQIsdp":
		return protocol.NewMQTTFault(packets.ErrProtocolViolation, "the protocol's name is not MQTT")
	case name != "MQTT" || pk.ProtocolVersion != byte(protocol.MQTT311) && pk.ProtocolVersion != byte(protocol.MQTT5):
		return refuse(packets.ErrUnsupportedProtocolVersion, mqtt311Version,
			"version %d of the protocol is neither 4 (MQTT 3.1.1) nor 5 (MQTT 5.0)", pk.ProtocolVersion)
	case pk.ReservedBit != 0,
		!p.WillFlag && (p.WillQos != 0 || p.WillRetain),
		p.WillQos > 2,
		p.PasswordFlag && !p.UsernameFlag && !v5,
		v5 && pk.Properties.AuthenticationMethod == "" && pk.Properties.AuthenticationData != nil:
		return protocol.NewMQTTFault(packets.ErrProtocolViolation, "the flags of CONNECT contradict each other")
	case p.ClientIdentifier == "" && !p.Clean && !v5:
		return refuse(packets.ErrClientIdentifierNotValid, mqtt311ClientID, "a session that is kept needs a client id")
	case len(p.ClientIdentifier) > maxClientID:
		return refuse(packets.ErrClientIdentifierNotValid, mqtt311ClientID,
			"the client id is longer than %d bytes", maxClientID)
	case protocol.HeaderValue(p.ClientIdentifier) != p.ClientIdentifier || strings.TrimSpace(p.ClientIdentifier) != p.ClientIdentifier:
		// An event's ce-connectionId could not carry it as it is, and ce-signature is of that.
		return refuse(packets.ErrClientIdentifierNotValid, mqtt311ClientID,
			"the client id has control characters or white space at its ends")
	case pk.Properties.AuthenticationMethod != "":
		return refuse(packets.ErrBadAuthenticationMethod, 0,
			"there is no authentication but by access token, user name and password")
	case p.WillQos > maxQoS:
		return refuse(packets.ErrQosNotSupported, 0, "the quality of service is %d at most", maxQoS)
	case p.WillRetain:
		return refuse(packets.ErrRetainNotSupported, 0, "no message is retained")
	}
	return nil
}

// rejected is the application's no, or its failure, in the client's words.
func rejected(err error, answer *protocol.MQTTConnack, version protocol.MQTTVersion) *refusal {
	r := refuse(packets.ErrServerUnavailable, mqtt311Unavailable, "the connect event failed: %v", err)
	no, ok := errors.AsType[*hub.Rejection](err)
	if !ok {
		return r
	}
	r.reason = no.Reason
	switch no.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.code, r.code311 = packets.ErrNotAuthorized.Code, mqtt311Forbidden
	case http.StatusTooManyRequests:
		r.code = packets.ErrConnectionRateExceeded.Code
	case http.StatusBadRequest:
		r.code, r.code311 = packets.ErrBadUsernameOrPassword.Code, packets.ErrMalformedUsernameOrPassword.Code
	default:
		if no.Status < 500 {
			r.code = packets.ErrUnspecifiedError.Code
		}
	}
	if answer != nil {
		r.properties = answer.UserProperties
		if version == protocol.MQTT5 && answer.Code >= packets.ErrUnspecifiedError.Code {
			r.code = answer.Code
		} else if version == protocol.MQTT311 && mqtt311Version <= answer.Code && answer.Code <= mqtt311Forbidden {
			r.code311 = answer.Code
		}
	}
	return r
}

// connack accepts a client, and announces what the server does not support.
func (c *session) connack(p *packets.ConnectParams, v *packets.Properties, resumed bool, answer *protocol.MQTTConnack) []byte {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: byte(c.version),
		SessionPresent: resumed}
	pk.Properties = packets.Properties{
		MaximumQos: maxQoS, MaximumQosFlag: true,
		RetainAvailableFlag:      true, // and 0: it is not
		WildcardSubAvailableFlag: true,
		SubIDAvailableFlag:       true,
		SharedSubAvailableFlag:   true,
		MaximumPacketSize:        protocol.MaxMQTTPacket,
		User:                     protocol.FromMQTTUserProperties(answer.UserProperties),
	}
	if p.ClientIdentifier == "" {
		pk.Properties.AssignedClientID = c.ID
	}
	if seconds := uint32(c.lifetime / time.Second); seconds != v.SessionExpiryInterval {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
	return protocol.EncodeMQTT(&pk)
}

// byteStream is the bytes of a WebSocket, in which MQTT packets begin and end anywhere.
type byteStream struct {
	ws      *websocket.Conn
	message io.Reader // what is left of the last one; nil = nothing
	lenient bool      // text will do
}

func (s *byteStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			s.message = message
			if typ != websocket.MessageBinary && !s.lenient {
				return 0, protocol.NewMQTTFault(packets.ErrProtocolViolation, "MQTT packets come in binary frames")
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
