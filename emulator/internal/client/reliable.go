package client

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// recovery lets the client of a reliable protocol reconnect after it was cut off. The outbox holds the messages to send
// again.
type recovery struct {
	tokens   []string   // valid reconnection tokens, the newest last; guarded by socket.mu
	deadline *hub.Timer // ends the recovery window; nil while there is a socket; guarded by socket.mu

	attaching sync.Mutex // held while a new socket replaces the old one
	reading   sync.Mutex // held while a goroutine reads the socket
}

// detach keeps a connection whose socket is gone, until its client reconnects or the recovery window ends. It returns false
// if the connection is already closed.
func (s *socket) detach() bool {
	defer s.Hub.Service.Observer.Changed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() {
		return false
	}
	s.ws, s.nc, s.writing, s.pongs = nil, nil, false, nil
	s.outbox.Suspend()
	s.recovery.deadline = s.Hub.Service.Clock.AfterFunc(hub.RecoveryWindow, func() {
		s.Hub.Service.Log.Debug("client did not come back", "hub", s.Hub.Name, "connection", s.ID)
		s.finish(func() { s.Lost("the client did not come back in time") })
	})
	return true
}

// attach gives a reconnected client's connection its new socket, or returns the reason why it cannot. If sendConnected is
// true, the client first receives another connected frame.
func (s *socket) attach(ws *websocket.Conn, nc *wire.Conn, token string, sendConnected bool) string {
	r := s.recovery
	if !s.verifyToken(token) {
		return "the reconnection token is wrong"
	}
	defer s.Hub.Service.Observer.Changed()
	r.attaching.Lock()
	defer r.attaching.Unlock()
	s.Drop()         // the server may not have noticed yet that the old socket is dead
	r.reading.Lock() // the old reader has ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() || r.deadline == nil || !r.deadline.Stop() {
		r.reading.Unlock()
		return "the connection is closed"
	}
	r.deadline = nil
	s.requests.cut = false
	var connected *hub.Frame
	if sendConnected {
		connected = s.codec.Connected(&s.Connection, r.newest())
	}
	s.outbox.Resume(connected)
	s.ws, s.nc = ws, nc
	s.startWriter()
	return ""
}

// newest returns the newest reconnection token. The caller holds socket.mu.
func (r *recovery) newest() string { return r.tokens[len(r.tokens)-1] }

// verifyToken reports whether a reconnection token is valid for the connection. Using a token invalidates the older ones.
// Until then they stay valid, because the frame with a newer token may have been lost.
func (s *socket) verifyToken(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.recovery
	i := slices.IndexFunc(r.tokens, func(t string) bool { return subtle.ConstantTimeCompare([]byte(t), []byte(token)) == 1 })
	if i < 0 {
		return false
	}
	r.tokens = r.tokens[i:]
	return true
}

// reconnect handles the handshake of a reliable client that reconnects with the id and a token of its connection. If the
// connection cannot be recovered, the handshake succeeds and the socket is closed with 1008, which tells the client not to
// retry. The connection keeps its subprotocol; the response names the subprotocol if the client offers it.
func (s Server) reconnect(w http.ResponseWriter, r *http.Request, hubName, id string) {
	fault := "there is no such connection"
	var sock *socket
	chosen := firstKnown(handshake.Offered(r))
	if c := s.Service.Hub(hubName).Find(id); c != nil {
		var ok bool
		if sock, ok = c.Link.(*socket); ok && sock.recovery != nil {
			chosen = sock.Subprotocol
		} else {
			sock, fault = nil, "the connection does not use a reliable subprotocol"
		}
	}
	onPing := func([]byte) {}
	if sock != nil {
		onPing = sock.onPing
	}
	ws, nc := s.Upgrade(w, r, chosen, onPing)
	if ws == nil {
		return
	}
	if sock != nil {
		token, _ := handshake.Query(r, "awps_reconnection_token")
		if fault = sock.attach(ws, nc, token, s.ConnectedAfterRecovery); fault == "" {
			s.Service.Log.Debug("client came back", "hub", hubName, "connection", id)
			sock.Show("connection", "came back", "")
			go sock.read(ws, nc)
			return
		}
	}
	s.Service.Log.Info("a client could not come back", "hub", hubName, "connection", id, "reason", fault)
	go func() {
		defer nc.Untrack()
		handshake.CloseSocket(ws, nc, protocol.ClosePolicyViolation, "The connection could not be recovered.")
	}()
}
