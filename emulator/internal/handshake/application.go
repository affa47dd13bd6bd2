package handshake

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Host returns the host that a client connects to, without its port and in lower case. Events carry the host as their origin.
func Host(r *http.Request) string { return WithoutPort(r.Host) }

// WithoutPort returns a host without its port, in lower case. An IPv6 address is in brackets, as in URLs.
func WithoutPort(host string) string {
	u := url.URL{Host: host}
	name := strings.ToLower(u.Hostname())
	if strings.Contains(name, ":") { // an IPv6 address
		return "[" + name + "]"
	}
	return name
}

// RefusedByApplication handles the error of a handshake's connect event. It writes a [hub.Rejection] to the client and
// returns nil. For any other error it returns a 500 without the cause, which only the log has.
func (h *Handshaker) RefusedByApplication(w http.ResponseWriter, hubName string, err error) *wire.Error {
	rejected, ok := errors.AsType[*hub.Rejection](err)
	if !ok {
		return &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: "the connect event failed"}
	}
	if o := h.Service.Observer; o.Watched() {
		o.Traffic(hub.TrafficEvent{Kind: "connection", Hub: hubName, Status: rejected.Status, Text: "rejected by the application"})
	}
	w.Header()["Content-Type"] = nil // keeps net/http from adding one
	if rejected.ContentType != "" {
		w.Header().Set("Content-Type", rejected.ContentType)
	}
	w.WriteHeader(rejected.Status)
	_, _ = w.Write(rejected.Body)
	return nil
}
