// Package scheduling chooses which inference engine serves a request, and keeps account of what it chose.
//
// A [Pool] holds the endpoints and the ledger: how many requests, prompt tokens still to prefill and KV tokens this
// process has in flight on each of them. A [Scheduler] runs a [Profile] over the pool: producers compute what several
// plugins need (above all the prefix match), filters drop endpoints, scorers rate the rest between 0 and 1, a picker
// orders them. [Scheduler.Pick] returns a [Decision]: the chosen endpoint, ranked fallbacks, and a [Reservation] that
// ends with Done.
//
//	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
//	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default()})
//	...
//	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: scheduling.Prompt{Text: body}})
//	if err != nil { ... }
//	defer d.Done()
//	proxyTo(d.Endpoint.Address, w, r)
//
// # Stages
//
// Where parts of a request run on different endpoints, [Options.Stages] takes the place of the profile: encode, prefill and
// decode, or whatever they are called. Each [Stage] has a profile of its own, may run for some requests only, and sees what
// the stages before it chose. All that run are reserved, or none is. [Decision.Stage] has the result of each; Done ends all.
//
// # Writing a plugin
//
// A plugin works on slots: an endpoint keeps one slot, a small dense integer, for as long as it is in the pool. A scorer
// fills a slice that the scheduler owns, and says [Abstain] where it cannot know:
//
//	type FewestRunning struct{}
//
//	func (FewestRunning) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
//		running := c.Metric(scheduling.Running)
//		for i, slot := range slots {
//			if n, ok := running.At(slot); ok {
//				scores[i] = 1 / (1 + n)
//			} else {
//				scores[i] = scheduling.Abstain
//			}
//		}
//	}
//
// A plugin whose parameters can be wrong is a [Validator], one that learns from choices a [Committer]; what depends on labels
// is kept in a [PerLayout].
//
// The built-in plugins are in the folders filter, scorer, picker and condition, the prefix index in prefix, and ready-made
// profiles in policy.
//
// # What another plan would have chosen
//
// An [Observer] (see [Scheduler.Observe]) is told of choices as [Moment] values: all that a choice was made from. [Scheduler.Weigh] is
// another scheduler's verdict on one. Package shadow compares plans with it while they run, package replay from recordings.
// [Scheduler.Preview] chooses without effects.
//
// # What is guaranteed
//
//   - Choosing and accounting are one step. A pick scores a frozen view of the ledger and commits only if the chosen
//     endpoint has received nothing since; otherwise it scores again. A burst of equal requests on idle endpoints
//     therefore spreads within one of even, however many cores pick at once.
//   - A reservation ends exactly once. A second Done, or a Done on a copy, does nothing; an endpoint that was replaced
//     in its slot is not charged for its predecessor.
//   - Absent is not zero. A metric that is missing, not finite, or older than Options.MaxMetricAge makes its scorer
//     abstain. An abstaining scorer counts for that endpoint what it gave the others on average, and where it abstains
//     for all, its weight goes to the other scorers: not knowing neither favours nor punishes.
//   - Readers take no lock. A pick reads one immutable [Snapshot] and atomics, and allocates nothing in steady state.
//   - No global state: clock and random seed are options, and two schedulers in one process never meet.
//
// # Caveats
//
// The ledger counts what this process placed. Load from elsewhere is seen where other processes tell theirs (package peers,
// by Pool.SetRemote), and through the metrics that are reported to the pool. A reservation that is never ended is charged for
// ever: end it with defer.
package scheduling
