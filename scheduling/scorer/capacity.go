package scorer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/inferloom/inferloom/scheduling"
)

// Capacity is a positive number of each endpoint: how fast or how large it is.
type Capacity struct {
	// Label holds the number.
	Label string `json:"label,omitempty"`
	// Of computes it, if it is set: from what a performance model knows of the endpoint's accelerator, say. It is called once
	// a layout for each endpoint.
	Of func(*scheduling.Endpoint) float64 `json:"-"`
	// Standard stands in where neither gives a positive, finite number; 0 means 1.
	Standard float64 `json:"standard,omitempty"`

	values scheduling.PerLayout[[]float64]
}

func (k *Capacity) of(c *scheduling.Cycle) []float64 {
	return k.values.Of(c.Snapshot, func(s *scheduling.Snapshot) []float64 {
		return scheduling.BySlot(s, func(e *scheduling.Endpoint) float64 {
			v := 0.0
			if k.Of != nil {
				v = k.Of(e)
			} else if k.Label != "" {
				v, _ = strconv.ParseFloat(e.Labels[k.Label], 64)
			}
			if v > 0 && !math.IsInf(v, 0) {
				return v
			}
			return cmp.Or(k.Standard, 1)
		})
	})
}

// Validate implements scheduling.Validator.
func (k *Capacity) Validate() error { return notNegative("standard", k.Standard) }

// WeightedLoad prefers endpoints that have little to do for their size: it scores (load+1)/capacity, falling. With requests
// in flight it is the weighted form of least connections. It abstains where the metric is missing or stale. Use it by
// pointer.
type WeightedLoad struct {
	// Metric is the load.
	Metric scheduling.Metric `json:"metric"`
	// Capacity is the size, relative to the others'.
	Capacity Capacity `json:"capacity"`
	// HalfAt is the load for a capacity of 1 that scores 0.5; 0 means 8.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s *WeightedLoad) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	metric, capacity, half := c.Metric(s.Metric), s.Capacity.of(c), cmp.Or(s.HalfAt, 8)
	for i, slot := range slots {
		if load, ok := metric.At(slot); ok {
			scores[i] = falling((load+1)/capacity[slot], half)
		} else {
			scores[i] = scheduling.Abstain
		}
	}
}

// String tells one WeightedLoad from another in explanations.
func (s *WeightedLoad) String() string { return fmt.Sprintf("scorer.WeightedLoad(%v)", s.Metric) }

// Validate implements scheduling.Validator.
func (s *WeightedLoad) Validate() error {
	var metric error
	if !s.Metric.Valid() {
		metric = fmt.Errorf("metric: %v is unknown", s.Metric)
	}
	return errors.Join(metric, inField("capacity", s.Capacity.Validate()), notNegative("halfAt", s.HalfAt))
}
