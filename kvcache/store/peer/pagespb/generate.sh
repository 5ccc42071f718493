#!/bin/sh
# Generates the Go code of pages.proto, with protoc of the Python package grpcio-tools and the plugins of the versions in go.mod.
set -eu
cd "$(dirname "$0")"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install -q grpcio-tools==1.71.0
GOBIN=$tools go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6
GOBIN=$tools go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
PATH=$tools:$PATH "$tools/venv/bin/python" -m grpc_tools.protoc -I. --go_out=. --go_opt=paths=source_relative \
  --go-grpc_out=. --go-grpc_opt=paths=source_relative pages.proto
