package webpubsub

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// callKey is the key of a call's *request in the context of its attempts.
type callKey struct{}

// attemptPolicy runs once per attempt, after azcore's retry policy. All our per-attempt work is in this one policy because
// azcore copies the request for each policy.
type attemptPolicy struct {
	client *ServiceClient
}

// Do sends one attempt, and follows its redirects.
//
// The redirects are followed here and not by net/http for four reasons. Each request is signed for its own URL, so that a
// redirected one needs a new token. A URL belongs to the service by our rules, which are stricter than "the same host". A
// POST that is redirected by 301, 302 or 303 must fail, where net/http would send a GET and report success. And an
// http.Client clones the headers of each request in case it is redirected, which a service that hardly ever redirects
// makes every send pay for.
func (p attemptPolicy) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	// Not before: azcore's retry policy parses the query and encodes it again for its log, even if nobody listens.
	raw.URL.RawQuery = p.client.withAPIVersion(raw.URL.RawQuery)
	var key string
	if p.client.key != nil {
		key = p.client.key.take(raw.Header)
	}
	call, _ := raw.Context().Value(callKey{}).(*request)
	call.begin(raw)
	cookies := raw.Header["Cookie"] // without the cookies that an http.Client adds to each request from its Jar
	var via []*http.Request
	for {
		resp, err := p.send(req, key)
		if err != nil {
			return nil, err
		}
		call.answered(resp)
		to := p.client.redirect(req.Raw(), resp)
		if to == nil {
			return resp, nil
		}
		via = append(via, req.Raw())
		req = req.Clone(raw.Context()) // the transport may still use the previous request
		req.Raw().URL, req.Raw().Host, req.Raw().Response = to, to.Host, resp
		if req.Raw().Header.Del("Cookie"); cookies != nil {
			req.Raw().Header["Cookie"] = cookies
		}
		if err := p.client.checkRedirect(req.Raw(), via); err == http.ErrUseLastResponse { //nolint:errorlint // http.Client compares it so too
			return resp, nil
		} else if err != nil {
			drain(resp)
			return nil, &finalError{err}
		}
		drain(resp)
	}
}

// send sends the request to its current URL.
func (p attemptPolicy) send(req *policy.Request, key string) (*http.Response, error) {
	raw := req.Raw()
	if p.client.key != nil {
		if err := p.client.authorize(raw, key); err != nil {
			return nil, err
		}
	}
	// azcore's retry policy wraps the body in a type of its own, which net/http does not recognize as one in memory: it
	// would write the headers first, and the body in a second write.
	if body, ok := req.Body().(body); ok {
		var err error
		if raw.Body, err = body.open(); err != nil {
			return nil, err
		}
		raw.GetBody = body.open
	}
	resp, err := req.Next()
	if err != nil && resp != nil && !isSuccess(resp.StatusCode) { // its body broke off; the status is what matters
		resp.Body = brokenBody{err}
		return resp, nil
	}
	return resp, err
}

// brokenBody is the body of a response that broke off.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

const maxRedirects = 10

// limitRedirects is the CheckRedirect of a client whose caller gave none.
func limitRedirects(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

// redirect returns where a response sends the request instead; nil if it is not a redirect or not one to follow. Only
// redirects within the service are followed, and no send becomes a GET.
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

// begin notes that an attempt of the call begins.
func (r *request) begin(attempt *http.Request) {
	if r != nil && r.record != nil {
		r.record.begin(attempt)
	}
}

// answered notes the response to an attempt.
func (r *request) answered(resp *http.Response) {
	if r != nil {
		r.last.Store(resp)
	}
}

// pipelineOptions returns our policies. The bearer policy authenticates a client without an access key.
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
