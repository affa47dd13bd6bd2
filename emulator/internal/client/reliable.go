package client

import (
	"crypto/subtle"
	"net/http"
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
	token    string     // the client proves with it that it is the one that was cut off
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
	s.ws, s.nc, s.writing = nil, nil, false
	s.outbox.Suspend()
	s.recovery.deadline = s.Hub.Service.Clock.AfterFunc(hub.RecoveryWindow, func() {
		s.Hub.Service.Log.Debug("client did not come back", "hub", s.Hub.Name, "connection", s.ID)
		s.End("the client did not come back in time")
	})
	return true
}

// attach gives a socket to a client that has come back, or returns why it cannot have one.
func (s *socket) attach(ws *websocket.Conn, nc *wire.Conn, subprotocol, token string) string {
	if s.Subprotocol != subprotocol {
		return "the subprotocol is not the connection's"
	}
	r := s.recovery
	if subtle.ConstantTimeCompare([]byte(r.token), []byte(token)) == 0 {
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
	s.outbox.Resume(s.codec.Connected(&s.Connection, r.token))
	s.ws, s.nc = ws, nc
	s.wake()
	return ""
}

// reconnect answers a reliable client that comes back with the id and the token of its connection. If there is
// nothing to come back to, the handshake succeeds and the socket is closed with 1008: that is how a client learns that
// trying again is of no use.
func (s Server) reconnect(w http.ResponseWriter, r *http.Request, hubName string) {
	var chosen string
	for _, p := range handshake.Offered(r) {
		if protocol.Subprotocols[p].Reliable {
			chosen = p
			break
		}
	}
	ws, nc := s.Upgrade(w, r, chosen)
	if ws == nil {
		return
	}
	query := r.URL.Query()
	id, token := query.Get("awps_connection_id"), query.Get("awps_reconnection_token")
	fault := "there is no such connection"
	if c := s.Service.Hub(hubName).Find(id); c != nil {
		if sock, ok := c.Link.(*socket); ok && sock.recovery != nil {
			if fault = sock.attach(ws, nc, chosen, token); fault == "" {
				s.Service.Log.Debug("client came back", "hub", hubName, "connection", id)
				c.Show("connection", "came back", "")
				go sock.read(ws, nc)
				return
			}
		}
	}
	s.Service.Log.Info("client could not come back", "hub", hubName, "connection", id, "reason", fault)
	go func() {
		defer nc.Untrack()
		handshake.CloseSocket(ws, nc, protocol.ClosePolicyViolation, fault)
	}()
}
