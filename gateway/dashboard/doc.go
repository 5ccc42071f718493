// Package dashboard is the live page of a gateway: its endpoints, the rate, latency and failures of the last minutes, and
// the last scheduling decisions with their explanations.
//
// A [Dashboard] is both ends of that. It is a gateway.Observer that is told of every request that ends, and an
// http.Handler for /dashboard (the page) and /dashboard/data (what the page shows, as JSON, fetched once a second while
// the page is visible).
//
//	live, err := dashboard.New(dashboard.Options{Pool: pool})
//	if err != nil { ... }
//	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Observer: live, ExplainEvery: 10})
//	...
//	mux.Handle("/dashboard", live)
//	mux.Handle("/dashboard/", live)
//
// What is in flight comes from the pool's ledger and what engines report from its snapshot, both read when the page asks.
// Everything else is counted from the records as they come. A request counts when it ends, not when it starts.
//
// # Guarantees
//
//   - Observe waits for nothing but a short mutex, and allocates nothing for a request that was answered (the first one
//     of an endpoint aside). One that failed costs the text of its error.
//   - Memory is bounded: about 45 KiB for the gateway, 9 KiB an endpoint with the default options, at most as many
//     endpoints as the pool holds, and the last records of [Options.Decisions] and [Options.Failures]. Names that clients
//     choose are cut before they are kept. No goroutine is started.
//   - Counts are exact for the steps that a window covers. Quantiles come from histograms and are within 5% of the
//     nearest-rank quantile, for times between 0.1 ms and 1000 s.
//   - Absent is not zero: what is not known is null in the JSON and a dash on the page. A hit ratio counts only requests
//     whose engine said how many prompt tokens were cached.
//   - The page is one document. It loads nothing, runs only the script whose hash its Content-Security-Policy names, and
//     writes data as text nodes only: a model's name is chosen by whoever sends a request.
//
// # Caveats
//
// There is no access control: put the handler behind your own, for it shows endpoint addresses, model names and error
// texts (never prompts). A record names only the last endpoint that a request was sent to, so a failure that a retry
// made good is no error of the first one. A refusal that the engine itself answers (4xx) counts as answered. The JSON is
// for this page and changes with it.
package dashboard
