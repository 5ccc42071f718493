package scorer

import "github.com/inferloom/inferloom/scheduling"

// Queue prefers endpoints with few requests waiting in the engine. Requests placed since the engine last reported count
// as waiting, so that a burst between two reports does not herd. It abstains where the metric is missing or stale.
type Queue struct {
	// HalfAt is the queue that scores 0.5, in requests; 0 means 8.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Queue) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	reported(c, scheduling.Waiting, halfOr(s.HalfAt, 8), slots, scores)
}

// Validate implements scheduling.Validator.
func (s Queue) Validate() error { return notNegative("halfAt", s.HalfAt) }

// Running prefers endpoints that work on few requests. Requests placed since the engine last reported count as running.
// It abstains where the metric is missing or stale.
type Running struct {
	// HalfAt is the number of requests that scores 0.5; 0 means 32.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Running) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	reported(c, scheduling.Running, halfOr(s.HalfAt, 32), slots, scores)
}

// Validate implements scheduling.Validator.
func (s Running) Validate() error { return notNegative("halfAt", s.HalfAt) }

func reported(c *scheduling.Cycle, metric scheduling.Metric, half float64, slots []scheduling.Slot, scores []float64) {
	last := c.Metric(metric)
	for i, slot := range slots {
		if n, ok := last.At(slot); ok {
			scores[i] = falling(n+float64(c.Unreported(slot)), half)
		} else {
			scores[i] = scheduling.Abstain
		}
	}
}

// KVUtilization prefers endpoints whose KV cache has room: the score is the free fraction. It abstains where the metric
// is missing or stale.
type KVUtilization struct{}

// Score implements scheduling.Scorer.
func (KVUtilization) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	usage := c.Metric(scheduling.KVUsage)
	for i, slot := range slots {
		if used, ok := usage.At(slot); ok {
			scores[i] = 1 - used
		} else {
			scores[i] = scheduling.Abstain
		}
	}
}

// InFlightRequests prefers endpoints on which this process has few requests in flight. It reads the ledger, which is
// exact for what this process placed, and never abstains.
type InFlightRequests struct {
	// HalfAt is the number of requests that scores 0.5; 0 means 8.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s InFlightRequests) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	half := halfOr(s.HalfAt, 8)
	for i, slot := range slots {
		scores[i] = falling(float64(c.Requests(slot)), half)
	}
}

// Validate implements scheduling.Validator.
func (s InFlightRequests) Validate() error { return notNegative("halfAt", s.HalfAt) }

// InFlightTokens prefers endpoints on which this process has few prompt tokens waiting to be prefilled. It reads the
// ledger, which is exact for what this process placed, and never abstains.
type InFlightTokens struct {
	// HalfAt is the number of tokens that scores 0.5; 0 means 16384.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s InFlightTokens) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	half := halfOr(s.HalfAt, 16384)
	for i, slot := range slots {
		scores[i] = falling(float64(c.PrefillTokens(slot)), half)
	}
}

// Validate implements scheduling.Validator.
func (s InFlightTokens) Validate() error { return notNegative("halfAt", s.HalfAt) }
