package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/awps-go/webpubsub"
	"github.com/golang-jwt/jwt/v5"
)

const (
	hub        = "chat"
	group      = "room"
	apiVersion = "2024-12-01"
	accessKey  = "ABCDEFabcdefghijklmnopq0123456789+/AbCdEfG="
)

// payload is the body of every send of a job. All contenders receive the encoded bytes, so that encoding JSON is not
// measured.
type payload struct {
	data   []byte // JSON, unless stream is set
	stream bool   // the body is sent from a stream, such as a file
}

func newPayload(size int, stream bool) payload {
	const frame = `{"text":""}`
	data := append([]byte(`{"text":"`), bytes.Repeat([]byte("a"), size-len(frame))...)
	return payload{append(data, `"}`...), stream}
}

// file returns the payload as a reader that net/http does not know to be in memory, like a file.
func (p payload) file() io.ReadSeeker {
	return io.NewSectionReader(bytes.NewReader(p.data), 0, int64(len(p.data)))
}

// reader returns a reader for one send of the payload.
func (p payload) reader() io.ReadSeeker {
	if p.stream {
		return p.file()
	}
	return bytes.NewReader(p.data)
}

func (p payload) contentType() string {
	if p.stream {
		return "application/octet-stream"
	}
	return "application/json"
}

// contender is one way to send a message to a group. Its connect function does the work that a program would do once, and
// returns the work of one send. With a nil transport, the contender uses its default.
type contender struct {
	name    string
	connect func(endpoint string, p payload, transport http.RoundTripper) (send func(context.Context) error, err error)
}

var contenders = []contender{
	{"floor", connectFloor},
	{"floor, 64 KiB buffers", connectBufferedFloor},
	{"azcore's pipeline alone", connectPipeline},
	{"azcore", connectAzcore},
	{"ours", connectOurs},
}

func groupPath() string {
	return "/api/hubs/" + url.PathEscape(hub) + "/groups/" + url.PathEscape(group) + "/:send"
}

func mapClaimsToken(audience string) (string, error) { return signToken(accessKey, audience) }

func signToken(key, audience string) (string, error) {
	now := time.Now()
	claims := jwt.MapClaims{"aud": audience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
}

// connectFloor is the least that a program can do: net/http with a transport that keeps its connections, and a token that
// was made beforehand.
func connectFloor(endpoint string, p payload, transport http.RoundTripper) (func(context.Context) error, error) {
	if transport == nil {
		transport = newTransport()
	}
	client := &http.Client{Transport: transport}
	target := endpoint + groupPath() + "?api-version=" + apiVersion
	token, err := mapClaimsToken(target)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, p.reader())
		if err != nil {
			return err
		}
		req.ContentLength = int64(len(p.data))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", p.contentType())
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true}
}

// newBufferedTransport returns a transport with the write buffer size of our transport.
func newBufferedTransport() *http.Transport {
	transport := newTransport()
	transport.WriteBufferSize = 64 << 10
	return transport
}

// connectBufferedFloor is the floor with our write buffer size. It shows the effect of the buffers alone.
func connectBufferedFloor(endpoint string, p payload, transport http.RoundTripper) (func(context.Context) error, error) {
	if transport == nil {
		transport = newBufferedTransport()
	}
	return connectFloor(endpoint, p, transport)
}

