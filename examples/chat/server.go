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

// newServer returns the handler of the application: the page, login and negotiate for the page, and /eventhandler/ for
// the service's events.
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
	mux.Handle("/eventhandler", events) // without this pattern, net/http would redirect this path
	mux.Handle("/eventhandler/", events)
	mux.Handle("/api/", http.NewCrossOriginProtection().Handler(api)) // pages of other sites may not log in or negotiate
	mux.Handle("/", secure(http.FileServerFS(page)))
	return mux
}

// secure restricts the page to its own files, and to connections to WebSockets and to this server.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// login reads {"name"} and sets a cookie. A browser has one session: login ends the session that it had before.
func (s *sessions) login(w http.ResponseWriter, r *http.Request) {
	var body struct{ Name string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&body); err != nil {
		http.Error(w, "the body must be JSON with a name", http.StatusBadRequest)
		return
	}
	if !isName(body.Name) {
		http.Error(w, "A name has 1 to 24 letters, digits, - and _.", http.StatusBadRequest)
		return
	}
	old, _ := s.of(r)
	cookie, status := s.add(body.Name, old)
	if status == http.StatusServiceUnavailable && s.makeRoom(r.Context()) {
		cookie, status = s.add(body.Name, old)
	}
	switch status {
	case http.StatusConflict:
		http.Error(w, body.Name+" is taken.", status)
		return
	case http.StatusServiceUnavailable:
		http.Error(w, "The chat is full.", status)
		return
	}
	// The name may still have connections of a session from before this process started.
	if err := errors.Join(s.end(r.Context(), old), s.closeConnections(r.Context(), body.Name)); err != nil {
		s.forget(sessionID(cookie))
		http.Error(w, "The chat is unavailable right now.", http.StatusBadGateway)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", MaxAge: int(sessionLifetime.Seconds()),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(status)
}

// logout ends the session and closes the user's connections, so that the name is free again. If that fails, the cookie
// stays, so that the user can retry.
func (s *sessions) logout(w http.ResponseWriter, r *http.Request) {
	id, _ := s.of(r)
	if err := s.end(r.Context(), id); err != nil {
		http.Error(w, "The chat is unavailable right now.", http.StatusBadGateway)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1})
	w.WriteHeader(http.StatusNoContent)
}

// negotiate responds with {"name","url"}: the user's name, and the WebSocket URL. The token in the URL only names the
// user. OnConnect decides whether the session is still open and what the user may do.
func (s *sessions) negotiate(w http.ResponseWriter, r *http.Request) {
	id, name := s.of(r)
	if name == "" {
		http.Error(w, "Log in first.", http.StatusUnauthorized)
		return
	}
	access, err := s.service.GetClientAccessToken(r.Context(), &webpubsub.ClientAccessTokenOptions{
		UserID: name, ExpiresIn: 5 * time.Minute, // needed only to connect
	})
	if err != nil {
		http.Error(w, "The chat is unavailable right now.", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": name, "url": access.URL + "&session=" + id})
}
