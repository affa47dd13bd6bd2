package webpubsub

import (
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// ClientOptions are the options of a [ServiceClient]. The zero value is right for most applications.
//
// The embedded [azcore.ClientOptions] are those of every client of the Azure SDK for Go: Transport, Retry, Telemetry,
// TracingProvider, Logging, Cloud, APIVersion, InsecureAllowCredentialWithHTTP and policies of one's own. Of these,
// APIVersion is 2024-12-01 if it is empty; Transport is, if it is nil, one that all clients of this package share and that
// keeps as many idle connections as bursts of sends need; and Cloud decides the scope of tokens from a TokenCredential (see
// [NewClient]). Redirects are followed within the service only. If Transport is an *http.Client, its CheckRedirect is asked
// for each of them, and its Timeout is for each request of a call.
type ClientOptions struct {
	azcore.ClientOptions

	// ReverseProxyEndpoint is the URL of a reverse proxy before the service, as API Management is one. Requests go to it,
	// below its path if it has one; tokens stay made out to the service's own URL. Empty means that requests go to the
	// service itself. Client access tokens and their URLs always name the service.
	ReverseProxyEndpoint string

	// Logger takes a record for each call; nil logs nothing. See [WithLogger] for what is logged, and for one call.
	Logger *slog.Logger
}

// SendToAllOptions are the options of [ServiceClient.SendToAll].
type SendToAllOptions struct {
	// Excluded are the ids of connections that do not get the message.
	Excluded []string

	// Filter says which connections get the message; empty means all.
	Filter Filter

	// MessageTTL is how long the service may hold the message for a connection that cannot take it yet: whole seconds, up
	// to 300. Zero means that the message does not expire.
	MessageTTL time.Duration

	// Metadata goes with the message to clients of the JSON and protobuf subprotocols. It travels as HTTP headers: a key
	// is an HTTP token of at most 256 bytes, whose case HTTP/2 does not keep, and no two keys may differ in case alone; a
	// value is printable ASCII, of at most 1,024 bytes, with no space at its ends; all together are at most 8 KiB.
	Metadata map[string]string
}

// SendToGroupOptions are the options of [ServiceClient.SendToGroup].
type SendToGroupOptions struct {
	// Excluded are the ids of connections that do not get the message.
	Excluded []string

	// Filter says which of the group's connections get the message; empty means all.
	Filter Filter

	// MessageTTL is as in [SendToAllOptions].
	MessageTTL time.Duration

	// Metadata is as in [SendToAllOptions].
	Metadata map[string]string
}

// SendToUserOptions are the options of [ServiceClient.SendToUser].
type SendToUserOptions struct {
	// Filter says which of the user's connections get the message; empty means all.
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

	// Reason is what the clients are told; it may be empty.
	Reason string
}

// CloseGroupConnectionsOptions are the options of [ServiceClient.CloseGroupConnections].
type CloseGroupConnectionsOptions struct {
	// Excluded are the ids of connections that stay open.
	Excluded []string

	// Reason is what the clients are told; it may be empty.
	Reason string
}

// CloseUserConnectionsOptions are the options of [ServiceClient.CloseUserConnections].
type CloseUserConnectionsOptions struct {
	// Excluded are the ids of connections that stay open.
	Excluded []string

	// Reason is what the clients are told; it may be empty.
	Reason string
}

// CloseConnectionOptions are the options of [ServiceClient.CloseConnection].
type CloseConnectionOptions struct {
	// Reason is what the client is told; it may be empty.
	Reason string
}

// ListConnectionsInGroupOptions are the options of [ServiceClient.NewListConnectionsInGroupPager] and
// [ServiceClient.ConnectionsInGroup].
type ListConnectionsInGroupOptions struct {
	// MaxPageSize is the most connections in one page, from 1 to 200; zero leaves it to the service.
	MaxPageSize int32

	// Top is the most connections in all; zero means every connection.
	Top int32

	// ContinuationToken resumes a listing after the page whose [ListConnectionsInGroupPage] it was taken from; empty
	// begins at the beginning.
	ContinuationToken string
}

// GrantPermissionOptions are the options of [ServiceClient.GrantPermission].
type GrantPermissionOptions struct {
	// TargetName is the group that the permission is for; empty means every group.
	TargetName string
}

// RevokePermissionOptions are the options of [ServiceClient.RevokePermission].
type RevokePermissionOptions struct {
	// TargetName is the group that the permission is for; empty means every group.
	TargetName string
}

// HasPermissionOptions are the options of [ServiceClient.HasPermission].
type HasPermissionOptions struct {
	// TargetName is the group that the permission is for; empty means every group.
	TargetName string
}

// ClientAccessTokenOptions are the options of [ServiceClient.GetClientAccessToken].
type ClientAccessTokenOptions struct {
	// UserID is the user that the connection belongs to; empty means none.
	UserID string

	// Roles are what the connection may do from the start: see [RoleSendToGroup], [RoleJoinLeaveGroup] and those beside
	// them. A connection without roles may send events.
	Roles []string

	// Groups are the groups that the connection is in from the start.
	Groups []string

	// ExpiresIn is how long the token can be used to connect, a minute at least; zero means one hour. A connection that
	// was made stays when its token expires. Where the service makes the token, it takes whole minutes.
	ExpiresIn time.Duration

	// Protocol is the kind of client that connects.
	Protocol ClientProtocol

	// JWTHeaders are more headers of the token, as a kid; alg cannot be among them. They need an access key: the service
	// takes none where it makes the token.
	JWTHeaders map[string]any
}

// The operations below have no options yet. Each has the type, so that options can come without a new method.
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