// connectPipeline is azcore's pipeline with everything optional removed. No client on azcore can be faster. It writes a small
// request once, as our client does, uses a token and a URL that were made beforehand, and does not read the response body.
func connectPipeline(endpoint string, p payload, transport http.RoundTripper) (func(context.Context) error, error) {
	if transport == nil {
		transport = newBufferedTransport()
	}
	target, err := url.Parse(endpoint + groupPath())
	if err != nil {
		return nil, err
	}
	token, err := mapClaimsToken(target.String() + "?api-version=" + apiVersion)
	if err != nil {
		return nil, err
	}
	client, err := azcore.NewClient("bench", "v0.1.0", runtime.PipelineOptions{PerRetry: []policy.Policy{bodyPolicy{p}}},
		&policy.ClientOptions{Transport: transporter{transport}})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		u := *target
		req, err := runtime.NewRequestFromRequest((&http.Request{
			Method: http.MethodPost, URL: &u, Host: u.Host, Header: http.Header{
				"Accept": {"application/json"}, "Authorization": {"Bearer " + token},
			},
		}).WithContext(ctx))
		if err != nil {
			return err
		}
		if err := req.SetBody(streaming.NopCloser(p.reader()), p.contentType()); err != nil {
			return err
		}
		runtime.SkipBodyDownload(req)
		resp, err := client.Pipeline().Do(req)
		if err != nil {
			return err
		}
		runtime.Drain(resp)
		if !runtime.HasStatusCode(resp, http.StatusAccepted) {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}, nil
}

// bodyPolicy replaces the body that azcore has wrapped, so that net/http recognizes it as a body in memory. It also adds the
// query. If the query were set earlier, azcore's retry policy would parse it.
type bodyPolicy struct{ payload }

func (b bodyPolicy) Do(req *policy.Request) (*http.Response, error) {
	req.Raw().Body = io.NopCloser(b.reader())
	req.Raw().URL.RawQuery = "api-version=" + apiVersion
	return req.Next()
}

// connectAzcore uses azcore as its generated clients do, with a policy that signs every request with golang-jwt's MapClaims.
func connectAzcore(endpoint string, p payload, transport http.RoundTripper) (func(context.Context) error, error) {
	options := &policy.ClientOptions{}
	if transport != nil {
		options.Transport = &http.Client{Transport: transport}
	}
	client, err := azcore.NewClient("bench", "v0.1.0", runtime.PipelineOptions{
		PerRetry: []policy.Policy{mapClaimsPolicy{}},
		Tracing:  runtime.TracingOptions{Namespace: "Microsoft.SignalRService"},
	}, options)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (err error) {
		ctx, end := runtime.StartSpan(ctx, "Client.SendToGroup", client.Tracer(), nil)
		defer func() { end(err) }()
		req, err := runtime.NewRequest(ctx, http.MethodPost, runtime.JoinPaths(endpoint, groupPath()))
		if err != nil {
			return err
		}
		query := req.Raw().URL.Query()
		query.Set("api-version", apiVersion)
		req.Raw().URL.RawQuery = query.Encode()
		req.Raw().Header["Accept"] = []string{"application/json"}
		if err := req.SetBody(streaming.NopCloser(p.reader()), p.contentType()); err != nil {
			return err
		}
		resp, err := client.Pipeline().Do(req)
		if err != nil {
			return err
		}
		if !runtime.HasStatusCode(resp, http.StatusAccepted) {
			return runtime.NewResponseError(resp)
		}
		return nil
	}, nil
}

type mapClaimsPolicy struct{}

func (mapClaimsPolicy) Do(req *policy.Request) (*http.Response, error) {
	token, err := mapClaimsToken(req.Raw().URL.String())
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Authorization", "Bearer "+token)
	return req.Next()
}

func connectOurs(endpoint string, p payload, transport http.RoundTripper) (func(context.Context) error, error) {
	options := &webpubsub.ClientOptions{}
	if transport != nil {
		options.Transport = transporter{transport} // without an http.Client, like our default transport
	}
	client, err := newClient(endpoint, options)
	if err != nil {
		return nil, err
	}
	message := webpubsub.JSON(json.RawMessage(p.data))
	return func(ctx context.Context) error {
		m := message
		if p.stream {
			m = webpubsub.BinaryStream(p.file())
		}
		return client.SendToGroup(ctx, group, m, nil)
	}, nil
}

type transporter struct {
	http.RoundTripper
}

func (t transporter) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

func newClient(endpoint string, options *webpubsub.ClientOptions) (*webpubsub.ServiceClient, error) {
	return webpubsub.NewClientFromConnectionString("Endpoint="+endpoint+";AccessKey="+accessKey+";Version=1.0;", hub, options)
}
