package latency

import (
	"errors"
	"fmt"
	"math"

	"github.com/inferloom/inferloom/accel"
)

// Prior is what is believed of a class of endpoints before it has been observed. A field that is 0 is as in DefaultPrior. It
// need not be right: a few dozen observations outweigh it.
type Prior struct {
	// PrefillRate is the prompt tokens that an engine prefills a second, PrefillSeconds what any prefill takes beside.
	PrefillRate, PrefillSeconds float64
	// PairSeconds is for each pair of a prompt token and one that it looks back on: attention.
	PairSeconds float64
	// StepSeconds is a decode step's with nothing in it; each sequence adds StepSequenceSeconds and each token of KV cache
	// StepTokenSeconds.
	StepSeconds, StepSequenceSeconds, StepTokenSeconds float64
}

// DefaultPrior is of an 8-billion-parameter model on a recent datacenter accelerator, to an order of magnitude.
func DefaultPrior() Prior {
	return Prior{PrefillRate: 15_000, PrefillSeconds: .015, PairSeconds: 2e-12, StepSeconds: .01, StepSequenceSeconds: 3e-5, StepTokenSeconds: 5e-8}
}

func (p Prior) withDefaults() Prior {
	d := DefaultPrior()
	for _, f := range []struct {
		v *float64
		d float64
	}{
		{&p.PrefillRate, d.PrefillRate}, {&p.PrefillSeconds, d.PrefillSeconds}, {&p.PairSeconds, d.PairSeconds},
		{&p.StepSeconds, d.StepSeconds}, {&p.StepSequenceSeconds, d.StepSequenceSeconds}, {&p.StepTokenSeconds, d.StepTokenSeconds},
	} {
		if !(*f.v > 0) || math.IsInf(*f.v, 0) {
			*f.v = f.d
		}
	}
	return p
}

// outputGuess is the length of an answer, in tokens, over which a wait during decoding is spread.
const outputGuess = 100

// seconds returns the seconds per unit of each term.
func (p Prior) seconds() [targets]vector {
	perToken := 1 / p.PrefillRate
	return [targets]vector{
		ttft: {
			p.PrefillSeconds, perToken, p.PairSeconds, p.StepSequenceSeconds, p.StepTokenSeconds,
			perToken,
			p.StepSeconds,      // a request that waits does so for steps of others
			p.StepSeconds / 10, // a token of room is freed with each token that others decode
		},
		tpot: {
			p.StepSeconds, p.StepSequenceSeconds, p.StepTokenSeconds,
			perToken / outputGuess,
			p.StepSequenceSeconds,
			perToken / outputGuess,
			perToken * p.StepSeconds, // while prompts are prefilled tokens wait
			1e-9,
		},
	}
}

// PriorOf takes a prior from a performance model: of a deployment that accel.Calibration.Prepare has prepared.
func PriorOf(p *accel.Prepared) (Prior, error) {
	const short, long, few, many = 512, 4096, 1, 16
	var problems []error
	estimate := func(tokens, concurrency int) accel.Estimate {
		e, err := p.Estimate(accel.Workload{InputTokens: tokens, OutputTokens: outputGuess, Concurrency: float64(concurrency)})
		problems = append(problems, err)
		return e
	}
	a, b, c := estimate(short, few), estimate(long, few), estimate(short, many)
	if err := errors.Join(problems...); err != nil {
		return Prior{}, fmt.Errorf("prior: %w", err)
	}
	// The differences divide what is proportional from what is not; where one is not positive the default stays.
	var prior Prior
	perToken := (b.Prefill - a.Prefill).Seconds() / (long - short)
	if perToken > 0 {
		prior.PrefillRate = 1 / perToken
	}
	prior.PrefillSeconds = a.Prefill.Seconds() - perToken*short
	perKV := (b.Step - a.Step).Seconds() / (long - short)
	prior.StepTokenSeconds = perKV
	prior.StepSequenceSeconds = (c.Step-a.Step).Seconds()/(many-few) - perKV*short
	prior.StepSeconds = a.Step.Seconds() - prior.StepSequenceSeconds - perKV*short
	return prior.withDefaults(), nil
}
