package main

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/awps-go/webpubsub"
)

//go:embed web
var web embed.FS

// newServer returns the handler of the whole application: the page, login and negotiate for the page, and events for
// the service, at /eventhandler/.
func newServer(s *sessions, events http.Handler) http.Handler {
	page, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is embedded
	}
	api := http.NewServeMux()
	api.HandleFunc("POST /api/login", s.login)
	api.HandleFunc("POST /api/logout", s.logout)
	api.HandleFunc("POST /api/negotiate", s.negotiate)

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

// login takes {"name"} and sets a cookie. A browser is logged in once: it is logged out under the name that it had.
func (s *sessions) login(w http.ResponseWriter, r *http.Request) {
	var body struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&body); err != nil {
		http.Error(w, "the body is not JSON with a name", http.StatusBadRequest)
		return
	}
	if !isName(body.Name) {
		http.Error(w, "A name is up to 24 letters, digits, - and _.", http.StatusBadRequest)
		return
	}
	old, _ := s.of(r)
	cookie, status := s.add(body.Name, old)
	switch status {
	case http.StatusConflict:
		http.Error(w, body.Name+" is taken.", status)
		return
	case http.StatusServiceUnavailable:
		http.Error(w, "The chat is full.", status)
		return
	}
	// The name may still have connections: of a session that an earlier run of this process knew.
	if err := errors.Join(s.end(r.Context(), old), s.closeConnections(r.Context(), body.Name)); err != nil {
		s.forget(sessionID(cookie))
		http.Error(w, "The chat is not there right now.", http.StatusBadGateway)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", MaxAge: int(sessionLifetime.Seconds()),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(status)
}

// logout ends the session and the user's connections, so that the name is free again. If that fails the cookie stays, for
// another try.
func (s *sessions) logout(w http.ResponseWriter, r *http.Request) {
	id, _ := s.of(r)
	if err := s.end(r.Context(), id); err != nil {
		http.Error(w, "The chat is not there right now.", http.StatusBadGateway)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1})
	w.WriteHeader(http.StatusNoContent)
}

// negotiate answers with {"name","url"}: who is logged in, and the WebSocket URL for them. The token in it says who
// they are and nothing more; the connect event decides what they may do, and whether the session is open still.
func (s *sessions) negotiate(w http.ResponseWriter, r *http.Request) {
	id, name := s.of(r)
	if name == "" {
		http.Error(w, "Log in first.", http.StatusUnauthorized)
		return
	}
	access, err := s.service.GetClientAccessToken(r.Context(), &webpubsub.ClientAccessTokenOptions{
		UserID: name, ExpiresIn: 5 * time.Minute, // only until it has connected
	})
	if err != nil {
		http.Error(w, "The chat is not there right now.", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": name, "url": access.URL + "&session=" + id})
}
