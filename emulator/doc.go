// Package emulator is Azure Web PubSub in process: the REST API, the WebSocket clients and their protocols, on real
// state, on a loopback port, for tests and local development.
//
//	srv := emulator.StartT(t, nil) // closed when the test ends
//	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
//
// A [Server] is a stand-in for one Web PubSub resource: an endpoint, an access key, and as many hubs as are asked for.
// It checks what the service checks (tokens, names, sizes) and answers with the service's status codes and error
// bodies. It keeps everything in memory and is not meant to face a network.
package emulator
