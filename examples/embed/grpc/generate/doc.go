// Package generate is the small protocol of the gRPC example, generated from generate.proto.
package generate

//go:generate python3 -m grpc_tools.protoc -I . --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative generate.proto
