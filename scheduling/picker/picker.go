package picker

import (
	"math"
	"sync/atomic"

	"github.com/inferloom/inferloom/scheduling"
)

// MaxScore picks the highest score. Ties go to the fewest requests in flight, then at random.
type MaxScore struct{}

// Pick implements scheduling.Picker.
func (MaxScore) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	return c.Rank(slots, scores, ranked)
}

// WeightedRandom picks with a probability in proportion to the score; uniformly if all scores are 0. It is the exponential
// form of Efraimidis and Spirakis' reservoir (2006): the smallest of −ln(u)/score wins.
type WeightedRandom struct{}

// Pick implements scheduling.Picker.
func (WeightedRandom) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	best, lowest := -1, math.Inf(1)
	for i, score := range scores {
		if score <= 0 {
			continue
		}
		if key := -math.Log(1-c.Float64()) / score; best < 0 || key < lowest {
			best, lowest = i, key
		}
	}
	if best < 0 {
		best = c.IntN(len(slots))
	}
	return c.Rank(slots, scores, append(ranked, best))
}

// PowerOfTwo draws two endpoints and picks the one with the higher score (Mitzenmacher, 2001).
type PowerOfTwo struct{}

// Pick implements scheduling.Picker.
func (PowerOfTwo) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	a := c.IntN(len(slots))
	if len(slots) > 1 {
		b := c.IntN(len(slots) - 1)
		if b >= a {
			b++
		}
		if scores[b] > scores[a] || scores[b] == scores[a] && c.Requests(slots[b]) < c.Requests(slots[a]) {
			a = b
		}
	}
	return c.Rank(slots, scores, append(ranked, a))
}

// RoundRobin takes the endpoints in turn, whatever they score: the baseline to compare with. Use it by pointer.
type RoundRobin struct {
	turn atomic.Uint64
}

// Pick implements scheduling.Picker.
func (p *RoundRobin) Pick(_ *scheduling.Cycle, slots []scheduling.Slot, _ []float64, ranked []int) []int {
	first := int((p.turn.Add(1) - 1) % uint64(len(slots)))
	for i := 0; i < len(slots) && len(ranked) < cap(ranked); i++ {
		ranked = append(ranked, (first+i)%len(slots))
	}
	return ranked
}
