package latency

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Meets prefers the endpoint where the request most probably meets its objectives. Where it has next to no chance anywhere it
// can no longer be saved, and is sent where it costs others least: where those in flight have the least chance themselves. A
// request without objectives is scored by its time, as Seconds does. It abstains where there is no prediction.
type Meets struct {
	// Hopeless is the probability below which a request counts as lost; 0 means 0.5.
	Hopeless float64 `json:"hopeless,omitempty"`
	// OutputTokens is as in Seconds.
	OutputTokens int `json:"outputTokens,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Meets) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.TTFT <= 0 && c.Request.TPOT <= 0 {
		Seconds{OutputTokens: s.OutputTokens}.Score(c, slots, scores)
		return
	}
	best := 0.
	for i, slot := range slots {
		scores[i] = scheduling.Abstain
		if p := c.Prediction(slot); p.Known() {
			scores[i] = p.Meets
			best = max(best, p.Meets)
		}
	}
	if best < cmp.Or(s.Hopeless, .5) {
		for i := range scores {
			scores[i] = 1 - scores[i]
		}
	}
}

// Validate implements scheduling.Validator.
func (s Meets) Validate() error {
	return errors.Join(probability("hopeless", s.Hopeless), tokens("outputTokens", s.OutputTokens))
}

// Seconds prefers the endpoint that is predicted to answer soonest, to the last token: it scores h/(h+t). It abstains where
// there is no prediction.
type Seconds struct {
	// OutputTokens is the length of an answer where the request does not bound it lower; 0 means 200.
	OutputTokens int `json:"outputTokens,omitempty"`
	// HalfAt is the time that scores 0.5, in seconds; 0 means 1.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Seconds) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	n, half := outputTokens(c, s.OutputTokens), cmp.Or(s.HalfAt, 1)
	for i, slot := range slots {
		scores[i] = scheduling.Abstain
		if p := c.Prediction(slot); p.Known() {
			scores[i] = half / (half + p.TTFT + n*p.TPOT)
		}
	}
}

// Validate implements scheduling.Validator.
func (s Seconds) Validate() error {
	if !(s.HalfAt >= 0) || math.IsInf(s.HalfAt, 0) {
		return errors.Join(tokens("outputTokens", s.OutputTokens), fmt.Errorf("halfAt %v: want a number of at least 0", s.HalfAt))
	}
	return tokens("outputTokens", s.OutputTokens)
}

// outputTokens is how many tokens of an answer come behind the first.
func outputTokens(c *scheduling.Cycle, guess int) float64 {
	n := cmp.Or(guess, 200)
	if c.Request.MaxTokens > 0 {
		n = min(n, c.Request.MaxTokens)
	}
	return float64(max(0, n-1))
}

// TTFT is the predicted seconds to the first token, as a term of scorer.Cost: beside those of scorer.TransferTime and
// scorer.AdapterTime, which a prediction knows nothing of.
func TTFT() scorer.Term {
	return scorer.TermFunc(func(c *scheduling.Cycle, slot scheduling.Slot) (float64, bool) {
		p := c.Prediction(slot)
		if !p.Known() {
			return 0, false
		}
		return p.TTFT, p.TTFT > 0
	})
}

// Decoding is the predicted seconds from the first token to the last, as a term of scorer.Cost. outputTokens is as in Seconds.
func Decoding(guess int) scorer.Term {
	return scorer.TermFunc(func(c *scheduling.Cycle, slot scheduling.Slot) (float64, bool) {
		p := c.Prediction(slot)
		if !p.Known() {
			return 0, false
		}
		return p.TPOT * outputTokens(c, guess), p.TPOT > 0
	})
}

// Admit refuses a request that would miss its objectives wherever it went: a pick fails with ErrObjectives. It leaves all
// endpoints otherwise, and where any of them has no prediction.
type Admit struct {
	// Least is the probability of meeting the objectives that some endpoint must offer; 0 means 0.5.
	Least float64 `json:"least,omitempty"`
	// OnlySheddable spares requests whose priority is not below 0.
	OnlySheddable bool `json:"onlySheddable,omitempty"`
}

// ErrObjectives is the error of picks that Admit refuses.
var ErrObjectives = errors.New("no endpoint would meet the latency objectives")

// Filter implements scheduling.Filter.
func (f Admit) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if f.OnlySheddable && c.Request.Priority >= 0 || c.Request.TTFT <= 0 && c.Request.TPOT <= 0 {
		return slots
	}
	least := cmp.Or(f.Least, .5)
	if slices.ContainsFunc(slots, func(slot scheduling.Slot) bool {
		p := c.Prediction(slot)
		return !p.Known() || p.Meets >= least
	}) {
		return slots
	}
	return slots[:0]
}

// Refusal implements scheduling.Refuser.
func (Admit) Refusal() error { return ErrObjectives }

// Validate implements scheduling.Validator.
func (f Admit) Validate() error { return probability("least", f.Least) }

// Chance keeps the endpoints where the request has nearly the best chance to meet its objectives: a probability of at least
// Share of the best one's. Between those, scorers of cache affinity and load decide. Where it has next to no chance anywhere it
// can no longer be saved, and the endpoints are kept where it harms others least, because those in flight have next to no
// chance either: the ones with the lowest probability. An endpoint without a prediction is kept.
type Chance struct {
	// Share is at most 1; 0 means 0.95.
	Share float64 `json:"share,omitempty"`
	// Hopeless is the probability below which a request counts as lost; 0 means 0.5.
	Hopeless float64 `json:"hopeless,omitempty"`
}

// Filter implements scheduling.Filter.
func (f Chance) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Request.TTFT <= 0 && c.Request.TPOT <= 0 {
		return slots
	}
	best, worst := 0., 1.
	for _, slot := range slots {
		if p := c.Prediction(slot); p.Known() {
			best, worst = max(best, p.Meets), min(worst, p.Meets)
		}
	}
	least, most := best*cmp.Or(f.Share, .95), 1.
	if best < cmp.Or(f.Hopeless, .5) {
		least, most = 0, worst
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
		p := c.Prediction(slot)
		return p.Known() && (p.Meets < least || p.Meets > most)
	})
}

// Validate implements scheduling.Validator.
func (f Chance) Validate() error {
	return errors.Join(probability("share", f.Share), probability("hopeless", f.Hopeless))
}

func probability(field string, v float64) error {
	if v >= 0 && v <= 1 {
		return nil
	}
	return fmt.Errorf("%s %v: want a probability", field, v)
}

func tokens(field string, n int) error {
	if n < 0 {
		return fmt.Errorf("%s %d: negative", field, n)
	}
	return nil
}
