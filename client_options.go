package webpubsub

import (
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// ClientOptions are the options of a [ServiceClient]. The zero value is right for most applications.
//
// The embedded [azcore.ClientOptions] are common to all clients of the Azure SDK for Go:
//   - Retry sets how often and when a request is retried.
//   - Transport is the HTTP client. If it is nil, the client uses a transport that all clients of this package share,
//     with enough idle connections for bursts of sends. If it is an *http.Client, its CheckRedirect is called for each
//     redirect, and its Timeout applies to each attempt. Only redirects within the service are followed.
//   - Cloud sets the scope of tokens from a TokenCredential; see [NewClient].
//   - APIVersion defaults to 2024-12-01.
//   - Telemetry sets the User-Agent, which is awps-go-webpubsub/VERSION followed by the Go version and the operating
//     system. The first 24 bytes of ApplicationID come before it. If Disabled is set, the transport sets the
//     User-Agent.
//   - TracingProvider, Logging, InsecureAllowCredentialWithHTTP, PerCallPolicies and PerRetryPolicies work as in
//     azcore.
type ClientOptions struct {
	azcore.ClientOptions

	// ReverseProxyEndpoint is the URL of a reverse proxy in front of the service, such as API Management. It may have a
	// path. Requests go to the proxy. The audience of their tokens is still the URL of the service, and clients still
	// connect to the service. If ReverseProxyEndpoint is empty, requests go to the service.
	ReverseProxyEndpoint string

	// Logger receives one record for each call; nil logs nothing. [WithLogger] describes the record, and sets a logger
	// for a single call.
	Logger *slog.Logger
}

// SendToAllOptions are the options of [ServiceClient.SendToAll].
type SendToAllOptions struct {
	// Excluded lists the IDs of connections that do not receive the message.
	Excluded []string

	// Filter selects the connections that receive the message; empty means all.
	Filter Filter

	// MessageTTL is how long the service keeps the message for a connection that cannot receive it yet. It must be a
	// whole number of seconds, up to 300. Zero means that the message does not expire.
	MessageTTL time.Duration

	// Metadata is delivered with the message to clients with a JSON or protobuf subprotocol. It is sent as HTTP
	// headers, which sets these limits:
	//   - A key is an HTTP token of at most 256 bytes. Clients receive keys in lower case, so two keys must not differ
	//     in case only.
	//   - A value is printable ASCII of at most 1,024 bytes, without leading or trailing spaces and without commas.
	//     (The service would deliver only the text after the last comma.)
	//   - All keys and values together are at most 8 KiB.
	Metadata map[string]string
}

// SendToGroupOptions are the options of [ServiceClient.SendToGroup].
type SendToGroupOptions struct {
	// Excluded lists the IDs of connections that do not receive the message.
	Excluded []string

	// Filter selects the connections of the group that receive the message; empty means all.
	Filter Filter

	// MessageTTL is as in [SendToAllOptions].
	MessageTTL time.Duration

	// Metadata is as in [SendToAllOptions].
	Metadata map[string]string
}

// SendToUserOptions are the options of [ServiceClient.SendToUser].
type SendToUserOptions struct {
	// Filter selects the connections of the user that receive the message; empty means all.
	Filter Filter

	// MessageTTL is as in [SendToAllOptions].
	MessageTTL time.Duration

	// Metadata is as in [SendToAllOptions].
	Metadata map[string]string
}

// SendToConnectionOptions are the options of [ServiceClient.SendToConnection].
type SendToConnectionOptions struct {
	// MessageTTL is as in [SendToAllOptions].
	MessageTTL time.Duration

	// Metadata is as in [SendToAllOptions].
	Metadata map[string]string
}

// CloseAllConnectionsOptions are the options of [ServiceClient.CloseAllConnections].
type CloseAllConnectionsOptions struct {
	// Excluded lists the IDs of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive. It may be empty.
	Reason string
}

// CloseGroupConnectionsOptions are the options of [ServiceClient.CloseGroupConnections].
type CloseGroupConnectionsOptions struct {
	// Excluded lists the IDs of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive. It may be empty.
	Reason string
}

// CloseUserConnectionsOptions are the options of [ServiceClient.CloseUserConnections].
type CloseUserConnectionsOptions struct {
	// Excluded lists the IDs of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive. It may be empty.
	Reason string
}

// CloseConnectionOptions are the options of [ServiceClient.CloseConnection].
type CloseConnectionOptions struct {
	// Reason is the text that the client receives. It may be empty.
	Reason string
}

// ListConnectionsInGroupOptions are the options of [ServiceClient.NewListConnectionsInGroupPager] and
// [ServiceClient.ConnectionsInGroup].
type ListConnectionsInGroupOptions struct {
	// MaxPageSize is the maximum number of connections in a page, from 1 to 200. Zero means the service's default, 200.
	MaxPageSize int32

	// Top is the maximum number of connections in all pages together. Zero means no limit.
	Top int32

	// ContinuationToken resumes a list after the [ListConnectionsInGroupPage] that the token comes from. If it is
	// empty, the list starts at the first page.
	ContinuationToken string
}

// GrantPermissionOptions are the options of [ServiceClient.GrantPermission].
type GrantPermissionOptions struct {
	// TargetName is the group that the permission is for. It is required.
	TargetName string
}

// RevokePermissionOptions are the options of [ServiceClient.RevokePermission].
type RevokePermissionOptions struct {
	// TargetName is the group that the permission is for. It is required.
	TargetName string
}

// HasPermissionOptions are the options of [ServiceClient.HasPermission].
type HasPermissionOptions struct {
	// TargetName is the group that the permission is for. It is required.
	TargetName string
}

// ClientAccessTokenOptions are the options of [ServiceClient.GetClientAccessToken].
type ClientAccessTokenOptions struct {
	// UserID is the user of the connection. Empty means that the connection has no user.
	UserID string

	// Roles are the initial permissions of the connection, such as [RoleSendToGroup] or [RoleJoinLeaveGroup]. A connection
	// needs no role to send events. A role that contains webpubsub, sendToGroup or joinLeaveGroup, in any letter case,
	// must be a role of the service. The service ignores your own roles, but an event handler receives them in the claims.
	Roles []string

	// Groups are the groups that the connection joins when it opens.
	Groups []string

	// ExpiresIn is how long the token can be used to connect. It must be at least a minute; zero means one hour. A
	// connection stays open when its token expires. With a TokenCredential, ExpiresIn must be a whole number of
	// minutes, because the service makes the token and accepts only minutes.
	ExpiresIn time.Duration

	// Protocol is the kind of client that connects.
	Protocol ClientProtocol

	// JWTHeaders are additional JWT headers of the token, such as kid. The header alg is not allowed. JWTHeaders
	// require an access key: with a TokenCredential the service makes the token, and accepts no headers.
	JWTHeaders map[string]any
}

// These operations have no options yet. The types exist so that options can be added without breaking callers.
type (
	// GetServiceStatusOptions are the options of [ServiceClient.GetServiceStatus].
	GetServiceStatusOptions struct{}
	// ConnectionExistsOptions are the options of [ServiceClient.ConnectionExists].
	ConnectionExistsOptions struct{}
	// GroupExistsOptions are the options of [ServiceClient.GroupExists].
	GroupExistsOptions struct{}
	// UserExistsOptions are the options of [ServiceClient.UserExists].
	UserExistsOptions struct{}
	// AddConnectionToGroupOptions are the options of [ServiceClient.AddConnectionToGroup].
	AddConnectionToGroupOptions struct{}
	// RemoveConnectionFromGroupOptions are the options of [ServiceClient.RemoveConnectionFromGroup].
	RemoveConnectionFromGroupOptions struct{}
	// RemoveConnectionFromAllGroupsOptions are the options of [ServiceClient.RemoveConnectionFromAllGroups].
	RemoveConnectionFromAllGroupsOptions struct{}
	// AddUserToGroupOptions are the options of [ServiceClient.AddUserToGroup].
	AddUserToGroupOptions struct{}
	// RemoveUserFromGroupOptions are the options of [ServiceClient.RemoveUserFromGroup].
	RemoveUserFromGroupOptions struct{}
	// RemoveUserFromAllGroupsOptions are the options of [ServiceClient.RemoveUserFromAllGroups].
	RemoveUserFromAllGroupsOptions struct{}
	// AddConnectionsToGroupsOptions are the options of [ServiceClient.AddConnectionsToGroups].
	AddConnectionsToGroupsOptions struct{}
	// RemoveConnectionsFromGroupsOptions are the options of [ServiceClient.RemoveConnectionsFromGroups].
	RemoveConnectionsFromGroupsOptions struct{}
)

// valueOf returns *options, or zero options if the pointer is nil.
func valueOf[T any](options *T) T {
	if options == nil {
		return *new(T)
	}
	return *options
}
