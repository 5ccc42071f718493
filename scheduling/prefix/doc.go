// Package prefix knows which endpoint was sent which prompt prefix, and so which of them likely has its KV blocks cached.
//
// An [Index] is told what was routed where and answers, for a prompt, how many blocks each endpoint has seen, contiguously
// from the first. [Producer] plugs it into a scheduler: it fills the pick's Match and records the choice within the pick
// itself, so that the very next pick knows it.
//
//	index, err := prefix.New(prefix.Options{})
//	profile := scheduling.Profile{
//		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
//		Filters:   []scheduling.Filter{filter.Overload{}}, // or a popular prefix piles up on one endpoint
//		Scorers:   []scheduling.Weighted{{Scorer: scorer.Prefix{}, Weight: 3}},
//	}
//
// # How it works
//
// Prompts come as chains of block hashes, in which a hash stands for its block and all before it. The index stores them as
// a forest of runs: a run is a stretch of blocks that always occur together, with one bit for each endpoint that holds it.
// Where prompts part, a run is split. A lookup finds the run that begins with the prompt's next hash, compares its last
// hash with the prompt's (equal means that all between are), narrows the set of endpoints by the run's bits, and goes on
// behind it: a few steps for a prompt of hundreds of blocks.
//
// Each endpoint holds as many blocks as its cache does. When it is full, its least recently used blocks go, the tail of a
// prompt before its head, as engines evict.
//
// # Guarantees
//
//   - Memory is bounded by Options.MaxBytes. It is reserved by New and becomes resident as it fills.
//   - Matching takes no lock and does not wait for updates. Recording a choice takes a lock for well under a microsecond.
//   - Removing an endpoint takes time in proportion to its own runs.
//   - A match never claims more than was recorded for the endpoint's current generation.
//
// # Caveats
//
// It is a guess about engines: they may have evicted earlier, or hold more (the answers that they generated). One index
// serves one pool. Endpoints may have different block sizes; each size is hashed once a pick.
package prefix
