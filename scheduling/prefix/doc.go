// Package prefix tells a scheduler which endpoints have which prompt prefixes cached. It connects a scheduler to an index of package
// kvcache: [Producer] fills the pick's Match and records the choice within the pick itself, so that the very next pick knows it.
//
//	index, err := prefix.New(prefix.Options{})
//	profile := scheduling.Profile{
//		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
//		Filters:   []scheduling.Filter{filter.Overload{}}, // or a popular prefix piles up on one endpoint
//		Scorers:   []scheduling.Weighted{{Scorer: scorer.Prefix{}, Weight: 3}},
//	}
//
// # Guesses, and what engines say
//
// An index from [New] knows what was routed where. Each endpoint is believed to hold as many blocks as its cache has room for; when
// it is full its least recently used blocks go, the tail of a prompt before its head, as engines evict.
//
// An index from kvcache.New with a GuessFor is told what engines hold by their events, applied to the pod whose ID and generation are
// the endpoint's slot and its generation; the Producer opens and closes these. What was routed is then believed until an event
// settles it, or for that long. An endpoint's Model must be the one that requests name.
//
// # Guarantees
//
//   - Memory is bounded by Options.MaxBytes. It is reserved by New and becomes resident as it fills.
//   - Matching takes no lock and does not wait for updates. Recording a choice takes a lock for about a microsecond.
//   - Removing an endpoint takes time in proportion to what it holds.
//   - A match never claims more than was recorded for the endpoint's current generation.
//
// # Caveats
//
// Without events it is a guess about engines: they may have evicted earlier, or hold more (the answers that they generated). One
// index serves one pool. Endpoints may have different block sizes; each size is hashed once a pick.
package prefix
