// Package redisindex keeps in Redis or Valkey which engine holds which KV blocks, for routers that want no index of their own.
//
//	shared, err := redisindex.New(redisindex.Options{Client: client})
//	pod, err := shared.Open(ctx, "llama-3-8b", "10.0.0.7:8000") // in one process for each engine
//	sub, err := events.NewSubscriber(o, pod)
//	...
//	holders, err := shared.Match(ctx, "llama-3-8b", hashes) // in any router
//
// Keys are the hashes that engines publish. A router must be able to compute them (package blockhash), so engines must hash
// alike and reproducibly, adapters and salts included: vLLM with --prefix-caching-hash-algo sha256_cbor. Where engines hash
// otherwise, use kvcache.Index, which learns from their tokens.
//
// # What is stored
//
// prefix:b:model:hash is a Redis hash of one field a holder and tier, with the holder's generation as its value.
// prefix:p:model says which generation of each pod counts. A pod is cleared by giving it a new generation: what it held is then
// ignored, and goes when it expires.
//
// # Guarantees
//
// A match claims only what events said, as of when the answer was read. A write that fails makes the pod start over with a new
// generation at its next batch that Redis answers, so that no block is claimed for long whose removal was lost.
//
// # Caveats
//
// A match takes about log2(blocks/32) round trips and transfers every field of every block that it walks over: milliseconds where
// kvcache.Index takes microseconds, and a load on Redis that grows with prompts times holders. It is stale by the delay of the
// writer. One process must write for a pod: when two do, what each holds back from the other shows as missing, never as too much.
// Blocks that engines hold for longer than Options.TTL without storing them again are forgotten. Cache groups of hybrid models
// are not told apart: sparse ones are left out.
package redisindex
