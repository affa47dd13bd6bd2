package webpubsub

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/hubname"
	"github.com/awps-go/webpubsub/internal/keycredential"
	"golang.org/x/net/http/httpguts"
)

const (
	moduleName        = "github.com/awps-go/webpubsub"
	moduleVersion     = "v0.1.0"
	defaultAPIVersion = "2024-12-01"
)

// ServiceName is the name under which a custom cloud configuration gives the service's audience, as in
//
//	cloud.Configuration{..., Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
//		webpubsub.ServiceName: {Audience: "https://webpubsub.azure.com"},
//	}}
const ServiceName cloud.ServiceName = "webpubsub"

// ServiceClient manages the connections of one hub. Make one by [NewClientFromConnectionString],
// [NewClientWithKeyCredential] or [NewClient]; make it once and share it: it is safe for concurrent use, and needs no
// closing.
type ServiceClient struct {
	azure        *azcore.Client // the pipeline and the tracer
	endpoint     endpoint
	hub          string
	versionParam string       // the api-version as an item of a query
	key          *accessKey   // nil with a TokenCredential
	log          *slog.Logger // nil for none

	checkRedirect func(*http.Request, []*http.Request) error // as an http.Client's: the caller's, or one of our own
}

// NewClientFromConnectionString returns a client for a hub of the service that the connection string names, as the Azure
// portal shows it; [ParseConnectionString] says what it may hold. Requests are signed with its access key. Hub names are
// matched without regard to case: a letter, then up to 127 letters, digits and any of _ ` , . [ ].
func NewClientFromConnectionString(connectionString, hub string, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientFromConnectionString"
	parsed, err := parseConnectionString(operation, connectionString)
	if err != nil {
		return nil, err
	}
	return newClient(operation, parsed.Endpoint, hub, &accessKey{fixed: parsed.AccessKey}, nil, valueOf(options))
}

// NewClientWithKeyCredential returns a client for a hub of the service at the endpoint, https://NAME.webpubsub.azure.com.
// Requests are signed with the credential's key; its Update changes the key for the next request and the next client
// access token. For the hub's name see [NewClientFromConnectionString].
func NewClientWithKeyCredential(endpoint, hub string, credential *azcore.KeyCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientWithKeyCredential"
	source, err := keycredential.New(credential)
	if err != nil {
		return nil, invalid(operation, "credential", "%v", err)
	}
	return newClient(operation, endpoint, hub, &accessKey{credential: source}, nil, valueOf(options))
}

// NewClient returns a client for a hub of the service at the endpoint, https://NAME.webpubsub.azure.com, that
// authenticates with Microsoft Entra ID: the credential is one of the azidentity package's, or any other
// [azcore.TokenCredential]. Its identity needs a role on the service, as Web PubSub Service Owner.
//
// The scope of the tokens follows ClientOptions.Cloud: https://webpubsub.azure.com/.default in the public cloud,
// https://webpubsub.azure.cn/.default in China; any other cloud must name the audience under [ServiceName]. An http
// endpoint is an [ErrInvalidArgument], unless ClientOptions.InsecureAllowCredentialWithHTTP is set. For the hub's name see
// [NewClientFromConnectionString].
func NewClient(endpoint, hub string, credential azcore.TokenCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClient"
	if isNil(credential) {
		return nil, invalid(operation, "credential", "is nil")
	}
	o := valueOf(options)
	audience := tokenAudience(o.Cloud)
	if audience == "" {
		return nil, invalid(operation, "options.Cloud", "is neither public nor China, and names no audience for the service %q", ServiceName)
	}
	bearer := runtime.NewBearerTokenPolicy(credential, []string{strings.TrimSuffix(audience, "/") + "/.default"},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: o.InsecureAllowCredentialWithHTTP})
	return newClient(operation, endpoint, hub, nil, bearer, o)
}

// isNil says whether an interface holds nothing, or a nil pointer or function.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return !value.IsValid() || (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
}

