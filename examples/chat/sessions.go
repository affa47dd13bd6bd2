package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub"
)

const (
	cookieName      = "chat_session"
	sessionLifetime = 24 * time.Hour
	maxSessions     = 10_000
)

// sessions are who is logged in. A name belongs to the browser that logged in with it, until it logs out or a day has
// passed. There are no passwords: a real application has its own login here.
type sessions struct {
	service *webpubsub.ServiceClient
	log     *slog.Logger

	mu   sync.Mutex // guards byID
	byID map[string]session
}

type session struct {
	name   string
	expiry *time.Timer
}

func newSessions(service *webpubsub.ServiceClient, log *slog.Logger) *sessions {
	return &sessions{service: service, log: log, byID: make(map[string]session)}
}

// sessionID returns the id of the session that a cookie stands for. Ids are in URLs, and so in logs; the cookie cannot be
// told from one.
func sessionID(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

// of returns the session of a request's cookie; its name is "" if there is none.
func (s *sessions) of(r *http.Request) (id, name string) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", ""
	}
	id = sessionID(cookie.Value)
	s.mu.Lock()
	defer s.mu.Unlock()
	return id, s.byID[id].name
}

// open says whether a session is open and the user's.
func (s *sessions) open(id, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.byID[id]
	return ok && found.name == user
}

// add opens a session for a name that nobody has, or that only the session old has. It returns the session's cookie.
func (s *sessions) add(name, old string) (cookie string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.byID {
		if id != old && strings.EqualFold(other.name, name) {
			return "", http.StatusConflict
		}
	}
	if len(s.byID) >= maxSessions {
		return "", http.StatusServiceUnavailable
	}
	cookie = rand.Text()
	id := sessionID(cookie)
	s.byID[id] = session{name, time.AfterFunc(sessionLifetime, func() {
		if err := s.end(context.Background(), id); err != nil {
			s.log.Warn("closing the connections of a session that has expired", "error", err)
		}
	})}
	return cookie, http.StatusNoContent
}

// end ends a session and its user's connections, if there is one.
func (s *sessions) end(ctx context.Context, id string) error {
	s.mu.Lock()
	found, ok := s.byID[id]
	delete(s.byID, id) // first, so that nothing connects any more
	s.mu.Unlock()
	if !ok {
		return nil
	}
	found.expiry.Stop()
	return s.closeConnections(ctx, found.name)
}

// closeConnections closes what connections a user has.
func (s *sessions) closeConnections(ctx context.Context, name string) error {
	return s.service.CloseUserConnections(ctx, name, &webpubsub.CloseUserConnectionsOptions{Reason: "logged out"})
}
