package main

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub"
)

//go:embed web
var web embed.FS

const (
	cookieName      = "chat_session"
	sessionLifetime = 24 * time.Hour
	maxSessions     = 10_000
)

// newServer returns the handler of the whole application: the page, login and negotiate for the page, and events for
// the service, at /eventhandler/.
func newServer(service *webpubsub.ServiceClient, events http.Handler) http.Handler {
	page, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is embedded
	}
	s := &sessions{byID: make(map[string]session)}
	api := http.NewServeMux()
	api.HandleFunc("POST /api/login", s.login)
	api.HandleFunc("POST /api/logout", func(w http.ResponseWriter, r *http.Request) { s.logout(w, r, service) })
	api.HandleFunc("POST /api/negotiate", func(w http.ResponseWriter, r *http.Request) { s.negotiate(w, r, service) })

	mux := http.NewServeMux()
	mux.Handle("/eventhandler/", events)
	mux.Handle("/api/", http.NewCrossOriginProtection().Handler(api)) // no other site's page may log in or negotiate
	mux.Handle("/", secure(http.FileServerFS(page)))
	return mux
}

// secure lets the page load nothing but its own files, and connect nowhere but to WebSockets and here.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// sessions are who is logged in. A name belongs to the browser that logged in with it, until it logs out or a day has
// passed. There are no passwords: a real application has its own login here.
type sessions struct {
	mu   sync.Mutex // guards byID
	byID map[string]session
}

type session struct {
	name    string
	expires time.Time
}

// login takes {"name"} and sets a cookie.
func (s *sessions) login(w http.ResponseWriter, r *http.Request) {
	var body struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&body); err != nil {
		http.Error(w, "the body is not JSON with a name", http.StatusBadRequest)
		return
	}
	if !validName.MatchString(body.Name) {
		http.Error(w, "A name is up to 24 letters, digits, - and _.", http.StatusBadRequest)
		return
	}
	id, status := s.add(body.Name)
	switch status {
	case http.StatusConflict:
		http.Error(w, body.Name+" is taken.", status)
	case http.StatusServiceUnavailable:
		http.Error(w, "The chat is full.", status)
	default:
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", MaxAge: int(sessionLifetime.Seconds()),
			HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
		w.WriteHeader(status)
	}
}

// add opens a session for a name that nobody has.
func (s *sessions) add(name string) (id string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, other := range s.byID {
		if now.After(other.expires) {
			delete(s.byID, id)
		} else if strings.EqualFold(other.name, name) {
			return "", http.StatusConflict
		}
	}
	if len(s.byID) >= maxSessions {
		return "", http.StatusServiceUnavailable
	}
	id = rand.Text()
	s.byID[id] = session{name, now.Add(sessionLifetime)}
	return id, http.StatusNoContent
}

// logout ends the session and the user's connections, so that the name is free again.
func (s *sessions) logout(w http.ResponseWriter, r *http.Request, service *webpubsub.ServiceClient) {
	if name := s.user(r); name != "" {
		err := service.CloseUserConnections(r.Context(), name, &webpubsub.CloseUserConnectionsOptions{Reason: "logged out"})
		if err != nil {
			http.Error(w, "The chat is not there right now.", http.StatusBadGateway)
			return
		}
	}
	if cookie, err := r.Cookie(cookieName); err == nil { // last, so that nobody else has the name while it has connections
		s.mu.Lock()
		delete(s.byID, cookie.Value)
		s.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1})
	w.WriteHeader(http.StatusNoContent)
}

// user returns who sends a request, or "".
func (s *sessions) user(r *http.Request) string {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[cookie.Value]
	if time.Now().After(found.expires) {
		return ""
	}
	return found.name
}

// negotiate answers with {"name","url"}: who is logged in, and the WebSocket URL for them. The token in it says who
// they are and nothing more; the connect event decides what they may do.
func (s *sessions) negotiate(w http.ResponseWriter, r *http.Request, service *webpubsub.ServiceClient) {
	name := s.user(r)
	if name == "" {
		http.Error(w, "Log in first.", http.StatusUnauthorized)
		return
	}
	access, err := service.GetClientAccessToken(r.Context(), &webpubsub.ClientAccessTokenOptions{
		UserID: name, ExpiresIn: 5 * time.Minute, // only until it has connected
	})
	if err != nil {
		http.Error(w, "The chat is not there right now.", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": name, "url": access.URL})
}
