package eventhandler

import (
	"net"
	"net/http"
	"strings"
)

const (
	headerRequestOrigin = "WebHook-Request-Origin"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
)

// serveValidation answers the question of a service whether it may send events here: CloudEvents' abuse protection, so
// that nobody can turn a service against a web server that has not agreed to it.
func (h *Handler) serveValidation(w http.ResponseWriter, r *http.Request) error {
	value, err := oneHeader(r.Header, headerRequestOrigin, maxHeaderBytes)
	if err != nil {
		return err
	}
	if value == "" {
		return refuse(http.StatusBadRequest, "the header %s is missing", headerRequestOrigin)
	}
	if len(h.origins) == 0 {
		w.Header().Set(headerAllowedOrigin, "*")
		return nil
	}
	var allowed []string
	for origin := range strings.SplitSeq(value, ",") {
		if origin = strings.TrimSpace(origin); h.originAllowed(origin) {
			allowed = append(allowed, origin)
		}
	}
	if len(allowed) == 0 {
		return refuse(http.StatusForbidden, "the origin may not send events here")
	}
	w.Header().Set(headerAllowedOrigin, strings.Join(allowed, ", "))
	return nil
}

// originAllowed says whether a host, maybe with a port, may send events.
func (h *Handler) originAllowed(origin string) bool {
	if len(h.origins) == 0 {
		return true
	}
	if origin == "" {
		return false
	}
	origin = strings.ToLower(origin)
	host, _, err := net.SplitHostPort(origin)
	for _, pattern := range h.origins {
		if matchWildcard(pattern, origin) || err == nil && matchWildcard(pattern, host) {
			return true
		}
	}
	return false
}

// matchWildcard says whether text matches the pattern, in which * stands for any run of characters. It takes the first
// place for each part between two stars, which is always a right one, so that no pattern takes long.
func matchWildcard(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	text, found := strings.CutPrefix(text, first)
	if !found {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}
