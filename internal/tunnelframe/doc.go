// Package tunnelframe encodes and decodes the frames of the tunnel, over which the service sends its events to a server
// that has connected to it. Both sides of the tunnel use the same frames.
//
// A frame is one binary WebSocket message: a length of 4 bytes, little-endian, then a MessagePack array of that length,
//
//	[type, JSON text, body]
//
// The JSON text is the message without its body. The body is binary, or nil for none. Only requests and responses have a body.
//
// The protocol is not documented. It was read from the npm package @azure/web-pubsub-socket.io; testdata holds frames which
// that package has encoded.
package tunnelframe
