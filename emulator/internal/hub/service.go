package hub

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Service is one Web PubSub resource: its hubs, and everything that the hubs share.
type Service struct {
	Clock       *Clock
	Life        *Lifetime
	Log         *slog.Logger
	Observer    Observer
	Application Application

	mu   sync.Mutex      // guards hubs
	hubs map[string]*Hub // by lower-case name
}

// NewService returns a service without hubs. The caller sets its Application before the first client connects.
func NewService(log *slog.Logger, clock *Clock, observer Observer) *Service {
	return &Service{Clock: clock, Life: NewLifetime(), Log: log, Observer: observer, hubs: make(map[string]*Hub)}
}

// Hub returns the hub with a name, and creates it if necessary. Names are case-insensitive. A hub that is looked up before
// the first client connects is the same hub that the client connects to.
func (s *Service) Hub(name string) *Hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	h := s.hubs[key]
	if h == nil {
		h = newHub(name, s)
		s.hubs[key] = h
	}
	return h
}

// Hubs returns the hubs that clients or tunnels have connected to, sorted by name. It omits hubs that were only looked up.
func (s *Service) Hubs() []*Hub {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.hubs))
	s.mu.Unlock()
	all = slices.DeleteFunc(all, func(h *Hub) bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		return !h.used
	})
	slices.SortFunc(all, func(a, b *Hub) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ClosingReason is the reason that clients receive when the service closes.
const ClosingReason = "the server is shutting down"

// CloseAll closes the clients of every hub.
func (s *Service) CloseAll() {
	for _, h := range s.Hubs() {
		h.end(&Target{}, ClosingReason)
	}
}
