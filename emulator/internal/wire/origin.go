package wire

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file decides which web pages the server serves: those of this machine may call it (see AllowOrigin) and
// connect to it; those from elsewhere may do neither. The live view is for its own page only.

// AllowOrigin lets web pages of this machine read the answer to a request. It reports whether it has answered the request,
// which only asked for that.
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

// LoopbackOrigin reports whether a web page comes from this machine.
func LoopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return loopbackHost(u.Hostname()) || strings.HasSuffix(strings.ToLower(u.Hostname()), ".localhost") // so browsers have it
}

// loopbackHost reports whether a host is this machine, whoever asks.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// OwnOrigin reports whether a web page comes from the address that it asks for something.
func (e Endpoint) OwnOrigin(r *http.Request, origin string) bool {
	return OwnHost(r) && strings.EqualFold(origin, e.Scheme+"://"+r.Host)
}

// OwnHost reports whether a request names this machine, or the address it came in at, as the host that it is for. A
// foreign web page that has made its own name resolve to this machine (DNS rebinding) names itself.
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
