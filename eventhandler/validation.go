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

// serveValidation responds to the service's request for permission to send events here. CloudEvents calls it abuse
// protection: the service cannot be used to flood a web server that has not agreed.
func (h *Handler) serveValidation(w http.ResponseWriter, r *http.Request) error {
	value, err := listHeader(r.Header, headerRequestOrigin)
	if err != nil {
		return err
	}
	if value == "" {
		return requestErrorf(http.StatusBadRequest, "the header %s is missing", headerRequestOrigin)
	}
	if len(h.origins) == 0 {
		w.Header().Set(headerAllowedOrigin, "*")
		return nil
	}
	allowed := h.allowedOrigins(value)
	if len(allowed) == 0 {
		return requestErrorf(http.StatusForbidden, "events from this origin are not allowed")
	}
	for _, origin := range allowed { // one line each: the service does not parse a list
		w.Header().Add(headerAllowedOrigin, origin)
	}
	return nil
}

// allowedOrigins splits a comma-separated list and returns the origins that are allowed.
func (h *Handler) allowedOrigins(list string) []string {
	var allowed []string
	for origin := range strings.SplitSeq(list, ",") {
		if origin = strings.TrimSpace(origin); h.originAllowed(origin) {
			allowed = append(allowed, origin)
		}
	}
	return allowed
}

// originAllowed reports whether a host, with or without a port, matches one of Options.AllowedOrigins.
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

// matchWildcard reports whether the whole text matches the pattern, in which * matches any run of characters. It
// matches each part between two asterisks at the first possible place, which is never wrong, so no pattern is slow.
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
