// Package kvcache knows which pod holds which KV blocks in which tier.
//
// An [Index] is told what engines store and remove ([Index.Apply], with the events of package events) and answers, for the
// block hashes of a prompt, how much of it each pod can use ([Index.Match]).
//
//	x, err := kvcache.New(kvcache.Options{})
//	pod := kvcache.Pod{ID: 3, Generation: 1}
//	err = x.Open(pod, kvcache.PodOptions{Name: "10.0.0.7:8000", Model: "llama"})
//	x.ApplyBatch(pod, message.Sequence, message.Batch)
//	...
//	space := kvcache.Space{Model: "llama", BlockTokens: 16}
//	chain = space.Append(chain[:0], tokens, nil)
//	x.Match(chain, 16, among, &matches) // matches.Blocks[3] is the longest prefix that pod 3 can use
//
// # Two kinds of hashes
//
// A prompt is asked for by request hashes, which this process computes: see [Space]. Engines name blocks by hashes of their
// own, which another process often cannot compute. The index learns which engine hash means which block from events that come
// with tokens, and understands all that follow: removals, offloading events without tokens, and chains that continue.
// Where an event continues a block that is not known, its blocks wait, and fall into place when that block appears.
//
// # Pods, tiers and groups
//
// A [Pod] is one publisher of events: an engine, or one data-parallel rank of it. Its ID is small and given by the caller,
// as the scheduler's slots are; its generation tells engines apart that have had the same ID, so that a late event never
// counts for the next. A pod may be a store that others read: see [Index.Share].
//
// A block is held in a tier, and several tiers may hold it. In models of several attention groups it is held for a group,
// and a prefix is usable as far as every group can go on from it: full attention needs all of its blocks, a sliding window
// those that it covers, a state-space layer its state at the very end.
//
// # Guesses
//
// [Index.Speculate] records that a prompt was sent to a pod, before any event tells. An event about a block settles what
// was guessed of it; else time does. Without events, guesses alone make an approximate index, as package scheduling/prefix
// uses it: each pod then has as many blocks as its capacity, the least recently used ones leaving first.
//
// # Guarantees
//
//   - A match never claims more than what was applied: holes count, events of past generations do not, and what is guessed is
//     told apart.
//   - Memory is bounded by Options.MaxBytes. When it is full, runs of blocks that have not been used lately are forgotten.
//   - Matching takes no lock, does not wait for updates and does not allocate.
//   - Closing a pod takes time in proportion to what it holds.
//
// # Caveats
//
// Hashes are 64 bits and are believed. One lock orders all updates.
package kvcache
