package wire

import "net"

// Endpoint is the address of the server.
type Endpoint struct {
	Scheme string // http or https
	Host   string // with the port
}

// NewEndpoint is the address under which a client on this machine reaches a listener.
func NewEndpoint(scheme string, addr net.Addr) Endpoint {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return Endpoint{scheme, net.JoinHostPort(host, port)}
}

// String returns the URL, without a slash at its end.
func (e Endpoint) String() string { return e.Scheme + "://" + e.Host }

// The paths under which clients of each kind connect to a hub, whose name follows.
const (
	ClientPath = "/client/hubs/"
	MQTTPath   = "/clients/mqtt/hubs/"
)
