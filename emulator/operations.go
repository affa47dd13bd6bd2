package emulator

// Operation names an operation of the server. A REST operation has the name of the method of webpubsub.ServiceClient that sends
// it.
type Operation string

// The operations of the REST API. OperationListConnectionsInGroup is the request behind ConnectionsInGroup and its pager.
const (
	OperationAddConnectionToGroup          Operation = "AddConnectionToGroup"
	OperationAddConnectionsToGroups        Operation = "AddConnectionsToGroups"
	OperationAddUserToGroup                Operation = "AddUserToGroup"
	OperationCloseAllConnections           Operation = "CloseAllConnections"
	OperationCloseConnection               Operation = "CloseConnection"
	OperationCloseGroupConnections         Operation = "CloseGroupConnections"
	OperationCloseUserConnections          Operation = "CloseUserConnections"
	OperationConnectionExists              Operation = "ConnectionExists"
	OperationGetClientAccessToken          Operation = "GetClientAccessToken"
	OperationGetServiceStatus              Operation = "GetServiceStatus"
	OperationGrantPermission               Operation = "GrantPermission"
	OperationGroupExists                   Operation = "GroupExists"
	OperationHasPermission                 Operation = "HasPermission"
	OperationListConnectionsInGroup        Operation = "ListConnectionsInGroup"
	OperationRemoveConnectionFromAllGroups Operation = "RemoveConnectionFromAllGroups"
	OperationRemoveConnectionFromGroup     Operation = "RemoveConnectionFromGroup"
	OperationRemoveConnectionsFromGroups   Operation = "RemoveConnectionsFromGroups"
	OperationRemoveUserFromAllGroups       Operation = "RemoveUserFromAllGroups"
	OperationRemoveUserFromGroup           Operation = "RemoveUserFromGroup"
	OperationRevokePermission              Operation = "RevokePermission"
	OperationSendToAll                     Operation = "SendToAll"
	OperationSendToConnection              Operation = "SendToConnection"
	OperationSendToGroup                   Operation = "SendToGroup"
	OperationSendToUser                    Operation = "SendToUser"
	OperationUserExists                    Operation = "UserExists"
)

// Permission is a permission of a client for groups.
type Permission string

const (
	// PermissionSendToGroup allows a client to send to a group.
	PermissionSendToGroup Permission = "sendToGroup"
	// PermissionJoinLeaveGroup allows a client to join and leave a group.
	PermissionJoinLeaveGroup Permission = "joinLeaveGroup"
)
