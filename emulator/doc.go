// Package emulator runs an in-process Azure Web PubSub for tests and local development. It serves the REST API and WebSocket
// clients in all their protocols, on a loopback port.
//
//	server := emulator.StartT(t, nil) // closed when the test ends
//	client, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
//
// A [Server] stands in for one Web PubSub resource: an endpoint, two access keys, and any number of hubs. Hubs need not be
// created. Like the service, a Server checks tokens, names and sizes, and responds with the service's status codes and error
// bodies. All state is in memory. Do not expose a Server to a network: anyone who can reach it can fill its memory.
//
// A test can do things with a Server that the service does not allow:
//
//   - Make requests fail: [Server.InjectFault] for REST requests and handshakes, [Server.InjectClientFault] for the requests of
//     connected clients.
//   - Break connections: [Server.DropConnection], [Server.SilenceConnection], [Server.CloseConnection].
//   - Advance the clock: [Server.Advance].
//   - Wait for a state instead of sleeping: [Server.WaitForConnections], [Server.WaitForRequests], [Server.WaitForEvents] and
//     others.
//   - Inspect the state: [Server.Connections], [Server.Requests], [Server.Events] and others.
//
// [Server.SetHubSettings] sets where a hub's events go: to a URL, or to an http.Handler in the same process.
package emulator
