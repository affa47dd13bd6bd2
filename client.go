package webpubsub

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/hubname"
	"github.com/awps-go/webpubsub/internal/keycredential"
	"golang.org/x/net/http/httpguts"
)

const defaultAPIVersion = "2024-12-01"

// ServiceName is the name of the service in a custom cloud configuration, which gives its audience:
//
//	cloud.Configuration{..., Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
//		webpubsub.ServiceName: {Audience: "https://webpubsub.azure.com"},
//	}}
const ServiceName cloud.ServiceName = "webpubsub"

// ServiceClient manages the connections of one hub. Make one with [NewClientFromConnectionString],
// [NewClientWithKeyCredential] or [NewClient]. Make it once and share it: it is safe for concurrent use and does not need
// to be closed. The zero ServiceClient returns [ErrInvalidArgument] from every operation.
type ServiceClient struct {
	azure        *azcore.Client // the pipeline and the tracer
	endpoint     endpoint
	hub          string
	versionParam string       // the api-version as an item of a query
	userAgent    []string     // the header of requests without one of their own; nil for net/http's
	key          *accessKey   // nil with a TokenCredential
	log          *slog.Logger // nil for none

	// clientURLs are the URLs that clients connect to, in their http form, which is the audience of client access tokens.
	clientURLs map[ClientProtocol]string

	checkRedirect func(*http.Request, []*http.Request) error // as an http.Client's: the caller's, or limitRedirects
}

// NewClientFromConnectionString returns a client for a hub of the service that the connection string names. The Azure
// portal shows the connection string; see [ParseConnectionString] for its parts. Requests are signed with its access key.
//
// A hub's name is a letter, then up to 127 letters, digits and any of _ ` , . [ ]. The service ignores its case.
func NewClientFromConnectionString(connectionString, hub string, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientFromConnectionString"
	parsed, err := parseConnectionString(operation, connectionString)
	if err != nil {
		return nil, err
	}
	return newClient(operation, parsed.Endpoint, hub, &accessKey{fixed: parsed.AccessKey}, nil, valueOf(options))
}

// NewClientWithKeyCredential returns a client for a hub of the service at the endpoint, such as
// https://NAME.webpubsub.azure.com. Requests are signed with the credential's key. Its Update method changes the key for
// the next request and the next client access token. See [NewClientFromConnectionString] for the hub's name.
func NewClientWithKeyCredential(endpoint, hub string, credential *azcore.KeyCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientWithKeyCredential"
	source, err := keycredential.New(credential)
	if err != nil {
		return nil, invalid(operation, "credential", "%v", err)
	}
	return newClient(operation, endpoint, hub, &accessKey{credential: source}, nil, valueOf(options))
}

// NewClient returns a client for a hub of the service at the endpoint, such as https://NAME.webpubsub.azure.com, that
// authenticates with Microsoft Entra ID. The credential is one of the azidentity package or any other
// [azcore.TokenCredential]. Its identity needs a role on the service, such as Web PubSub Service Owner.
//
// The scope of the tokens follows ClientOptions.Cloud: https://webpubsub.azure.com/.default in the public cloud and
// https://webpubsub.azure.cn/.default in China. Any other cloud, including US Government, must give the audience under
// [ServiceName].
//
// It returns [ErrInvalidArgument] for an http endpoint, unless ClientOptions.InsecureAllowCredentialWithHTTP is set. See
// [NewClientFromConnectionString] for the hub's name.
func NewClient(endpoint, hub string, credential azcore.TokenCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClient"
	if isNil(credential) {
		return nil, invalid(operation, "credential", "is nil")
	}
	o := valueOf(options)
	audience := tokenAudience(o.Cloud)
	if audience == "" {
		return nil, invalid(operation, "options.Cloud", "is neither the public cloud nor China, and gives no audience for the service %q", ServiceName)
	}
	bearer := runtime.NewBearerTokenPolicy(credential, []string{strings.TrimSuffix(audience, "/") + "/.default"},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: o.InsecureAllowCredentialWithHTTP})
	return newClient(operation, endpoint, hub, nil, bearer, o)
}

// isNil reports whether an interface holds nothing, or a nil pointer or function.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return !value.IsValid() || (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
}

// tokenAudience returns the service's audience in a cloud; it is empty for an unknown cloud. That of US Government is not
// built in: no public source states it.
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

