package emulator

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file says which web pages the server serves: those of this machine may call it (see serveHTTP) and
// connect to it; those from elsewhere may do neither. The live view is for its own page only.

// loopbackOrigin reports whether a web page comes from this machine.
func loopbackOrigin(origin string) bool {
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

// ownOrigin reports whether a web page comes from the address that it asks for something.
func (s *Server) ownOrigin(r *http.Request, origin string) bool {
	return ownHost(r) && strings.EqualFold(origin, s.scheme+"://"+r.Host)
}

// ownHost reports whether a request names this machine, or the address it came in at, as the host that it is for. A
// foreign web page that has made its own name resolve to this machine (DNS rebinding) names itself.
func ownHost(r *http.Request) bool {
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
