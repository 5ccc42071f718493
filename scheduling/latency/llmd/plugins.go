package llmd

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
)

// HeadroomTier is slo-headroom-tier-filter: of the endpoints where both headrooms are at least 0 and the others, an endpoint
// without prediction being one of the others, it keeps the former, or now and then the latter.
type HeadroomTier struct {
	SLO
	// ExploreNegative is the probability with which the others are kept; 0 means 0.01, a negative number never.
	ExploreNegative float64 `json:"epsilonExploreNeg,omitempty"`
}

// Filter implements scheduling.Filter.
func (f HeadroomTier) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	positive := func(slot scheduling.Slot) bool {
		h, ok := f.of(c, slot)
		return ok && h.ttft >= 0 && h.tpot >= 0
	}
	n := 0
	for _, slot := range slots {
		if positive(slot) {
			n++
		}
	}
	if n == 0 || n == len(slots) {
		return slots
	}
	explore := c.Float64() < max(0, cmp.Or(f.ExploreNegative, .01))
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return positive(slot) == explore })
}

// Validate implements scheduling.Validator.
func (f HeadroomTier) Validate() error {
	return errors.Join(notNegative("sloBufferFactor", f.BufferFactor), fraction("epsilonExploreNeg", max(0, f.ExploreNegative)))
}

// Strategy is whether the least or the most headroom is best.
type Strategy string

// The strategies; the empty one is Least.
const (
	Least Strategy = "least" // fills endpoints up
	Most  Strategy = "most"  // spreads
)

// LatencyScorer is latency-scorer. If an endpoint has headroom in both, only those that do are scored. If none has, and some have
// no requests in flight, only these are. Of what is left it scores the best group that is not empty: both have headroom, only
// TPOT is short of it, only TTFT is, both are. In the group each headroom's absolute value is scaled to 0..1 between its least
// and its most, and the two are combined by weight; one that is the same for all does not count. Others score 0. It never
// abstains: where nothing is predicted of an endpoint, it scores KV cache, queue and prefix for all.
type LatencyScorer struct {
	SLO
	// TTFTWeight and TPOTWeight weigh the headrooms; both 0 mean 0.8 and 0.2.
	TTFTWeight float64 `json:"ttftWeight,omitempty"`
	TPOTWeight float64 `json:"tpotWeight,omitempty"`
	// Strategy is which headroom is best among endpoints that have it. Where there is none the shortest is.
	Strategy Strategy `json:"headroomSelectionStrategy,omitempty"`
	// KVWeight, QueueWeight and PrefixWeight are for endpoints without prediction; all 0 mean 1 each.
	KVWeight     float64 `json:"compositeKVWeight,omitempty"`
	QueueWeight  float64 `json:"compositeQueueWeight,omitempty"`
	PrefixWeight float64 `json:"compositePrefixWeight,omitempty"`
}

// The groups of endpoints, best first.
const (
	bothPositive = iota
	onlyTPOTNegative
	onlyTTFTNegative
	bothNegative
)

func (h headroom) group() int {
	switch {
	case h.ttft >= 0 && h.tpot >= 0:
		return bothPositive
	case h.ttft >= 0:
		return onlyTPOTNegative
	case h.tpot >= 0:
		return onlyTTFTNegative
	}
	return bothNegative
}

// Score implements scheduling.Scorer.
func (s LatencyScorer) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	best, bestIdle := math.MaxInt, math.MaxInt
	for _, slot := range slots {
		h, ok := s.of(c, slot)
		if !ok {
			s.composite(c, slots, scores)
			return
		}
		group := h.group()
		best = min(best, group)
		if c.Requests(slot) == 0 {
			bestIdle = min(bestIdle, group)
		}
	}
	onlyIdle := best != bothPositive && bestIdle != math.MaxInt
	if onlyIdle {
		best = bestIdle
	}
	in := func(slot scheduling.Slot) (headroom, bool) {
		h, _ := s.of(c, slot)
		return h, h.group() == best && (!onlyIdle || c.Requests(slot) == 0)
	}
	ttft, tpot := newSpan(), newSpan()
	for _, slot := range slots {
		if h, ok := in(slot); ok {
			ttft.add(math.Abs(h.ttft))
			tpot.add(math.Abs(h.tpot))
		}
	}
	a, b := s.TTFTWeight, s.TPOTWeight
	if a == 0 && b == 0 {
		a, b = .8, .2
	}
	if ttft.width() == 0 {
		a = 0
	}
	if tpot.width() == 0 {
		b = 0
	}
	if sum := a + b; sum > 0 {
		a, b = a/sum, b/sum
	}
	// The less the better, except where there is headroom to be kept.
	most := best == bothPositive && s.Strategy == Most
	for i, slot := range slots {
		scores[i] = 0
		h, ok := in(slot)
		if !ok {
			continue
		}
		combined := a*ttft.scale(math.Abs(h.ttft)) + b*tpot.scale(math.Abs(h.tpot))
		if a+b == 0 {
			combined = .5
		}
		if !most {
			combined = 1 - combined
		}
		const highest, lowest = 100, 1
		scores[i] = float64(int(combined*(highest-lowest))+lowest+1) / highest
	}
}

