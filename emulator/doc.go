// Package emulator is Azure Web PubSub in process: the REST API, the WebSocket clients and their protocols, on real
// state, on a loopback port, for tests and local development.
//
//	srv := emulator.StartT(t, nil) // closed when the test ends
//	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
//
// A [Server] is a stand-in for one Web PubSub resource: an endpoint, an access key, and as many hubs as are asked for.
// It checks what the service checks (tokens, names, sizes) and answers with the service's status codes and error
// bodies. It keeps everything in memory and is not meant to face a network.
//
// A test does to it what it could not do to the service: it lets requests and handshakes fail ([Server.InjectFault]),
// cuts clients off ([Server.DropConnection]), moves the clock ([Server.Advance]), waits for clients to be where they
// should be ([Server.WaitForConnections]), and looks inside ([Server.Connections], [Server.Requests]). Nothing of that
// takes a sleep.
//
// The application that the service tells of its clients' events is given by [Server.SetHubSettings]: a URL, or an
// http.Handler in the same process.
package emulator