// tokenAudience returns the service's audience in a cloud; it is empty for one that is not known.
func tokenAudience(configuration cloud.Configuration) string {
	if service, ok := configuration.Services[ServiceName]; ok {
		return service.Audience
	}
	switch configuration.ActiveDirectoryAuthorityHost {
	case "", cloud.AzurePublic.ActiveDirectoryAuthorityHost:
		return "https://webpubsub.azure.com"
	case cloud.AzureChina.ActiveDirectoryAuthorityHost:
		return "https://webpubsub.azure.cn"
	}
	return ""
}

// newClient makes a client that signs with the key or, if that is nil, authenticates by the bearer policy.
func newClient(operation, serviceURL, hub string, key *accessKey, bearer policy.Policy, options ClientOptions) (*ServiceClient, error) {
	endpoint, err := newEndpoint(operation, serviceURL, options.ReverseProxyEndpoint)
	if err != nil {
		return nil, err
	}
	if bearer != nil && !strings.HasPrefix(endpoint.target, "https:") && !options.InsecureAllowCredentialWithHTTP {
		return nil, invalid(operation, "endpoint", "must be https with a TokenCredential: its tokens are not sent in clear "+
			"text unless options.InsecureAllowCredentialWithHTTP says so")
	}
	if problem := hubname.Problem(hub); problem != "" {
		return nil, invalid(operation, "hub", "%s", problem)
	}
	version := cmp.Or(options.APIVersion, defaultAPIVersion)
	if string(appendEscaped(nil, version)) != version {
		return nil, invalid(operation, "options.APIVersion", "is not a version, as %s", defaultAPIVersion)
	}
	c := &ServiceClient{endpoint: endpoint, hub: hub, versionParam: "api-version=" + version, key: key, log: options.Logger}

	azureOptions := options.ClientOptions
	azureOptions.APIVersion = "" // tryPolicy adds it
	azureOptions.Transport = c.transport(options.Transport)
	pipeline := runtime.PipelineOptions{Tracing: runtime.TracingOptions{Namespace: "Microsoft.SignalRService"}}
	switch {
	case bearer != nil:
		pipeline.PerRetry = append(pipeline.PerRetry, bearer)
	case key.credential != nil:
		pipeline.PerRetry = append(pipeline.PerRetry, key.credential.Policy)
	}
	pipeline.PerRetry = append(pipeline.PerRetry, tryPolicy{c})
	if c.azure, err = azcore.NewClient(moduleName, moduleVersion, pipeline, &azureOptions); err != nil {
		return nil, wrapError(operation, err)
	}
	return c, nil
}

// String names the service and the hub; it holds no secret.
func (c *ServiceClient) String() string {
	if c == nil {
		return "webpubsub.ServiceClient(nil)"
	}
	return "webpubsub.ServiceClient(" + c.endpoint.service + ", hub " + c.hub + ")"
}

// tryPolicy is the last policy of ours that a request passes, once for each try: whatever is ours to do to a request is
// done here, as azcore copies the request for every policy.
type tryPolicy struct {
	client *ServiceClient
}

func (p tryPolicy) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	// Not before: azcore's retry policy parses the query and writes it anew for its log, even if nobody listens.
	raw.URL.RawQuery = p.client.withAPIVersion(raw.URL.RawQuery)
	var key string
	if p.client.key != nil {
		key = p.client.key.take(raw.Header)
	}
	recordTry(raw)
	cookies := raw.Header["Cookie"] // without those that an http.Client adds from its Jar, to each request
	var via []*http.Request
	for {
		resp, err := p.send(req, key)
		if err != nil {
			return nil, err
		}
		location := redirect(req.Raw(), resp)
		if location == nil {
			return resp, nil
		}
		via = append(via, req.Raw())
		req = req.Clone(raw.Context()) // the transport may still be at the last one
		req.Raw().URL, req.Raw().Host, req.Raw().Response = location, location.Host, resp
		if req.Raw().Header.Del("Cookie"); cookies != nil {
			req.Raw().Header["Cookie"] = cookies
		}
		if err := p.client.checkRedirect(req.Raw(), via); err == http.ErrUseLastResponse {
			return resp, nil
		} else if err != nil {
			runtime.Drain(resp)
			return nil, &finalError{err}
		}
		runtime.Drain(resp)
	}
}