// newClient makes a client that signs with the key or, if the key is nil, authenticates by the bearer policy.
func newClient(operation, serviceURL, hub string, key *accessKey, bearer policy.Policy, options ClientOptions) (*ServiceClient, error) {
	endpoint, err := newEndpoint(operation, serviceURL, options.ReverseProxyEndpoint)
	if err != nil {
		return nil, err
	}
	if bearer != nil && !strings.HasPrefix(endpoint.target, "https:") && !options.InsecureAllowCredentialWithHTTP {
		return nil, invalid(operation, "endpoint", "must be https with a TokenCredential, whose tokens are not sent in clear "+
			"text unless options.InsecureAllowCredentialWithHTTP is set")
	}
	if problem := hubname.Problem(hub); problem != "" {
		return nil, invalid(operation, "hub", "%s", problem)
	}
	version := cmp.Or(options.APIVersion, defaultAPIVersion)
	if string(appendEscaped(nil, version)) != version {
		return nil, invalid(operation, "options.APIVersion", "is not a version such as %s", defaultAPIVersion)
	}
	c := &ServiceClient{endpoint: endpoint, hub: hub, versionParam: "api-version=" + version, key: key, log: options.Logger,
		clientURLs: map[ClientProtocol]string{
			ClientProtocolDefault:  endpoint.client + "/client/hubs/" + hub,
			ClientProtocolMQTT:     endpoint.client + "/clients/mqtt/hubs/" + hub,
			ClientProtocolSocketIO: endpoint.client + "/clients/socketio/hubs/" + hub,
		}}
	if agent := userAgent(options.Telemetry); !httpguts.ValidHeaderFieldValue(agent) {
		return nil, invalid(operation, "options.Telemetry.ApplicationID", "has control characters")
	} else if agent != "" {
		c.userAgent = []string{agent}
	}

	azureOptions := options.ClientOptions
	azureOptions.APIVersion = ""           // attemptPolicy adds it
	azureOptions.Telemetry.Disabled = true // the User-Agent is ours
	azureOptions.Transport = c.transport(options.Transport)
	if c.azure, err = azcore.NewClient(moduleName, moduleVersion, c.pipelineOptions(bearer), &azureOptions); err != nil {
		return nil, wrapError(operation, err)
	}
	return c, nil
}

// Endpoint returns the URL of the service, without a trailing slash and without the scheme's own port. Behind a reverse
// proxy it is still the service's URL.
func (c *ServiceClient) Endpoint() string { return c.endpoint.service }

// Hub returns the hub's name, as it was given.
func (c *ServiceClient) Hub() string { return c.hub }

// String returns the service's URL and the hub's name. It holds no secret.
func (c *ServiceClient) String() string {
	if c == nil {
		return "webpubsub.ServiceClient(nil)"
	}
	return "webpubsub.ServiceClient(" + c.endpoint.service + ", hub " + c.hub + ")"
}

// SendToAll sends a message to every connection of the hub. It succeeds if the hub has no connections.
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

// CloseAllConnections closes every connection of the hub. Clients of the JSON and protobuf subprotocols receive the reason
// before.
//
// REST: POST /api/hubs/{hub}/:closeConnections.
func (c *ServiceClient) CloseAllConnections(ctx context.Context, options *CloseAllConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseAllConnections", http.MethodPost).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// GetServiceStatus returns nil if the service is healthy, and the service's error otherwise; see [ErrUnavailable]. It asks
// the service, not the hub, and the service does not check the credential.
//
// REST: HEAD /api/health.
func (c *ServiceClient) GetServiceStatus(ctx context.Context, options *GetServiceStatusOptions) error {
	return c.newRequest("GetServiceStatus", http.MethodHead).literal("/api/health").run(ctx)
}

// SendRequest sends any other request through the client's pipeline: authenticated, retried, logged and traced like the
// client's own requests. Use it for operations that have no method here.
//
// The request's URL is either a path and query, such as /api/hubs/chat/:send, or an absolute URL of the service or its
// reverse proxy. The client adds its api-version if the query has none. The request itself is not changed. Its body is
// read and closed, and treated like the body of a [BinaryStream] message. An Authorization header is ignored.
//
// SendRequest returns any response, whatever its status, with its body in memory. It reads at most 64 KiB of the body of a
// response with a status of 300 and above, and ignores the rest; reading the body fails if that broke off. An error means
// that there was no response.
//
// It returns [ErrInvalidArgument] if
//   - the URL is not one of the service's: another scheme, host or port, a path that is not below the endpoint's own, or a
//     path with . or .. as a segment, percent-encoded or not.
//   - the query has a space or a control character.
//   - the method, a header's name or a header's value is not one that HTTP allows.
func (c *ServiceClient) SendRequest(ctx context.Context, req *http.Request) (*http.Response, error) {
	r := c.newRequest("SendRequest", "")
	if req != nil && req.Body != nil {
		defer req.Body.Close()
	}
	if req == nil || req.URL == nil {
		r.refuse("req", "is nil or has no URL")
	} else if r.err == nil {
		r.raw(req)
	}
	return r.send(ctx, func(int) bool { return true })
}

// raw makes r the caller's request, and refuses what net/http would refuse for certain, which azcore would retry.
func (r *request) raw(req *http.Request) {
	target, ok := r.client.endpoint.within(req.URL)
	switch {
	case req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method):
		r.refuse("req", "has a method that is not an HTTP token")
	case strings.ContainsFunc(req.URL.RawQuery, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.refuse("req", "has a space or a control character in its query; escape it")
	case !ok:
		r.refuse("req", "has a URL that is not the service's")
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			r.refuse("req", "has a header whose name is not an HTTP token")
		}
		if !slices.ContainsFunc(values, func(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }) {
			continue
		}
		r.refuse("req", "has control characters in its header %s", name)
	}
	if r.err != nil {
		return
	}
	r.goTo(target)
	r.method = cmp.Or(req.Method, http.MethodGet)
	r.header = maps.Clone(req.Header)
	for name := range r.header {
		if strings.EqualFold(name, "Authorization") { // it is ours, in any spelling
			delete(r.header, name)
		}
	}
	if req.Body != nil && req.Body != http.NoBody {
		r.stream, r.bodyArgument = req.Body, "req"
		r.contentType = cmp.Or(req.Header.Get("Content-Type"), contentTypeBinary)
	}
}
