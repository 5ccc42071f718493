package scorer

import (
	"errors"
	"fmt"
	"math"

	"github.com/inferloom/inferloom/scheduling"
)

// Linear scores a metric, or a count of the ledger, in proportion: 1 for the lowest and 0 for the highest value of its range,
// or the other way round. Without a fixed range it is that of the candidates; where all of them have the same value, all score
// 1. It abstains where the metric is missing or stale.
//
// It stands for llm-d's queue-scorer and running-requests-size-scorer (Waiting and Running, no range), its
// kv-cache-utilization-scorer (KVUsage, 0 to 1) and endpoint-attribute-scorer, and at half its weight the load-aware-scorer
// (Waiting, 0 to 128); for AIBrix' least-… strategies with a custom metric. llm-d scores 0 what is missing.
type Linear struct {
	Metric scheduling.Metric `json:"metric"`
	// HigherIsBetter turns the scale round.
	HigherIsBetter bool `json:"higherIsBetter,omitempty"`
	// Min and Max are the range; equal means that of the candidates.
	Min float64 `json:"min,omitempty"`
	Max float64 `json:"max,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Linear) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	metric := c.Metric(s.Metric)
	low, high := s.Min, s.Max
	if low == high {
		low, high = math.Inf(1), math.Inf(-1)
		for _, slot := range slots {
			if v, ok := metric.At(slot); ok {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	from, share := high, 1/(low-high)
	if s.HigherIsBetter {
		from, share = low, 1/(high-low)
	}
	for i, slot := range slots {
		v, ok := metric.At(slot)
		switch {
		case !ok:
			scores[i] = scheduling.Abstain
		case low == high:
			scores[i] = 1
		default:
			scores[i] = min(max((v-from)*share, 0), 1)
		}
	}
}

// String tells one Linear from another in explanations.
func (s Linear) String() string { return fmt.Sprintf("scorer.Linear(%v)", s.Metric) }

// Validate implements scheduling.Validator.
func (s Linear) Validate() error {
	var problems []error
	if !s.Metric.Valid() {
		problems = append(problems, fmt.Errorf("metric: %v is unknown", s.Metric))
	}
	for _, v := range []float64{s.Min, s.Max} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			problems = append(problems, fmt.Errorf("range %v to %v: not finite", s.Min, s.Max))
			break
		}
	}
	if s.Min > s.Max {
		problems = append(problems, fmt.Errorf("range %v to %v: want the lower first", s.Min, s.Max))
	}
	return errors.Join(problems...)
}