// send sends the request to its URL as it is now.
func (p tryPolicy) send(req *policy.Request, key string) (*http.Response, error) {
	raw := req.Raw()
	if p.client.key != nil {
		if err := p.client.authorize(raw, key); err != nil {
			return nil, err
		}
	}
	// azcore's retry policy put its own type around the body, which net/http does not know as one in memory: it would
	// write the headers first, and the body in a second write.
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

// brokenBody is the body of an answer that broke off.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }
func (b brokenBody) Close() error             { return nil }

// SendToAll sends a message to every connection of the hub.
//
// REST: POST /api/hubs/{hub}/:send.
func (c *ServiceClient) SendToAll(ctx context.Context, message Message, options *SendToAllOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("SendToAll", http.MethodPost).literal("/:send")
	r.excluded(o.Excluded)
	r.filter(o.Filter)
	r.ttl(o.MessageTTL)
	r.message(message, o.Metadata)
	return r.run(ctx)
}

// CloseAllConnections closes every connection of the hub. Clients of the JSON and protobuf subprotocols are told the
// reason before.
//
// REST: POST /api/hubs/{hub}/:closeConnections.
func (c *ServiceClient) CloseAllConnections(ctx context.Context, options *CloseAllConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseAllConnections", http.MethodPost).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// GetServiceStatus says whether the service is there and well. It asks the service, not the hub, and an answer other than
// success is an error.
//
// REST: HEAD /api/health.
func (c *ServiceClient) GetServiceStatus(ctx context.Context, options *GetServiceStatusOptions) (bool, error) {
	err := c.newRequest("GetServiceStatus", http.MethodHead).literal("/api/health").run(ctx)
	return err == nil, err
}

// SendRequest sends any other request through the client's pipeline: authenticated, retried, logged and traced as the
// client's own. The request's URL is an absolute one of the service (or its reverse proxy), or a path and query, as
// /api/hubs/chat/:send; one of another host is an [ErrInvalidArgument]. The api-version is added if the query has none.
// The request itself is not changed; its body is read and closed, and treated as that of a [BinaryStream].
//
// Any answer is returned, whatever its status, with its body in memory; an error says that there was none. Reading the body
// of an answer with another status than 2xx fails if that broke off.
func (c *ServiceClient) SendRequest(ctx context.Context, req *http.Request) (*http.Response, error) {
	r := c.newRequest("SendRequest", "")
	if req != nil && req.Body != nil {
		defer req.Body.Close()
	}
	switch {
	case req == nil || req.URL == nil:
		r.refuse("req", "is nil or has no URL")
	case req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method):
		r.refuse("req", "has a method that is no HTTP token")
	case r.err == nil:
		target, ok := c.endpoint.rest(req.URL)
		if !ok {
			r.refuse("req", "has a URL that is not the service's")
		}
		r.goTo(target)
		r.method = cmp.Or(req.Method, http.MethodGet)
		r.header = maps.Clone(req.Header)
		for name := range r.header {
			if strings.EqualFold(name, "Authorization") { // which is ours, in any spelling
				delete(r.header, name)
			}
		}
		if req.Body != nil && req.Body != http.NoBody {
			r.stream, r.bodyArgument = req.Body, "req"
			r.contentType = req.Header.Get("Content-Type")
			if r.contentType == "" {
				r.contentType = contentTypeBinary
			}
		}
	}
	return r.send(ctx, func(int) bool { return true })
}
