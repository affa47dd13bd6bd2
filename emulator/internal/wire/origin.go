package wire

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file decides which web pages may use the server. Pages from this machine may call the REST API (see AllowOrigin) and
// connect as clients; other pages may do neither. Only its own page may use the live view.

// AllowOrigin sets the CORS headers that let web pages from this machine read the response to a request. If the request is a
// CORS preflight, AllowOrigin responds to it and returns true.
func AllowOrigin(w http.ResponseWriter, r *http.Request) (answered bool) {
	origin := r.Header.Get("Origin")
	if !LoopbackOrigin(origin) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "*, x-ms-error-code, api-supported-versions, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
	h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// LoopbackOrigin reports whether an Origin header names a web page from this machine.
func LoopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return loopbackHost(u.Hostname()) || strings.HasSuffix(strings.ToLower(u.Hostname()), ".localhost") // like browsers
}

// loopbackHost reports whether a host is localhost or a loopback address.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// OwnOrigin reports whether an Origin header names the server itself, at the address that the request is for.
func (e Endpoint) OwnOrigin(r *http.Request, origin string) bool {
	return OwnHost(r) && strings.EqualFold(origin, e.Scheme+"://"+r.Host)
}

// OwnHost reports whether a request's Host is localhost, a loopback address, or the local address of its connection. This
// blocks DNS rebinding: a foreign page whose name resolves to this machine sends its own name as the Host.
func OwnHost(r *http.Request) bool {
	u, err := url.Parse("//" + r.Host)
	if err != nil || u.User != nil {
		return false
	}
	if loopbackHost(u.Hostname()) {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return err == nil && ok && ip.Unmap() == local.AddrPort().Addr().Unmap()
}
