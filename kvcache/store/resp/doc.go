// Package resp serves a store.Store through the Redis protocol, so that engines reach it with the clients they have: the
// connectors of LMCache, redis-py, valkey-glide, go-redis.
//
//	server, err := resp.NewServer(resp.Options{Store: tiers})
//	listener, err := net.Listen("tcp", "127.0.0.1:6379")
//	go server.Serve(listener)
//	...
//	server.Shutdown(ctx)
//
// It speaks RESP2, and RESP3 to those who ask with HELLO. The commands are those that a cache of opaque values needs: GET, SET
// with its options, MGET, GETRANGE, EXISTS, DEL and UNLINK, STRLEN, TYPE, TTL and EXPIRE with their relatives, SCAN, DBSIZE, FLUSHDB, and
// what clients say when they connect: HELLO, AUTH, SELECT, CLIENT, INFO, CONFIG GET, COMMAND, PING, ECHO, RESET, QUIT. Others are errors. There are
// no cluster, no scripts, no other types than strings.
//
// A value goes from the socket into the store's own memory, and from there to the socket, without being copied in between
// where the store allows it.
//
// # Keys
//
// A key of the protocol becomes the Hash of a store.Key, in the namespace of the connection's account and database. It has no
// parent: a page that arrives this way is evicted by recency alone, and no KV event tells of it.
//
// # LMCache's native client
//
// That client (resp:// and the L2 adapter "resp") compares replies byte for byte. With Redis, a miss makes it wait for ever. Two things
// keep it well here. A key that EXISTS has found is pinned for Options.ReadLease, so that the GET that follows finds it too. And
// where a connection sounds like that client, which introduces itself with nothing and asks for keys of LMCache's form, what fails
// is answered with as many bytes as it reads, so that it notices and goes on.
//
// # Caveats
//
// Times to live are kept in memory: after a restart of the server a page that had one stays until it is evicted. NX and XX
// are decided by this server alone, not between several that share a store. SCAN lists what was there when it began.
package resp
