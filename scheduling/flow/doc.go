// Package flow decides when a request may run: admission, fairness among tenants, priorities, quotas and deadlines, in front
// of a scheduler that decides where.
//
// A [Controller] is asked in place of the scheduler. [Controller.Acquire] waits until the request's turn has come and an
// endpoint has room, and picks and reserves that endpoint in the same step. What it returns is a scheduling.Decision whose
// reservation is the grant: ending it settles what the tenant was charged and hands the room to the next request, on the
// goroutine that ended it.
//
//	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 64}}
//	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
//	control, err := flow.New(sched, flow.Options{Gate: gate, Tenants: map[string]flow.Tenant{"research": {Weight: 2}}})
//	...
//	d, err := control.Acquire(ctx, &scheduling.Request{Model: "llama", Tenant: "research", Prompt: prompt})
//	if err != nil { ... } // a *flow.Rejected: why, which status, when to try again
//	defer d.Done()
//
// # The parts
//
//   - [Gate] says which endpoints have room. It is a filter of the scheduler's profile, and so knows exactly which endpoints a
//     request could run on, whatever other filters there are. It goes by the pool's ledger, by what engines report, and by
//     limits that it finds out itself ([Adaptive]).
//   - Requests that find no room wait in a lane for each set of endpoints that was full. Lanes make that a full prefill
//     stage, adapter or zone holds up only those that need it. Nobody configures them.
//   - In a lane the highest priority goes first, but for floors ([Band]) and [Options.Aging]. In a priority a [Discipline]
//     shares among tenants, or groups of them: [FairShare], [VTC], [DRR], [RoundRobin], [LeastAttained], [Strict]. A tenant's
//     own requests follow [Options.Order].
//   - Service is measured in tokens of [Cost]: prompt, cached prompt and output weigh differently. A request is charged at
//     dispatch by an estimate of its output, more while it streams if that was too low, and exactly at its end; one that got
//     no token costs nothing.
//   - [Tenant] bounds what runs, waits and is spent. When the queue is full, the least important request of the tenant with most
//     waiting for its weight makes room.
//
// # What is guaranteed
//
//   - Each request has one outcome ([Outcome]), however its cancellation and its grant meet.
//   - The ledger's limits are never exceeded, by however many picks at once, between reports, or while endpoints come and go.
//   - No room is left while a request waits that could use it, unless one that comes before it needs more of the same
//     endpoints than is free: that one is not starved by smaller ones.
//   - Without floors and aging nobody is dispatched before a request of higher priority that could run on the same endpoint
//     and whose tenant is within its limits.
//   - With FairShare the bound that is stated there; who did not wait has saved up nothing.
//   - A request that gives up or expires frees its place in the same step. Nothing polls: there is one timer, for the next
//     deadline or refilled quota, and none while nobody waits. No goroutine is started.
//   - Memory is bounded by what may wait, and by [Options.MaxTenants]. Names of tenants that reach metrics are bounded by
//     [Options.MaxLabels].
//
// # Caveats
//
// Picks are serialised while requests wait; while none do, they are not. A limit on tokens makes a large request that is next
// hold back what is behind it in its lane until it fits. A retry after a failure ([scheduling.Decision.Next]) keeps its grant
// and does not ask the gate. Fairness is kept among those who wait in one lane, and in this process.
package flow
