// Package emulator runs Azure Web PubSub in process, for tests and local development: the REST API, the WebSocket clients
// and their protocols, on real state, on a loopback port.
//
//	server := emulator.StartT(t, nil) // closed when the test ends
//	client, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
//
// A [Server] stands in for one Web PubSub resource: an endpoint, two access keys, and any number of hubs. It checks what the
// service checks, such as tokens, names and sizes, and answers with the service's status codes and error bodies. It keeps
// everything in memory and must not face a network.
//
// A test can do with the server what it cannot do with the service:
//
//   - Requests fail on purpose: [Server.InjectFault] for REST requests and handshakes, [Server.InjectClientFault] for the
//     requests of connected clients.
//   - Connections break: [Server.DropConnection], [Server.SilenceConnection], [Server.CloseConnection].
//   - The clock moves: [Server.Advance].
//   - The test waits for a state instead of sleeping: [Server.WaitForConnections], [Server.WaitForRequests],
//     [Server.WaitForEvents] and others.
//   - The test looks inside: [Server.Connections], [Server.Requests], [Server.Events] and others.
//
// [Server.SetHubSettings] sets the application that receives the events of clients: a URL, or an http.Handler in the same
// process.
package emulator
