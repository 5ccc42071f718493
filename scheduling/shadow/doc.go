// Package shadow scores a plan beside the one that places requests, on the same snapshots, and counts how they differ: what
// would the new profile have done, before it does it.
//
//	candidate, err := scheduling.New(pool, scheduling.Options{Profile: next})
//	s, err := shadow.New(shadow.Options{Name: "next", Scheduler: candidate, Every: 10})
//	live.Observe(1, s)
//	...
//	stats := s.Stats() // agreed, disagreed, regret, cached tokens gained and lost
//
// A comparison happens inside the live scheduler's Pick, once the choice is on the ledger, and takes what the shadow's own
// scoring takes: a few microseconds for a hundred endpoints, for one choice in Options.Every. Nothing queues up.
//
// # What is compared
//
// Each stage's choice by itself: the shadow sees the ledger, the metrics, the prefix match and the random numbers that the
// live plan saw, and after the earlier choices that the live plan made. A shadow of the same plan therefore always agrees,
// however random its picker is. Where the shadow would have done without the stage, that is a disagreement as well.
//
// The regret of a disagreement is how much higher the shadow scored its own choice than the live one, in its own scores, 0 to
// 1; where its filters had removed the live choice there is none. Cached tokens are those of the live plan's match.
//
// # Guarantees
//
//   - Live decisions are the same with a shadow as without.
//   - A shadow reserves nothing and commits nothing, neither to the prefix index nor to any other plugin.
//   - A plugin of a shadow that panics fails one comparison, not the request.
//   - Memory is bounded: a shadow is a few counters.
//
// # Caveats
//
// Since a shadow's choices never happen, the prompts that it would have sent elsewhere are cached where the live plan sent them:
// it is asked for the next step in the live plan's world, not for its own. The policy lab (examples/simulate) answers the other
// question. Plugins that learn from their own choices, such as scorer.ColdLRU and scorer.SessionBinding, learn nothing in a shadow.
// picker.RoundRobin takes a turn whenever it is asked: a shadow must have one of its own.
package shadow
