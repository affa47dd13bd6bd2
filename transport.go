package webpubsub

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// sharedTransport is the transport of all clients that were given none. It differs from azcore's in two ways. It keeps
// more idle connections, because with azcore's 10 per host every burst of sends connects anew. Each connection has a write
// buffer of 64 KiB, with which large messages take half the CPU that they take with net/http's 4 KiB.
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
		DisableCompression:    true, // responses are empty or a few hundred bytes
	}
})

// transport returns the client's transport: the caller's or the shared one. It does not follow redirects: attemptPolicy
// does, by the rules of the caller's http.Client if it has any. It bounds the bodies of responses.
func (c *ServiceClient) transport(given policy.Transporter) policy.Transporter {
	c.checkRedirect = limitRedirects
	if isNil(given) {
		return boundedTransport{roundTripper{sharedTransport()}}
	}
	if client, ok := given.(*http.Client); ok {
		if client.CheckRedirect != nil {
			c.checkRedirect = client.CheckRedirect
		}
		withoutRedirects := *client
		withoutRedirects.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return boundedTransport{&withoutRedirects}
	}
	return boundedTransport{given}
}

// roundTripper sends without an http.Client, which clones the headers of every request in case it is redirected.
type roundTripper struct {
	http.RoundTripper
}

func (t roundTripper) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

const (
	// maxErrorBody is how much is read of the body of a response with a status of 300 and above. The rest is ignored.
	maxErrorBody = 64 << 10

	// maxBody is how large the body of any other response may be. A page of a list has 200 members, some 20 KiB.
	maxBody = 16 << 20

	// maxDrain is how much is read of a body that nobody needs, so that its connection can be used again.
	maxDrain = 64 << 10
)

var errLargeResponse = errors.New("the response's body is larger than 16 MiB")

// boundedTransport bounds the bodies of responses, below azcore, which reads them whole.
type boundedTransport struct {
	policy.Transporter
}

func (t boundedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.Transporter.Do(req)
	if err != nil || resp == nil || resp.Body == nil || resp.Body == http.NoBody {
		return resp, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		resp.Body = &boundedBody{resp.Body, maxErrorBody, io.EOF}
	} else {
		resp.Body = &boundedBody{resp.Body, maxBody, &finalError{errLargeResponse}}
	}
	return resp, nil
}

// boundedBody is the beginning of a body, then an error.
type boundedBody struct {
	io.ReadCloser
	left int
	end  error // io.EOF if the rest is ignored
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 && b.end == io.EOF { //nolint:errorlint // it is set to io.EOF itself
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)]) // one more byte shows that there is a rest
	if n <= b.left {
		b.left -= n
		return n, err
	}
	n, b.left = b.left, 0
	return n, b.end
}

// drain reads what is left of a response's body, up to a bound, and closes it.
func drain(resp *http.Response) {
	if resp.Body != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		resp.Body.Close()
	}
}
