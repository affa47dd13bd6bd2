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
	makeRoomTries   = 10
	endTimeout      = 30 * time.Second // for ending a session outside of a request
)

// sessions holds the sessions of logged-in users. A name belongs to the browser that logged in with it, until it logs
// out or a day has passed. There are no passwords: a real application has its own login here.
type sessions struct {
	service *webpubsub.ServiceClient
	log     *slog.Logger
	retry   time.Duration // delay before another attempt to end a session

	mu   sync.Mutex // guards byID and the sessions in it
	byID map[string]*session
}

type session struct {
	name   string
	closed bool        // accepts no new connections, but old ones may still exist, so the name is not free
	expiry *time.Timer // ends the session
}

func newSessions(service *webpubsub.ServiceClient, log *slog.Logger) *sessions {
	return &sessions{service: service, log: log, retry: time.Minute, byID: make(map[string]*session)}
}

// sessionID returns the id of the session that belongs to a cookie. Ids appear in URLs and so in logs; the cookie
// cannot be derived from an id.
func sessionID(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

// of returns the session of a request. The name is "" if the session is not open.
func (s *sessions) of(r *http.Request) (id, name string) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return "", ""
	}
	id = sessionID(cookie.Value)
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.byID[id]; found != nil && !found.closed {
		name = found.name
	}
	return id, name
}

// open reports whether a session is open and belongs to the user.
func (s *sessions) open(id, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[id]
	return found != nil && !found.closed && found.name == user
}

// add opens a session for a name that is free or belongs to the session old. It returns the session's cookie.
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
	s.byID[id] = &session{name: name, expiry: time.AfterFunc(sessionLifetime, func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		if err := s.end(ctx, id); err != nil {
			s.log.Warn("cannot close the connections of an expired session", "error", err)
		}
	})}
	return cookie, http.StatusNoContent
}

// makeRoom ends a session whose user has no connection, so that strangers who log in many times do not keep others out.
// It tries a few sessions, chosen at random, and reports whether it has ended one.
func (s *sessions) makeRoom(ctx context.Context) bool {
	candidates := map[string]string{} // id -> name
	s.mu.Lock()
	for id, found := range s.byID { // in random order
		if candidates[id] = found.name; len(candidates) == makeRoomTries {
			break
		}
	}
	s.mu.Unlock()
	for id, name := range candidates {
		if connected, err := s.service.UserExists(ctx, name, nil); err == nil && !connected {
			return s.end(ctx, id) == nil
		}
	}
	return false
}

// end ends a session, if it exists, and closes its user's connections. If the connections cannot be closed, the session
// keeps its name, because somebody may still be connected under it. It accepts no new connections, and end is retried
// after s.retry.
func (s *sessions) end(ctx context.Context, id string) error {
	s.mu.Lock()
	found := s.byID[id]
	if found != nil {
		found.closed = true // first, so that nothing connects from now on
	}
	s.mu.Unlock()
	if found == nil {
		return nil
	}
	if err := s.closeConnections(ctx, found.name); err != nil {
		found.expiry.Reset(s.retry)
		return err
	}
	s.forget(id)
	return nil
}

// forget removes a session and frees its name. The session must have no connections.
func (s *sessions) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.byID[id]; found != nil {
		found.expiry.Stop()
		delete(s.byID, id)
	}
}

// closeConnections closes all connections of a user.
func (s *sessions) closeConnections(ctx context.Context, name string) error {
	return s.service.CloseUserConnections(ctx, name, &webpubsub.CloseUserConnectionsOptions{Reason: "logged out"})
}
