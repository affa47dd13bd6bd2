package webpubsub

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/keycredential"
	"github.com/awps-go/webpubsub/internal/names"
	"golang.org/x/net/http/httpguts"
)

const defaultAPIVersion = "2024-12-01"

// ServiceName is the key for the service in a custom cloud configuration, which sets the audience of tokens:
//
//	cloud.Configuration{..., Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
//		webpubsub.ServiceName: {Audience: "https://webpubsub.azure.com"},
//	}}
const ServiceName cloud.ServiceName = "webpubsub"

// ServiceClient sends messages to one hub and manages its connections. Create a ServiceClient with
// [NewClientFromConnectionString], [NewClientWithKeyCredential] or [NewClient]. Create it once and share it: a
// ServiceClient is safe for concurrent use and does not need to be closed. Nil options of its methods mean the zero
// options.
//
// Every operation of the zero ServiceClient returns [ErrInvalidArgument].
type ServiceClient struct {
	azure        *azcore.Client // the pipeline and the tracer
	endpoint     endpoint
	hub          string
	versionParam string       // the api-version, as a query item
	userAgent    []string     // the User-Agent header of requests that do not set one; nil for net/http's default
	key          *accessKey   // nil with a TokenCredential
	log          *slog.Logger // nil: no logging

	// clientURLs are the URLs that clients connect to, with the scheme http or https. They are the audiences of client
	// access tokens.
	clientURLs map[ClientProtocol]string

	checkRedirect func(*http.Request, []*http.Request) error // that of the caller's http.Client, or limitRedirects
}

// NewClientFromConnectionString returns a client for a hub of the service in the connection string. The Azure portal
// shows the connection string; see [ParseConnectionString] for its parts. The client signs requests with the access
// key.
//
// A hub name is a letter, then up to 127 letters, digits and any of _ ` , . [ ]. The service ignores its case.
//
// NewClientFromConnectionString returns [ErrInvalidArgument] if the connection string, the hub or an option is invalid.
// Nil options mean the zero ClientOptions.
func NewClientFromConnectionString(connectionString, hub string, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientFromConnectionString"
	parsed, err := parseConnectionString(operation, connectionString)
	if err != nil {
		return nil, err
	}
	return newClient(operation, parsed.Endpoint, hub, &accessKey{fixed: parsed.AccessKey}, nil, valueOf(options))
}

// NewClientWithKeyCredential returns a client for a hub of the service at the endpoint, such as
// https://NAME.webpubsub.azure.com. The client signs requests with the credential's key. The credential's Update method
// changes the key for all later requests and client access tokens.
//
// NewClientWithKeyCredential returns [ErrInvalidArgument] if the endpoint, the hub, the credential or an option is
// invalid. See [NewClientFromConnectionString] for hub names.
func NewClientWithKeyCredential(endpoint, hub string, credential *azcore.KeyCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClientWithKeyCredential"
	source, err := keycredential.New(credential)
	if err != nil {
		return nil, invalid(operation, "credential", "%v", err)
	}
	return newClient(operation, endpoint, hub, &accessKey{credential: source}, nil, valueOf(options))
}

// NewClient returns a client for a hub of the service at the endpoint, such as https://NAME.webpubsub.azure.com. The
// client authenticates with Microsoft Entra ID. The credential is an [azcore.TokenCredential], such as those of package
// azidentity. The identity needs a role on the service, such as Web PubSub Service Owner.
//
// ClientOptions.Cloud determines the scope of the tokens:
//   - https://webpubsub.azure.com/.default in the public cloud, which is the default.
//   - https://webpubsub.azure.cn/.default in China.
//   - In any other cloud, including US Government, the audience that the configuration sets under [ServiceName].
//
// NewClient returns [ErrInvalidArgument] if
//   - the endpoint, the hub, the credential or an option is invalid. See [NewClientFromConnectionString] for hub names.
//   - requests would go to an http URL and ClientOptions.InsecureAllowCredentialWithHTTP is not set.
func NewClient(endpoint, hub string, credential azcore.TokenCredential, options *ClientOptions) (*ServiceClient, error) {
	const operation = "NewClient"
	if isNil(credential) {
		return nil, invalid(operation, "credential", "is nil")
	}
	o := valueOf(options)
	audience := tokenAudience(o.Cloud)
	if audience == "" {
		return nil, invalid(operation, "options.Cloud", "must be the public cloud or China, or set an audience for the service %q", ServiceName)
	}
	bearer := runtime.NewBearerTokenPolicy(cleanCredential{credential}, []string{strings.TrimSuffix(audience, "/") + "/.default"},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: o.InsecureAllowCredentialWithHTTP})
	return newClient(operation, endpoint, hub, nil, bearer, o)
}

