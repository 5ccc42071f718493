// Package scorer has the built-in endpoint scorers, a type each. A scorer's exported fields are its parameters, and their
// zero values work.
//
// Loads are open-ended, so scorers of load map x to half/(half+x): 1 when idle, 0.5 where x is the scorer's HalfAt, and
// strictly lower for every bit of load. The same load scores the same whatever the other endpoints do; rescaling between
// the least and the most loaded would turn a queue of one against none into all against nothing.
package scorer

import (
	"cmp"

	"github.com/inferloom/inferloom/scheduling"
)

// falling maps a load to a score.
func falling(x, half float64) float64 { return half / (half + x) }

func halfOr(half, standard float64) float64 { return cmp.Or(max(half, 0), standard) }

// abstain says that nothing is known of any endpoint.
func abstain(scores []float64) {
	for i := range scores {
		scores[i] = scheduling.Abstain
	}
}
