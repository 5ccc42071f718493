// Package redis keeps pages in a Redis or Valkey server, or cluster, through the client go-redis.
//
//	client := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
//	level, err := redis.New(redis.Options{Client: client, TTL: time.Hour})
//
// A page is one string, checksummed, under Options.Prefix and the key's name, so that several stores and other programs can
// share a server. What engines write through their own connectors is of another form and is not seen here; package resp is
// the other direction, a store served to such clients.
//
// # Caveats
//
// The server evicts as it is configured (maxmemory and its policy), and tells nobody: a page cannot be pinned, and no events come
// from this level. The context's deadline is honoured within a command only by clients with ContextTimeoutEnabled.
package redis
