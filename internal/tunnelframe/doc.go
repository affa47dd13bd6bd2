// Package tunnelframe encodes and decodes the frames of the tunnel. Through the tunnel, the service sends events to a
// server that has connected to the service. Both sides of the tunnel use the same frames.
//
// A frame is one binary WebSocket message. It consists of a length (4 bytes, little-endian) and a MessagePack array of
// that length:
//
//	[type, JSON text, body]
//
// The JSON text is the message without its body. The body is binary, or nil if there is none. Only requests and
// responses have a body.
//
// The protocol is not documented. We derived it from the npm package @azure/web-pubsub-socket.io. The directory
// testdata contains frames that this npm package encoded.
package tunnelframe
