package webpubsub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/net/http/httpguts"
)

// sharedTransport is the default transport of all clients. It differs from azcore's in three ways:
//   - It keeps more idle connections. With azcore's limit of 10 per host, every burst of sends opens new connections.
//   - Each connection has a write buffer of 64 KiB. Large messages then take half the CPU time that they take with
//     net/http's 4 KiB.
//   - An error of a proxy names the proxy.
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

		OnProxyConnectResponse: checkProxyResponse,
	}
})

// checkProxyResponse returns an error if a proxy does not connect to the service. net/http's own error would be only
// the text of the status, such as "Bad Gateway".
func checkProxyResponse(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err := error(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: fmt.Errorf("the proxy %s responded with %s", proxy.Host, resp.Status)})
	switch {
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusTooManyRequests:
	case resp.StatusCode >= 400 && resp.StatusCode <= 499: // a retry would be in vain
		err = &finalError{err}
	}
	return err
}

// transport returns the client's transport, which is the caller's or the shared one. The transport limits the size of
// response bodies and does not follow redirects. attemptPolicy follows them, with the CheckRedirect of the caller's
// http.Client.
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

// roundTripper sends requests without an http.Client, which would clone the headers of every request in case it is
// redirected.
type roundTripper struct {
	http.RoundTripper
}

func (t roundTripper) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

const (
	// maxErrorBody is the number of bytes read from the body of a response with a status of 300 or above. The rest is
	// ignored.
	maxErrorBody = 64 << 10

	// maxBody is the maximum size of any other response body. For comparison, a page of 200 group members has about 20
	// KiB.
	maxBody = 16 << 20

	// maxDrain is the number of bytes read from a discarded body, so that its connection can be reused.
	maxDrain = 64 << 10
)

var errLargeResponse = errors.New("the response body is larger than 16 MiB")

// boundedTransport limits the size of response bodies, and cleans errors. azcore itself reads whole bodies into memory.
type boundedTransport struct {
	policy.Transporter
}

func (t boundedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.Transporter.Do(req)
	if err != nil {
		if name := invalidHeader(req.Header); name != "" { // a retry would be in vain
			err = &finalError{fmt.Errorf("the header %s has an invalid name or value", name)}
		}
		err = cleaned(err) // azcore logs it
	}
	if resp != nil && resp.Body == nil { // from a transport that is not net/http's
		resp.Body = http.NoBody
	}
	if resp != nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close() // it is the connection: a read may block forever, even if the context ends
		resp.Body = http.NoBody
	}
	if err != nil || resp == nil || resp.Body == http.NoBody {
		return resp, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		resp.Body = &boundedBody{resp.Body, maxErrorBody, io.EOF}
	} else {
		resp.Body = &boundedBody{resp.Body, maxBody, &finalError{errLargeResponse}}
	}
	return resp, nil
}

// invalidHeader returns the name of a header that net/http rejects, or "". A token of a TokenCredential, a context from
// policy.WithHTTPHeader or a policy of the caller can add such a header.
func invalidHeader(header http.Header) string {
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			return strconv.Quote(name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return name
			}
		}
	}
	return ""
}

// boundedBody returns the first bytes of a body, then the error end.
type boundedBody struct {
	io.ReadCloser
	left int
	end  error // io.EOF: ignore the rest
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 && b.end == io.EOF { //nolint:errorlint // end is io.EOF itself
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)]) // one more byte, to detect a larger body
	if n <= b.left {
		b.left -= n
		return n, err
	}
	n, b.left = b.left, 0
	return n, b.end
}

// drain reads up to maxDrain bytes of the rest of a response body, and closes it.
func drain(resp *http.Response) {
	if resp.Body != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		resp.Body.Close()
	}
}
