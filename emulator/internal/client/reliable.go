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

// recovery is what a socket of a reliable protocol has, so that its client can come back after it was cut off. What
// the client is sent then is in the outbox.
type recovery struct {
	tokens   []string   // the client proves with any of them that it is the one that was cut off; the last one is the newest. Guarded by socket.mu.
	deadline *hub.Timer // ends the wait for a client that was cut off; nil while there is a socket. Guarded by socket.mu.

	attaching sync.Mutex // held while a socket takes over from another
	reading   sync.Mutex // held as long as a socket is read
}

// detach keeps a connection whose socket is gone, for as long as its client may come back. It reports false when the
// connection is closed already.
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
		s.gone(func() { s.Lost("the client did not come back in time") })
	})
	return true
}

// attach gives a socket to a client that has come back, or returns why it cannot have one. again tells the client that it is
// connected.
func (s *socket) attach(ws *websocket.Conn, nc *wire.Conn, token string, again bool) string {
	r := s.recovery
	if !s.proves(token) {
		return "the reconnection token is wrong"
	}
	defer s.Hub.Service.Observer.Changed()
	r.attaching.Lock()
	defer r.attaching.Unlock()
	s.Drop()         // the server may not have noticed yet that the old socket is dead
	r.reading.Lock() // from here on nobody reads it
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() || r.deadline == nil || !r.deadline.Stop() {
		r.reading.Unlock()
		return "the connection is closed"
	}
	r.deadline = nil
	var hello *hub.Frame
	if again {
		hello = s.codec.Connected(&s.Connection, r.newest())
	}
	s.outbox.Resume(hello)
	s.ws, s.nc = ws, nc
	s.wake()
	return ""
}

// newest returns the token that the client is told. The caller holds socket.mu.
func (r *recovery) newest() string { return r.tokens[len(r.tokens)-1] }

// proves reports whether a token is the connection's. An older token counts until a newer one was used: the frame with the
// newer one may have been lost with the connection.
func (s *socket) proves(token string) bool {
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

// reconnect answers a reliable client that comes back with the id and the token of its connection. If there is
// nothing to come back to, the handshake succeeds and the socket is closed with 1008: that is how a client learns that
// trying again is of no use. The connection goes on with its own subprotocol: the handshake names it if the client offers it.
func (s Server) reconnect(w http.ResponseWriter, r *http.Request, hubName, id string) {
	fault := "there is no such connection"
	var sock *socket
	chosen := known(handshake.Offered(r))
	if c := s.Service.Hub(hubName).Find(id); c != nil {
		var ok bool
		if sock, ok = c.Link.(*socket); ok && sock.recovery != nil {
			chosen = sock.Subprotocol
		} else {
			sock, fault = nil, "the connection is not a reliable one"
		}
	}
	pinged := func([]byte) {}
	if sock != nil {
		pinged = sock.pinged
	}
	ws, nc := s.Upgrade(w, r, chosen, pinged)
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
