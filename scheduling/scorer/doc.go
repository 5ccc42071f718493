// Package scorer has the built-in endpoint scorers, a type each. A scorer's exported fields are its parameters; unless its
// doc says otherwise zero values work, and a field whose zero means a standard value says which. Scorers that are used by
// pointer remember what they derived from the pool's labels, or what they learned.
//
// Loads are open-ended, so the module's own scorers of load map x to half/(half+x): 1 when idle, 0.5 where x is the scorer's
// HalfAt, and strictly lower for every bit of load. The same load scores the same whatever the other endpoints do; rescaling
// between the least and the most loaded would turn a queue of one against none into all against nothing. Linear and the
// scorers named after other projects' rescale, as their formulas do.
package scorer

import (
	"cmp"
	"fmt"
	"math"

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

// rescale maps the lowest cost to 1, the highest to 0 and those between in proportion; all to 1 where all are equal.
func rescale(costs []float64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range costs {
		low, high = min(low, v), max(high, v)
	}
	if low == high {
		for i := range costs {
			costs[i] = 1
		}
		return
	}
	share := 1 / (high - low)
	for i, v := range costs {
		costs[i] = (high - v) * share
	}
}

// notNegative returns an error unless a parameter is a number of at least 0.
func notNegative(name string, v float64) error {
	if v >= 0 && !math.IsInf(v, 0) {
		return nil
	}
	return fmt.Errorf("%s %v: want a number of at least 0", name, v)
}
