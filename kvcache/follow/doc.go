// Package follow keeps a kvcache.Index in step with a changing set of engines.
//
//	f, err := follow.New(follow.Options{Index: index})
//	err = f.Set([]follow.Engine{{Name: "10.0.0.7:8000", Endpoint: "tcp://10.0.0.7:5557", Replay: "tcp://10.0.0.7:5558", Model: "llama"}})
//	err = f.Run(ctx) // ends with ctx
//
// A [Follower] subscribes to each engine's KV events and applies them, one goroutine an engine. Set, Add and Remove change
// who is followed, at any time. Health tells how each does, and Problems in sentences why prompts might not be found.
//
// Engines that connect by themselves are followed as well: [Follower.Serve] accepts them.
//
// # What can go wrong, and what then happens
//
//   - Batches are missing: the subscriber fetches them from the replay endpoint. Where there is none, or it has forgotten them,
//     the engine's blocks are forgotten and what comes next is applied as before; with Options.KeepOnGap they are kept, and
//     the engine is Degraded until it clears its cache or restarts.
//   - The engine restarts: its blocks are forgotten, and all that its replay still has is applied.
//   - An engine is removed while its events are under way: they change nothing, as its pod has been closed.
//   - The index is slower than an engine: the connection is not read meanwhile, so the engine's socket fills and then drops,
//     which is the first case.
//
// # Replicas
//
// [Follower.WriteSnapshot] writes the index with the place in each engine's events that it has come to. Another process begins
// with it: [Follower.Join] holds new events back until it has loaded a snapshot of somebody who goes on reading, and then goes on
// exactly behind. Nothing is missing in between and nothing is applied twice, with a replay endpoint or without. Engines are
// recognised by their names; those that the snapshot lacks begin as ever.
//
// # Caveats
//
// Without a replay endpoint, what an engine cached before it was followed is not known, and never will be.
package follow
