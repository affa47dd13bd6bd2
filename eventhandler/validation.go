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

// serveValidation answers the question of a service whether it may send events here. CloudEvents calls it abuse
// protection: nobody can turn a service against a web server that has not agreed to it.
func (h *Handler) serveValidation(w http.ResponseWriter, r *http.Request) error {
	value, err := listHeader(r.Header, headerRequestOrigin)
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
	allowed := h.allowedOrigins(value)
	if len(allowed) == 0 {
		return refuse(http.StatusForbidden, "the origin may not send events here")
	}
	for _, origin := range allowed { // the service compares each line whole: it does not read a list
		w.Header().Add(headerAllowedOrigin, origin)
	}
	return nil
}

// allowedOrigins returns those of a list of origins that may send events.
func (h *Handler) allowedOrigins(list string) []string {
	var allowed []string
	for origin := range strings.SplitSeq(list, ",") {
		if origin = strings.TrimSpace(origin); h.originAllowed(origin) {
			allowed = append(allowed, origin)
		}
	}
	return allowed
}

// originAllowed reports whether a host, maybe with a port, matches one of Options.AllowedOrigins.
func (h *Handler) originAllowed(origin string) bool {
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

// matchWildcard reports whether the whole text matches the pattern, in which * stands for any run of characters. It
// matches each part between two stars at the first place, which is always a right one, so that no pattern takes long.
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
