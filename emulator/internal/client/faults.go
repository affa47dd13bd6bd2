package client

import (
	"crypto/rand"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// Silence stops all traffic in both directions, and keeps the network connection open. It returns false if there is none.
func (s *socket) Silence() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws == nil {
		return false
	}
	s.nc.Silence()
	return true
}

// CloseWith closes the connection with a close code. A reliable client may then reconnect, except after 1000 and 1008.
// CloseWith returns false if there is no network connection.
func (s *socket) CloseWith(code int, reason string) bool {
	s.mu.Lock()
	ws, nc := s.ws, s.nc
	mayReconnect := s.recovery != nil && code != int(websocket.StatusNormalClosure) && code != protocol.ClosePolicyViolation
	s.mu.Unlock()
	switch {
	case ws == nil:
		return false
	case mayReconnect:
		s.Hub.Service.Life.Go(func() { handshake.CloseSocket(ws, nc, code, reason) }) // the reader then detaches the socket
	default:
		s.closeWithError(code, reason)
	}
	return true
}

// RenewToken sends a reliable client a new reconnection token. It returns false if the client is not reliable or not
// connected.
func (s *socket) RenewToken() bool {
	if s.recovery == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws == nil || s.outbox.Closing() {
		return false
	}
	s.recovery.tokens = append(s.recovery.tokens, rand.Text())
	s.enqueueLocked(s.codec.Connected(&s.Connection, s.recovery.newest()))
	return true
}