// isNil reports whether v is nil, or an interface that holds a nil pointer or function.
func isNil(v any) bool {
	value := reflect.ValueOf(v)
	return !value.IsValid() || (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil()
}

// tokenAudience returns the service's audience in a cloud, or "" for an unknown cloud. The audience in US Government is
// not built in, because no public source states it.
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

// newClient returns a client that signs with the key or, if the key is nil, authenticates with the bearer policy.
func newClient(operation, serviceURL, hub string, key *accessKey, bearer policy.Policy, options ClientOptions) (*ServiceClient, error) {
	endpoint, err := newEndpoint(operation, serviceURL, options.ReverseProxyEndpoint)
	if err != nil {
		return nil, err
	}
	if bearer != nil && !strings.HasPrefix(endpoint.target, "https:") && !options.InsecureAllowCredentialWithHTTP {
		return nil, invalid(operation, "endpoint", "must be https with a TokenCredential, "+
			"unless options.InsecureAllowCredentialWithHTTP is set")
	}
	if problem := names.HubProblem(hub); problem != "" {
		return nil, invalid(operation, "hub", "%s", problem)
	}
	version := cmp.Or(options.APIVersion, defaultAPIVersion)
	if string(appendEscaped(nil, version)) != version {
		return nil, invalid(operation, "options.APIVersion", "must be a version such as %s", defaultAPIVersion)
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
	azureOptions.Telemetry.Disabled = true // send sets the User-Agent
	azureOptions.Transport = c.transport(options.Transport)
	if c.azure, err = azcore.NewClient(moduleName, moduleVersion, c.pipelineOptions(bearer), &azureOptions); err != nil {
		return nil, wrapError(operation, err)
	}
	return c, nil
}

// Endpoint returns the URL of the service, without a trailing slash and without the scheme's default port. With a
// reverse proxy, Endpoint still returns the URL of the service.
func (c *ServiceClient) Endpoint() string { return c.endpoint.service }

// Hub returns the hub's name, as it was passed to the constructor.
func (c *ServiceClient) Hub() string { return c.hub }

// String returns the service's URL and the hub's name. It does not contain secrets.
func (c *ServiceClient) String() string {
	if c == nil {
		return "webpubsub.ServiceClient(nil)"
	}
	return "webpubsub.ServiceClient(" + c.endpoint.service + ", hub " + c.hub + ")"
}

// SendToAll sends a message to every connection of the hub. It succeeds even if the hub has no connections.
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

// CloseAllConnections closes every connection of the hub. Clients with a JSON or protobuf subprotocol receive the
// reason first.
//
// REST: POST /api/hubs/{hub}/:closeConnections.
func (c *ServiceClient) CloseAllConnections(ctx context.Context, options *CloseAllConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseAllConnections", http.MethodPost).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// GetServiceStatus returns nil if the service is healthy. Otherwise it returns an error; see [ErrUnavailable]. The
// status is that of the whole service, not of the hub. The service does not check the credential.
//
// REST: HEAD /api/health.
func (c *ServiceClient) GetServiceStatus(ctx context.Context, options *GetServiceStatusOptions) error {
	return c.newRequest("GetServiceStatus", http.MethodHead).literal("/api/health").run(ctx)
}

// SendRequest sends a request through the client's pipeline, which authenticates, retries, logs and traces the request
// like the client's own requests. Use SendRequest for REST operations that have no method here.
//
// The URL of the request is either a path and query, such as /api/hubs/chat/:send, or an absolute URL of the service or
// its reverse proxy. The client adds its api-version if the query does not have one. An Authorization header is
// ignored. req itself is not modified, but its body is read and closed. The body is handled like that of a
// [BinaryStream] message.
//
// SendRequest returns every response, whatever its status, with the body in memory. An error means that there was no
// complete response, or that its body has more than 16 MiB. If the status is 300 or above, there is no such error:
//   - only the first 64 KiB of the body are kept.
//   - a body that broke off returns an error when it is read.
//
// SendRequest returns [ErrInvalidArgument] if
//   - the URL does not belong to the service: another scheme, host or port, a path outside the endpoint's path, or a
//     path with the segment . or .. (percent-encoded or not).
//   - the query has a space or a control character.
//   - the method, a header name or a header value is not valid in HTTP.
func (c *ServiceClient) SendRequest(ctx context.Context, req *http.Request) (*http.Response, error) {
	r := c.newRequest("SendRequest", "")
	if req != nil && req.Body != nil {
		defer req.Body.Close()
	}
	if req == nil || req.URL == nil {
		r.reject("req", "is nil or has no URL")
	} else if r.err == nil {
		r.setRequest(req)
	}
	return r.send(ctx, func(int) bool { return true })
}

// setRequest copies the caller's request into r. It rejects requests that net/http is certain to reject, because azcore
// would retry them.
func (r *request) setRequest(req *http.Request) {
	target, ok := r.client.endpoint.within(req.URL)
	switch {
	case req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method):
		r.reject("req", "has an invalid method")
	case strings.ContainsFunc(req.URL.RawQuery, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.reject("req", "has a space or a control character in its query; escape it")
	case !ok:
		r.reject("req", "has a URL outside the service")
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			r.reject("req", "has an invalid header name")
		}
		if !slices.ContainsFunc(values, func(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }) {
			continue
		}
		r.reject("req", "has control characters in the header %s", name)
	}
	if r.err != nil {
		return
	}
	r.setTarget(target)
	r.method = cmp.Or(req.Method, http.MethodGet)
	r.header = make(http.Header, len(req.Header))
	for name, values := range req.Header {
		name = http.CanonicalHeaderKey(name)
		r.header[name] = append(r.header[name], values...)
	}
	r.header.Del("Authorization") // the client sets it
	if req.Body != nil && req.Body != http.NoBody {
		r.stream, r.bodyArgument = req.Body, "req"
		r.contentType = cmp.Or(r.header.Get("Content-Type"), contentTypeBinary)
	}
}
