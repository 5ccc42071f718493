// Package latency predicts, in process and online, how long requests will take: the time to the first token (TTFT) and the
// time between tokens (TPOT), as distributions, for each endpoint of a pool.
//
// A [Model] learns from what requests took; a [Producer] fills each pick's predictions from it; scorers, an admission filter
// and terms of scorer.Cost go by these.
//
//	model, err := latency.New(latency.Options{})
//	producer := &latency.Producer{Model: model}
//	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
//		Producers: []scheduling.Producer{&prefix.Producer{Index: index}, producer},
//		Filters:   []scheduling.Filter{latency.Admit{}},
//		Scorers:   []scheduling.Weighted{{Scorer: latency.Meets{}}},
//	}})
//
//	d, err := sched.Pick(ctx, request)                // d.Predicted.TTFT, d.Predicted.Meets
//	model.ObserveTTFT(&d.Predicted, untilFirstToken)  // gateway.BrainOptions.Learner calls these
//	model.ObserveTPOT(&d.Predicted, betweenTokens)
//
// # How it predicts
//
// Endpoints that are alike, by model, role and accelerator, are a class and share what is learned. For each class and each of
// the two times there are three stages.
//
//   - A physical model: the time is a sum of terms, each a count of work times seconds per unit. The counts are known at the
//     pick (tokens of the prompt that are not cached, prompt tokens ahead, requests and KV tokens in flight, requests waiting,
//     tokens beyond the KV cache, prompt tokens that lately came per second). The seconds per unit start at a [Prior], which
//     [PriorOf] takes from package accel, and are fitted to what was observed by recursive least squares of the relative error
//     with exponential forgetting, none below zero. So a prediction is positive, and grows with each count.
//   - A bias: the mean log ratio of observed to predicted, of the class and of each endpoint, the endpoint's shrunk towards
//     the class's the fewer and the older its observations are. It follows a sudden change long before the fit has forgotten
//     what was, and knows a slow pod.
//   - A distribution: the last ratios of observed to predicted time, kept apart by how much of the time is spent waiting. The
//     quantile that predictions are given at is calibrated by adaptive conformal inference (Gibbs and Candès, "Adaptive
//     Conformal Inference Under Distribution Shift", NeurIPS 2021): the level moves by γ(α-err) with each observation, so that
//     over T observations the share that exceeded their prediction differs from α by at most the range of the level over γT,
//     whatever the data are, as long as the level does not reach the end of its range.
//
// The first stage generalises to loads that have not been seen, the second to drift, the third to what neither explains.
//
// # What is guaranteed
//
//   - Predictions are finite and positive, quantiles are in order, the probability of meeting an objective falls with load.
//     A metric that is absent or stale is replaced by what the ledger knows; an observation that is not a positive finite time
//     is dropped.
//   - Readers take no lock and allocate nothing: a pick reads one immutable snapshot of coefficients for each class.
//   - Observing takes a lock of the class for about two microseconds, in the goroutine that observed. There is no other
//     goroutine.
//   - Merging is addition of sufficient statistics: the order does not matter, and a replica's last word replaces the one
//     before, so it can be repeated.
//
// # Caveats
//
// Only what was chosen is observed: what is learned of an endpoint fades with a half-life so that one that was slow is tried
// again. The bound on coverage counts observations in the order in which they end, and an answer's TPOT is known only at its
// end, so long answers teach late.
package latency
