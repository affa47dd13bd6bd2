package webpubsub

import (
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// ClientOptions are the options of a [ServiceClient]. The zero value is right for most applications.
//
// The embedded [azcore.ClientOptions] are common to the clients of the Azure SDK for Go:
//   - Retry decides how often and when a request is sent again.
//   - Transport is the HTTP client. If it is nil, the client uses a transport that all clients of this package share, with
//     enough idle connections for bursts of sends. If it is an *http.Client, its CheckRedirect is called for each redirect
//     and its Timeout applies to each attempt. Redirects are followed within the service only.
//   - Cloud decides the scope of tokens from a TokenCredential; see [NewClient].
//   - APIVersion is 2024-12-01 if it is empty.
//   - Telemetry decides the User-Agent, which is awps-go-webpubsub/VERSION with the version of Go and the operating system.
//     ApplicationID, up to 24 bytes, comes before it. Disabled leaves it to the transport.
//   - TracingProvider, Logging, InsecureAllowCredentialWithHTTP, PerCallPolicies and PerRetryPolicies are as in azcore.
type ClientOptions struct {
	azcore.ClientOptions

	// ReverseProxyEndpoint is the URL of a reverse proxy in front of the service, such as API Management. Requests go to
	// it, below its path if it has one. Tokens are still made out to the service's own URL, and client access tokens and
	// their URLs name the service. Empty means that requests go to the service.
	ReverseProxyEndpoint string

	// Logger receives a record for each call; nil logs nothing. See [WithLogger] for the content, and for one call.
	Logger *slog.Logger
}

// SendToAllOptions are the options of [ServiceClient.SendToAll].
type SendToAllOptions struct {
	// Excluded are the ids of connections that do not receive the message.
	Excluded []string

	// Filter selects the connections that receive the message; empty means all.
	Filter Filter

	// MessageTTL is how long the service keeps the message for a connection that cannot receive it yet: a whole number of
	// seconds, up to 300. Zero means that the message does not expire.
	MessageTTL time.Duration

	// Metadata goes with the message to clients of the JSON and protobuf subprotocols. It travels as HTTP headers:
	//   - A key is an HTTP token of at most 256 bytes. Clients receive it in lower case, and no two keys may differ in
	//     case only.
	//   - A value is printable ASCII of at most 1,024 bytes, with no space at its ends and no comma: the service delivers
	//     only what follows the last comma.
	//   - All keys and values together have at most 8 KiB.
	Metadata map[string]string
}

// SendToGroupOptions are the options of [ServiceClient.SendToGroup].
type SendToGroupOptions struct {
	// Excluded are the ids of connections that do not receive the message.
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
	// Excluded are the ids of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive; it may be empty.
	Reason string
}

// CloseGroupConnectionsOptions are the options of [ServiceClient.CloseGroupConnections].
type CloseGroupConnectionsOptions struct {
	// Excluded are the ids of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive; it may be empty.
	Reason string
}

// CloseUserConnectionsOptions are the options of [ServiceClient.CloseUserConnections].
type CloseUserConnectionsOptions struct {
	// Excluded are the ids of connections that stay open.
	Excluded []string

	// Reason is the text that the clients receive; it may be empty.
	Reason string
}

// CloseConnectionOptions are the options of [ServiceClient.CloseConnection].
type CloseConnectionOptions struct {
	// Reason is the text that the client receives; it may be empty.
	Reason string
}

// ListConnectionsInGroupOptions are the options of [ServiceClient.NewListConnectionsInGroupPager] and
// [ServiceClient.ConnectionsInGroup].
type ListConnectionsInGroupOptions struct {
	// MaxPageSize is the largest number of connections in one page, from 1 to 200; zero means the service's default, 200.
	MaxPageSize int32

	// Top is the largest number of connections in all pages; zero means every connection.
	Top int32

	// ContinuationToken resumes a list after the [ListConnectionsInGroupPage] that it was taken from; empty begins at the
	// beginning.
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
	// UserID is the user of the connection; empty means none.
	UserID string

	// Roles are the rights of the connection from the start: see [RoleSendToGroup], [RoleJoinLeaveGroup] and the names
	// beside them. A connection without roles may send events. A role of the service that is misspelt is refused. Other
	// roles mean nothing to the service; an event handler sees them among the claims.
	Roles []string

	// Groups are the groups that the connection is in from the start.
	Groups []string

	// ExpiresIn is how long the token can be used to connect, at least a minute. Zero means one hour. A connection stays
	// open when its token expires. With a TokenCredential, ExpiresIn must be a whole number of minutes: the service, which
	// makes the token then, accepts only these.
	ExpiresIn time.Duration

	// Protocol is the kind of client that connects.
	Protocol ClientProtocol

	// JWTHeaders are additional headers of the token, such as kid. The header alg is not allowed. They need an access key:
	// the service accepts none when it makes the token.
	JWTHeaders map[string]any
}

// The operations below have no options yet. Each has the type, so that options can be added without a new method.
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

// valueOf returns the options, or the zero options where the caller gave nil.
func valueOf[T any](options *T) T {
	if options == nil {
		return *new(T)
	}
	return *options
}
