// Package pb contains the frames of the protobuf subprotocols: webpubsub.proto and the Go code generated from it.
//
// After changing webpubsub.proto, run go generate in this directory. It requires protoc and protoc-gen-go in the PATH:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
package pb

//go:generate protoc -I=../.. --go_out=../.. --go_opt=paths=source_relative internal/pb/webpubsub.proto
