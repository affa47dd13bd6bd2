package webpubsub

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// sharedTransport is what all clients send through that were given no transport. It is azcore's, but for the number of
// idle connections that it keeps: azcore's 10 for each host make every burst of sends connect anew.
var sharedTransport = sync.OnceValue(func() *http.Transport {
	const idle = 1024
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConns:          idle,
		MaxIdleConnsPerHost:   idle,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression:    true, // answers are empty or a few hundred bytes
	}
})

// transport returns what the client sends through: the caller's transport or the shared one. Redirects are followed as the
// client's own requests are made, unless the caller's http.Client has rules of its own for them.
func (c *ServiceClient) transport(given policy.Transporter) policy.Transporter {
	if given == nil {
		return &http.Client{Transport: sharedTransport(), CheckRedirect: c.checkRedirect}
	}
	if client, ok := given.(*http.Client); ok && client != nil && client.CheckRedirect == nil {
		withRedirects := *client
		withRedirects.CheckRedirect = c.checkRedirect
		return &withRedirects
	}
	return given
}

// checkRedirect follows a redirect within the service, signed for where it leads, and no other: credentials go to no
// other host, nor from https to http, and no send becomes a GET.
func (c *ServiceClient) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if first := via[0]; origin(req.URL) != origin(first.URL) || req.Method != first.Method {
		return http.ErrUseLastResponse
	}
	if c.key == nil {
		return nil
	}
	key, err := c.key.value(req.Context())
	if err != nil {
		return err
	}
	return c.authorize(req, key)
}

func origin(u *url.URL) string {
	return baseURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
}
