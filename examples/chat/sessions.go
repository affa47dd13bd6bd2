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
	endTimeout      = 30 * time.Second // of an end that no request waits for
)

// sessions are who is logged in. A name belongs to the browser that logged in with it, until it logs out or a day has
// passed. There are no passwords: a real application has its own login here.
type sessions struct {
	service *webpubsub.ServiceClient
	log     *slog.Logger
	retry   time.Duration // until a session that could not be ended is ended again

	mu   sync.Mutex // guards byID and what is in it
	byID map[string]*session
}

type session struct {
	name   string
	closed bool        // nothing connects any more, but what has connected may be there still: the name is not free
	expiry *time.Timer // ends it
}

func newSessions(service *webpubsub.ServiceClient, log *slog.Logger) *sessions {
	return &sessions{service: service, log: log, retry: time.Minute, byID: make(map[string]*session)}
}

// sessionID returns the id of the session that a cookie stands for. Ids are in URLs, and so in logs; the cookie cannot be
// told from one.
func sessionID(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

// of returns the session of a request's cookie; its name is "" if it is not open.
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

// open says whether a session is open and the user's.
func (s *sessions) open(id, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[id]
	return found != nil && !found.closed && found.name == user
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
	s.byID[id] = &session{name: name, expiry: time.AfterFunc(sessionLifetime, func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		if err := s.end(ctx, id); err != nil {
			s.log.Warn("closing the connections of a session that is over", "error", err)
		}
	})}
	return cookie, http.StatusNoContent
}

// end ends a session and its user's connections, if there is one. When the connections cannot be closed the session is
// closed and keeps its name, which somebody chats under still; it is ended again later, or sooner by whoever has its cookie.
func (s *sessions) end(ctx context.Context, id string) error {
	s.mu.Lock()
	found := s.byID[id]
	if found != nil {
		found.closed = true // first, so that nothing connects any more
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

// forget makes a session's name free. The session has no connections: they are closed, or nobody ever had its cookie.
func (s *sessions) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.byID[id]; found != nil {
		found.expiry.Stop()
		delete(s.byID, id)
	}
}

// closeConnections closes what connections a user has.
func (s *sessions) closeConnections(ctx context.Context, name string) error {
	return s.service.CloseUserConnections(ctx, name, &webpubsub.CloseUserConnectionsOptions{Reason: "logged out"})
}
