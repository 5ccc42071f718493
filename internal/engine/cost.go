package engine

import (
	"math"
	"time"
)

// cost is the time model of a step with the slowdown applied.
type cost struct {
	base, perSequence, perKVToken time.Duration
	perPrefillToken, perPair      float64 // ns
	experts                       float64 // ns, all of them
	expertShare                   float64
	adapterLoad                   time.Duration
}

func newCost(o Options, slowdown float64) cost {
	slow := func(d time.Duration) time.Duration { return time.Duration(float64(d) * slowdown) }
	return cost{
		base: max(1, slow(o.StepTime)), perSequence: slow(o.StepTimePerSequence), perKVToken: slow(o.StepTimePerKVToken),
		perPrefillToken: slowdown * float64(time.Second) / o.PrefillRate,
		perPair:         slowdown * float64(time.Second) / o.AttentionRate,
		experts:         slowdown * float64(o.ExpertTime), expertShare: o.ExpertShare,
		adapterLoad: slow(o.AdapterLoad),
	}
}

// decode is how long a step takes in which all sequences decode. It grows by perKVToken with each token of context and by
// nothing else, which is what makes a run of such steps a formula.
func (c cost) decode(sequences, contextTokens int) time.Duration {
	return c.step(&plan{decodes: sequences, contextTokens: contextTokens})
}

// step is how long a planned step takes.
func (c cost) step(p *plan) time.Duration {
	return c.base + c.expertTime(p.decodes+p.prefill) +
		time.Duration(p.decodes)*c.perSequence + time.Duration(p.contextTokens)*c.perKVToken +
		time.Duration(float64(p.prefill)*c.perPrefillToken+float64(p.pairs)*c.perPair) +
		time.Duration(p.loads)*c.adapterLoad
}

// expertTime is for the experts that so many tokens are expected to touch.
func (c cost) expertTime(tokens int) time.Duration {
	if c.experts == 0 {
		return 0
	}
	return time.Duration(c.experts * (1 - math.Pow(1-c.expertShare, float64(tokens))))
}
