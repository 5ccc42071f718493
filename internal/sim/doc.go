// Package sim is the policy lab: a discrete-event simulator of a cluster of inference engines behind a gateway's brain. The
// brain is the production code (a scheduling.Pool, a scheduling.Scheduler and what is plugged into them) under a virtual
// clock and seeded randomness; the engines are state machines of package engine; only time and the network are made up.
//
//	result, err := sim.Run(ctx, sim.Config{
//		Seed:     1,
//		Fleet:    []sim.Group{{Count: 64}},
//		Workload: source, // any workload.Source
//		Policy:   sim.MustPolicy("default"),
//		SLO:      sim.SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond},
//	})
//	fmt.Println(result.TTFT.Quantile(0.95), result.Goodput(), result.HitRatio())
//
// The types: [Config] says what to simulate, [Group] and [engine.Options] what the fleet is like, [Policy] how endpoints are
// chosen ([Policies] lists the built-in ones). [Run] returns a [Result] of totals and histograms; an [Observer] is told each
// request's [Outcome] and, at intervals, a [Sample] of the fleet. [FindCapacity] finds the load that a policy can just bear.
//
// # What is simulated
//
//   - Arrivals are a workload's. A later turn of a session waits for the answer to the one before.
//   - Each request is picked by the scheduler, submitted to the engine, and its reservation is told of the first token, of
//     further tokens and of the end, as a gateway does. One that an engine refuses or loses before its first token is moved
//     with Decision.Next.
//   - Engines report their metrics at an interval, late and with losses if so configured ([Scrape]).
//   - Engines crash, start again, slow down, join and leave ([Faults], [Scaling]).
//   - With [Disagg], a prompt is prefilled by one endpoint and decoded by another, with a transfer of its KV blocks over the
//     links of both.
//   - Several gateways can share the fleet and see of each other's requests what engines report.
//   - Flow control (Config.Flow) decides when requests run, or a [Gate] holds them back before the pick; an [Autoscaler] can change
//     the number of replicas.
//
// # Guarantees
//
//   - The same configuration and workload give the same decision log, byte by byte, whatever GOMAXPROCS is.
//   - No decision depends on what has not happened: the log up to a moment is the same whatever arrives later, and the
//     scheduler is not told how long an answer will be. The one exception says so: the policy "oracle".
//   - Each request that arrives ends exactly once, in one [Class].
//   - Nothing is kept of a request that has ended; memory is that of the engines, the prefix index and what is in flight.
//
// # Caveats
//
// The network between client, gateway and engine takes no time, and neither does a decision. The time model is that of
// package engine.
package sim
