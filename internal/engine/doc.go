// Package engine models one LLM inference engine as a state machine: requests go in, time is
// moved forward, tokens and KV-cache block events come out.
//
// It behaves as vLLM's v1 scheduler does towards the outside. A request waits first come first
// served, joins the running set, prefills its prompt in chunks that share a token budget with the
// other requests' decode steps, then gains one token a step. KV memory is paged and prefix-hashed:
// blocks that an earlier request left behind are reused, the least recently used ones are evicted,
// and when memory runs out the youngest running request is preempted and computed again later.
//
// There is no goroutine, no wall clock, no randomness and no HTTP in here. The driver owns the
// clock and passes it in as a [time.Duration] since an origin of its choice, so the same code
// serves HTTP in real time, runs faster than real time in tests and is one of a thousand nodes in
// a discrete-event simulation.
//
// The types are few: [Options] (geometry and speed), [Request], [Hooks] (what the engine reports),
// [Engine] and its [Stats].
//
//	e, err := engine.New(0, engine.Options{}, engine.Hooks{Finished: collect})
//	err = e.Submit(now, engine.Request{ID: 1, PromptTokens: 12000, OutputTokens: 340, Blocks: hashes})
//	for at, ok := e.NextChange(); ok; at, ok = e.NextChange() {
//		e.Advance(at)
//	}
//
// # Time
//
// The engine works in steps; a step in flight ends at [Engine.NextStep] and what is submitted
// meanwhile joins the step after it. [Engine.Advance] performs everything that is due. A run of
// decode steps in which nothing but token counts changes is performed as one: Advance(now) reports
// n tokens at once instead of one n times, and costs the same for any n. The result is the same as
// that of stepping through them one by one. A driver that wants every token wakes at NextStep, one
// that wants only the turning points (a first token, an admission, an end) wakes at
// [Engine.NextChange].
//
// # Guarantees
//
//   - Deterministic: the same calls give the same reports, in the same order.
//   - A request that was accepted ends exactly once, in [Hooks.Finished], and produces exactly its
//     OutputTokens unless it is cancelled.
//   - Requests start in the order of submission, except that one whose adapter has no free slot
//     lets later ones pass, and that a preempted one goes to the front of the queue.
//   - The block events, replayed into a set, are at any moment the content of the prefix cache.
//   - A step costs O(running requests) at most; Submit, Advance and Cancel do not allocate in steady
//     state.
//
// # Caveats
//
//   - Not safe for concurrent use; hooks must not call back into the engine.
//   - What is modelled and what is not is listed in [Modelled] and [NotModelled]; docs/validity.md compares
//     the model with a real engine and with measured points.
//   - A request that does not fit into KV memory is tried again when memory is released, not at
//     every step.
//   - Within one Advance the block events of different requests can come in another order than
//     with smaller Advances. Each request's own events keep their order.
package engine
