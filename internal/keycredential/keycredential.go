// Package keycredential reads the key of an azcore.KeyCredential. azcore keeps it to itself but for a policy that writes
// it into a header of a request, so a request is made for it, which goes no further than the policy behind.
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

// Source is where the key comes from. The credential's Update changes it at any time.
type Source struct {
	// Policy puts the key as it is now into Header. The policy behind it must take it off again.
	Policy policy.Policy

	reader runtime.Pipeline // Policy, and nothing else
}

// New returns the source of a credential's key. Its error says what is wrong, in words that follow the credential's name:
// it is nil or zero, or its key is empty.
func New(credential *azcore.KeyCredential) (*Source, error) {
	if credential == nil || *credential == (azcore.KeyCredential{}) {
		return nil, errors.New("is nil: make one with azcore.NewKeyCredential")
	}
	s := &Source{Policy: runtime.NewKeyCredentialPolicy(credential, Header, &runtime.KeyCredentialPolicyOptions{
		InsecureAllowCredentialWithHTTP: true, // the key itself never leaves
	})}
	s.reader = runtime.NewPipeline("", "", runtime.PipelineOptions{PerCall: []policy.Policy{s.Policy, echo{}}},
		&policy.ClientOptions{Telemetry: policy.TelemetryOptions{Disabled: true}})
	if key, err := s.Key(context.Background()); err != nil || key == "" {
		return nil, errors.New("holds an empty key")
	}
	return s, nil
}

// Key returns the key as it is now.
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

// echo answers a request with its own headers, and sends it nowhere.
type echo struct{}

func (echo) Do(req *policy.Request) (*http.Response, error) {
	return &http.Response{Header: req.Raw().Header}, nil
}
