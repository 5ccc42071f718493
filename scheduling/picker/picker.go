package picker

import (
	"fmt"
	"math"
	"slices"
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

// Random picks any endpoint, all equally likely, whatever they score.
type Random struct{}

// Pick implements scheduling.Picker.
func (Random) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	return c.Rank(slots, scores, append(ranked, c.IntN(len(slots))))
}

// Softmax picks with a probability in proportion to exp(score/Temperature): near 0 the best nearly always, the higher the more
// evenly. With scorer.Dynamo it is the choice of NVIDIA Dynamo's router at its temperature.
type Softmax struct {
	// Temperature 0 picks the highest score.
	Temperature float64 `json:"temperature,omitempty"`
}

// Pick implements scheduling.Picker.
func (p Softmax) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	if p.Temperature == 0 {
		return c.Rank(slots, scores, ranked)
	}
	highest := slices.Max(scores)
	best, total := 0, 0.0
	for i, score := range scores { // the i-th replaces the one held with the probability of its share so far
		weight := math.Exp((score - highest) / p.Temperature)
		total += weight
		if c.Float64()*total < weight {
			best = i
		}
	}
	return c.Rank(slots, scores, append(ranked, best))
}

// Validate implements scheduling.Validator.
func (p Softmax) Validate() error {
	if p.Temperature >= 0 && !math.IsInf(p.Temperature, 0) {
		return nil
	}
	return fmt.Errorf("temperature %v: want a number of at least 0", p.Temperature)
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
