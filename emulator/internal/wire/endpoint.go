package wire

import "net"

// Endpoint is the address of the server.
type Endpoint struct {
	Scheme string // http or https
	Host   string // with the port
}

// NewEndpoint returns the address for clients on this machine to reach a listener.
func NewEndpoint(scheme string, addr net.Addr) Endpoint {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return Endpoint{scheme, net.JoinHostPort(host, port)}
}

// String returns the URL, without a trailing slash.
func (e Endpoint) String() string { return e.Scheme + "://" + e.Host }

// The paths for clients of each kind to connect to a hub. The name of the hub follows.
const (
	ClientPath = "/client/hubs/"
	MQTTPath   = "/clients/mqtt/hubs/"
)
