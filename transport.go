package webpubsub

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// sharedTransport is what all clients send through that were given no transport. It is azcore's but for two things: it keeps
// more idle connections, as azcore's 10 for each host make every burst of sends connect anew; and each of them has a buffer
// of 64 KiB, with which large messages take half the CPU that they take with net/http's 4 KiB.
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
		WriteBufferSize:       64 << 10,
		DisableCompression:    true, // answers are empty or a few hundred bytes
	}
})

// transport returns what the client sends through: the caller's transport or the shared one. Neither follows redirects:
// tryPolicy does, by the rules of the caller's http.Client if it has any.
func (c *ServiceClient) transport(given policy.Transporter) policy.Transporter {
	c.checkRedirect = func(_ *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		return nil
	}
	if isNil(given) {
		return roundTripper{sharedTransport()}
	}
	if client, ok := given.(*http.Client); ok {
		if client.CheckRedirect != nil {
			c.checkRedirect = client.CheckRedirect
		}
		withoutRedirects := *client
		withoutRedirects.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return &withoutRedirects
	}
	return given
}

// roundTripper sends without an http.Client, which copies the headers of every request, as they might be redirected.
type roundTripper struct {
	http.RoundTripper
}

func (t roundTripper) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

const maxRedirects = 10

// redirect returns where an answer sends the request instead, or nil. That is within the service, where it is signed anew,
// and nowhere else: credentials go to no other host, nor from https to http, and no send becomes a GET.
func redirect(req *http.Request, resp *http.Response) *url.URL {
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			return nil
		}
	default:
		return nil
	}
	location := resp.Header.Get("Location")
	to, err := req.URL.Parse(location)
	if location == "" || err != nil || origin(to) != origin(req.URL) {
		return nil
	}
	return to
}

func origin(u *url.URL) string {
	return baseURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
}
