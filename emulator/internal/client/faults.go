package client

import (
	"crypto/rand"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// Silence lets nothing more pass, in either direction.
func (s *socket) Silence() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws == nil {
		return false
	}
	s.nc.Silence()
	return true
}

// CloseWith closes the connection with a code. A reliable client may come back then, but after 1000 and 1008.
func (s *socket) CloseWith(code int, reason string) bool {
	s.mu.Lock()
	ws, nc := s.ws, s.nc
	comesBack := s.recovery != nil && code != int(websocket.StatusNormalClosure) && code != protocol.ClosePolicyViolation
	s.mu.Unlock()
	switch {
	case ws == nil:
		return false
	case comesBack:
		s.Hub.Service.Life.Go(func() { handshake.CloseSocket(ws, nc, code, reason) }) // the reader notices
	default:
		s.fail(code, reason)
	}
	return true
}

// RenewToken gives a reliable client a new reconnection token.
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
	s.put(s.codec.Connected(&s.Connection, s.recovery.newest()))
	return true
}
