// Package keycredential reads the key of an azcore.KeyCredential. azcore does not export the key. It only has a policy
// that writes the key into a request header, so this package runs that policy on a request that is never sent.
package keycredential

import (
	"context"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Header is where Source.Policy puts the key.
const Header = "X-Webpubsub-Access-Key"

// Source provides the key of a credential. The credential's Update method can change the key at any time.
type Source struct {
	// Policy adds Header, with the current key, to each request. A later policy must remove the header.
	Policy policy.Policy

	reader runtime.Pipeline // runs Policy and echo
}

// New returns a Source for the credential. It returns an error if the credential is nil or zero, or if its key is
// empty. The error text is phrased to follow the argument's name.
func New(credential *azcore.KeyCredential) (*Source, error) {
	if credential == nil || *credential == (azcore.KeyCredential{}) {
		return nil, errors.New("is nil; create one with azcore.NewKeyCredential")
	}
	s := &Source{Policy: runtime.NewKeyCredentialPolicy(credential, Header, &runtime.KeyCredentialPolicyOptions{
		InsecureAllowCredentialWithHTTP: true, // the key itself is never sent
	})}
	s.reader = runtime.NewPipeline("", "", runtime.PipelineOptions{PerCall: []policy.Policy{s.Policy, echo{}}},
		&policy.ClientOptions{Telemetry: policy.TelemetryOptions{Disabled: true}})
	if key, err := s.Key(context.Background()); err != nil || key == "" {
		return nil, errors.New("holds an empty key")
	}
	return s, nil
}

// Key returns the current key.
func (s *Source) Key(ctx context.Context) (string, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, "http://localhost")
	if err != nil {
		return "", err
	}
	resp, err := s.reader.Do(req)
	if err != nil {
		return "", err
	}
	return resp.Header.Get(Header), nil
}

// echo is a policy that returns the request's headers as the response, instead of sending the request.
type echo struct{}

func (echo) Do(req *policy.Request) (*http.Response, error) {
	return &http.Response{Header: req.Raw().Header}, nil
}
