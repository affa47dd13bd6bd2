package handshake

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Host returns the host that a client connects to, without a port and in lower case: events name it as their origin.
func Host(r *http.Request) string { return WithoutPort(r.Host) }

// WithoutPort returns a host without its port, as URLs spell it and in lower case.
func WithoutPort(host string) string {
	u := url.URL{Host: host}
	name := strings.ToLower(u.Hostname())
	if strings.Contains(name, ":") { // an IPv6 address
		return "[" + name + "]"
	}
	return name
}

// RefusedByApplication answers a handshake that the application has refused, in its words: the status and, of a 4xx, the
// content type and the body. Any other error of the connect event is returned as a 500, which does not say what went wrong:
// the log does.
func (h *Handshaker) RefusedByApplication(w http.ResponseWriter, hubName string, err error) *wire.Error {
	rejected, ok := errors.AsType[*hub.Rejection](err)
	if !ok {
		return &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: "the connect event failed"}
	}
	if o := h.Service.Observer; o.Watched() {
		o.Traffic(hub.TrafficEvent{Kind: "connection", Hub: hubName, Status: rejected.Status, Text: "refused by the application"})
	}
	w.Header()["Content-Type"] = nil // not one that net/http makes up
	if rejected.ContentType != "" {
		w.Header().Set("Content-Type", rejected.ContentType)
	}
	w.WriteHeader(rejected.Status)
	_, _ = w.Write(rejected.Body)
	return nil
}
