// Command kvstore is a daemon that keeps KV-cache pages in tiers, CPU memory first, and serves them to engines through protocols
// that they speak already: the Redis protocol, for the connectors of LMCache among others, gRPC and HTTP.
//
//	go run ./examples/kvstore -memory 8GiB -disk /nvme/kv -disk-size 200GiB
//
// then, for LMCache,
//
//	LMCACHE_REMOTE_URL=redis://127.0.0.1:6379 vllm serve ...
//
// # Tiers
//
// Pages are in memory (-memory) and on a local disk (-disk), then at peers (-peers, or -peers-name behind a headless Kubernetes
// service), in Redis or Valkey (-redis) and in S3 (-s3, with the usual AWS_ variables of the environment). What leaves memory goes to
// the disk; peers and Redis get every page, S3 those that come a second time; and what is found further down comes up again. Peers
// see what is in memory and on the disk.
//
// With -events routers are told which blocks are in memory and on the disk, as engines tell of theirs. That is of pages whose
// place in a prefix is known, which gRPC and HTTP can say and the Redis protocol cannot.
//
// # Who may do what
//
// Without -accounts everybody may do everything, so listen on loopback only. The file of -accounts is JSON:
//
//	{"engines": {"password_sha256": "5e88...", "namespace": "llama"}, "peers": {"password_sha256": "...", "namespace": "*"}}
//
// An account sees the pages of its namespace; "*" is all of them, for peers and operators. The Redis protocol has it by AUTH, where
// "default" is the account of those who name none; HTTP and gRPC by basic authentication. -tls-cert and -tls-key encrypt all
// listeners, -tls-client-ca asks clients for certificates.
//
// # Looking at it
//
// The HTTP listener has a status page at /, /metrics for Prometheus, and /healthz and /readyz. They need no account and tell
// numbers only. Interrupt it to stop: it stops accepting, answers what has begun within -grace, and writes what it must.
package main

import "github.com/inferloom/inferloom/examples/internal/program"

func main() { program.Main("kvstore", run) }