// composite scores endpoints when nothing is predicted.
func (s LatencyScorer) composite(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	kvWeight, queueWeight, prefixWeight := s.KVWeight, s.QueueWeight, s.PrefixWeight
	if kvWeight+queueWeight+prefixWeight == 0 {
		kvWeight, queueWeight, prefixWeight = 1, 1, 1
	}
	kv, waiting := c.Metric(scheduling.KVUsage), c.Metric(scheduling.Waiting)
	longest := 0.
	for _, slot := range slots {
		q, _ := waiting.At(slot)
		longest = max(longest, q)
	}
	for i, slot := range slots {
		used, _ := kv.At(slot)
		q, _ := waiting.At(slot)
		sum := kvWeight * (1 - used)
		if longest > 0 {
			sum += queueWeight * (longest - q) / longest
		} else {
			sum += queueWeight
		}
		if c.Match.Known && c.PromptTokens > 0 {
			sum += prefixWeight * float64(c.Match.Cached[slot]) / float64(c.PromptTokens)
		}
		scores[i] = sum / (kvWeight + queueWeight + prefixWeight)
	}
}

// Validate implements scheduling.Validator.
func (s LatencyScorer) Validate() error {
	problems := []error{
		notNegative("sloBufferFactor", s.BufferFactor), notNegative("ttftWeight", s.TTFTWeight), notNegative("tpotWeight", s.TPOTWeight),
		notNegative("compositeKVWeight", s.KVWeight), notNegative("compositeQueueWeight", s.QueueWeight),
		notNegative("compositePrefixWeight", s.PrefixWeight),
	}
	if s.Strategy != "" && s.Strategy != Least && s.Strategy != Most {
		problems = append(problems, fmt.Errorf("headroomSelectionStrategy %q: want %q or %q", s.Strategy, Least, Most))
	}
	return errors.Join(problems...)
}

// span is the range of some numbers.
type span struct{ least, most float64 }

func newSpan() span { return span{math.Inf(1), math.Inf(-1)} }

func (r *span) add(v float64) { r.least, r.most = min(r.least, v), max(r.most, v) }

func (r *span) width() float64 { return r.most - r.least }

func (r *span) scale(v float64) float64 {
	if r.width() == 0 {
		return 0
	}
	return (v - r.least) / r.width()
}

// Admitter is latency-slo-admitter: it refuses a request with an objective and a priority below 0, with
// latency.ErrObjectives, unless an endpoint would meet the objectives, has nothing running, or uses less than 2 % of its KV
// cache.
type Admitter struct{ SLO }

const coldKV = .02

// Filter implements scheduling.Filter.
func (f Admitter) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Request.Priority >= 0 || c.Request.TTFT <= 0 && c.Request.TPOT <= 0 {
		return slots
	}
	running, kv := c.Metric(scheduling.Running), c.Metric(scheduling.KVUsage)
	for _, slot := range slots {
		if n, known := running.At(slot); known && n == 0 {
			return slots
		}
		if used, known := kv.At(slot); known && used < coldKV {
			return slots
		}
		if h, ok := f.of(c, slot); !ok || h.ttftValid && h.tpotValid {
			return slots
		}
	}
	return slots[:0]
}

// Refusal implements scheduling.Refuser.
func (Admitter) Refusal() error { return latency.ErrObjectives }

// Validate implements scheduling.Validator.
func (f Admitter) Validate() error { return notNegative("sloBufferFactor", f.BufferFactor) }

func notNegative(field string, v float64) error {
	if v >= 0 && !math.IsInf(v, 0) {
		return nil
	}
	return fmt.Errorf("%s %v: want a number of at least 0", field, v)
}

func fraction(field string, v float64) error {
	if v >= 0 && v <= 1 {
		return nil
	}
	return fmt.Errorf("%s %v: want 0 to 1", field, v)
}
