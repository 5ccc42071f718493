// Package engineevents follows the KV events of whatever engines are in a pool, so that an index knows what they hold.
//
//	index, err := kvcache.New(kvcache.Options{})
//	follower, err := follow.New(follow.Options{Index: index})
//	watcher, err := engineevents.New(engineevents.Options{Pool: pool, Follower: follower, Port: 5557, ReplayPort: 5558})
//	go follower.Run(ctx)
//	go watcher.Run(ctx)
//
// An endpoint's slot and generation in the pool are its pod's ID and generation in the index, so what the index answers is in the
// scheduler's order, and an endpoint that leaves the pool leaves the index at once. Its name in the index is its ID.
//
// Where an engine publishes is its host and a port for all, which engines raise by the data-parallel rank, or what the endpoint's
// labels kv-events and kv-replay say, "tcp://host:port", as they are.
package engineevents
