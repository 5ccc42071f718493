// Package stats has the statistics that claims about latency and policies rest on: quantiles, histograms, and intervals
// for what was measured in several runs or in one.
//
// There are three ways to an [Interval], one for each thing that can be known:
//
//   - [Mean], over independent runs (seeds): Student's t.
//   - [PairedDifference] and [PairedRatio], over runs in which two policies met the same requests: Student's t on the
//     differences, so that what both share (a hard seed) does not widen the interval.
//   - [Bootstrap], for two single runs: the requests of a run are not independent (a queue remembers), so blocks of
//     consecutive requests are drawn, as long as the series remembers ([BlockLength]). Such an interval covers what another
//     stretch of the same traffic would change; it does not cover what another day, machine or start of the server would.
//
// A quantile is everywhere the smallest value that at least a share q of the values is not above: a value that occurred.
//
// # Guarantees
//
//   - What cannot be known is NaN (an interval of one run, a quantile of nothing) and never a number made up.
//   - The same values and seed give the same intervals.
//   - The tests measure how often intervals contain the truth, on distributions where it is known.
//
// # Caveats
//
// Intervals are for one comparison each; with twenty of them, one is expected to miss. Student's t takes the mean over runs
// to be normal, which is rough for under ten runs of skewed figures such as a 99th percentile. The bootstrap of a far quantile needs
// many requests beyond it: at the 99th percentile of 500 requests it rests on five.
package stats
