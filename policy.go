package webpubsub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// callKey is the context key of a call's *request.
type callKey struct{}

// attemptPolicy runs once per attempt, after azcore's retry policy. All our per-attempt work is in this one policy
// because azcore copies the request for each policy.
type attemptPolicy struct {
	client *ServiceClient
}

// Do sends one attempt and follows its redirects.
//
// We follow redirects here, rather than in net/http, for four reasons:
//   - Each request is signed for its URL, so a redirected request needs a new token.
//   - Redirects must stay within the service, and our rules for that are stricter than "the same host".
//   - A POST that is redirected with 301, 302 or 303 must fail. net/http would send a GET and report success.
//   - An http.Client clones the headers of each request in case it is redirected. The service hardly ever redirects, so
//     every send would pay for nothing.
func (p attemptPolicy) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	// Add the api-version only now: azcore's retry policy parses and re-encodes the query for its log, even if logging
	// is off.
	raw.URL.RawQuery = p.client.withAPIVersion(raw.URL.RawQuery)
	var key string
	if p.client.key != nil {
		key = p.client.key.takeFrom(raw.Header)
	}
	call, _ := raw.Context().Value(callKey{}).(*request)
	call.begin(raw)
	cookies := raw.Header["Cookie"] // before an http.Client adds those from its Jar
	var via []*http.Request
	for {
		resp, err := p.send(req, key)
		if err != nil {
			return nil, err
		}
		call.setLastResponse(resp)
		to := p.client.redirect(req.Raw(), resp)
		if to == nil {
			return resp, nil
		}
		via = append(via, req.Raw())
		req = req.Clone(raw.Context()) // the transport may still be using the previous request
		req.Raw().URL, req.Raw().Host, req.Raw().Response = to, to.Host, resp
		if req.Raw().Header.Del("Cookie"); cookies != nil {
			req.Raw().Header["Cookie"] = cookies
		}
		if err := p.client.checkRedirect(req.Raw(), via); err == http.ErrUseLastResponse { //nolint:errorlint // like http.Client
			return resp, nil
		} else if err != nil {
			drain(resp)
			return nil, &finalError{err}
		}
		drain(resp)
	}
}

// send signs the request for its current URL and sends it.
func (p attemptPolicy) send(req *policy.Request, key string) (*http.Response, error) {
	raw := req.Raw()
	if p.client.key != nil {
		if err := p.client.authorize(raw, key); err != nil {
			return nil, err
		}
	}
	// azcore's retry policy wraps the body in its own type. net/http would not recognize that as a body in memory, and
	// would send headers and body in two writes.
	if body, ok := req.Body().(body); ok {
		var err error
		if raw.Body, err = body.open(); err != nil {
			return nil, err
		}
		raw.GetBody = body.open
	}
	resp, err := req.Next()
	if err != nil && resp != nil && !isSuccess(resp.StatusCode) { // the body broke off; report the status
		resp.Body = brokenBody{err}
		return resp, nil
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		err = &finalError{err}
	}
	return resp, err
}

// brokenBody is a response body that returns an error.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

const maxRedirects = 10

// limitRedirects is the default CheckRedirect.
func limitRedirects(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

// redirect returns the URL that a response redirects to. It returns nil if the response is not a redirect, or if the
// redirect must not be followed because it leaves the service or would turn a send into a GET.
func (c *ServiceClient) redirect(req *http.Request, resp *http.Response) *url.URL {
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
	if location == "" || err != nil {
		return nil
	}
	target, ok := c.endpoint.within(to)
	if !ok {
		return nil
	}
	to, err = url.Parse(c.endpoint.target + target)
	if err != nil {
		return nil
	}
	return to
}

// begin records the start of an attempt.
func (r *request) begin(attempt *http.Request) {
	if r != nil && r.record != nil {
		r.record.begin(attempt)
	}
}

// setLastResponse records the response to an attempt.
func (r *request) setLastResponse(resp *http.Response) {
	if r != nil {
		r.last.Store(resp)
	}
}

// pipelineOptions returns the options with our policies. The bearer policy authenticates clients without an access key;
// it is nil for others.
func (c *ServiceClient) pipelineOptions(bearer policy.Policy) runtime.PipelineOptions {
	pipeline := runtime.PipelineOptions{Tracing: runtime.TracingOptions{Namespace: "Microsoft.SignalRService"}}
	switch {
	case bearer != nil:
		pipeline.PerRetry = append(pipeline.PerRetry, bearer)
	case c.key.credential != nil:
		pipeline.PerRetry = append(pipeline.PerRetry, c.key.credential.Policy)
	}
	pipeline.PerRetry = append(pipeline.PerRetry, attemptPolicy{c})
	return pipeline
}
