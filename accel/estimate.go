package accel

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrSaturated is wrapped by what an estimate of an open loop returns where the rate exceeds what the instance can sustain.
var ErrSaturated = errors.New("rate exceeds what the instance sustains")

// Workload is what one instance serves: requests that are alike, at a load. Give the load as Concurrency or as Rate.
type Workload struct {
	InputTokens  int // of a prompt
	CachedTokens int // of InputTokens, found in the KV cache and not computed again; less than InputTokens
	OutputTokens int // of an answer, at least 1

	// Concurrency is requests in flight, held constant: a closed loop, in which each answer is followed by a new request.
	// It counts the whole instance, all its DP ranks together.
	Concurrency float64
	// Rate is requests a second that come by themselves: an open loop. The estimate is then at the concurrency that this
	// rate leads to, and a rate that the instance cannot sustain is refused with [ErrSaturated].
	Rate float64
}

const maxTokens = 1 << 30

func (w Workload) validate() error {
	var bad problems
	within := func(field string, v, low, high int) {
		if v < low || v > high {
			bad.add(field, v, fmt.Sprintf("must be from %d to %d", low, high))
		}
	}
	within("Workload.InputTokens", w.InputTokens, 1, maxTokens)
	within("Workload.CachedTokens", w.CachedTokens, 0, max(w.InputTokens-1, 0))
	within("Workload.OutputTokens", w.OutputTokens, 1, maxTokens)
	load := func(field string, v float64) {
		if !(v >= 0 && v <= 1e9) { // NaN too
			bad.add(field, v, "must be from 0 to 1e9")
		}
	}
	load("Workload.Concurrency", w.Concurrency)
	load("Workload.Rate", w.Rate)
	if len(bad) == 0 && (w.Concurrency > 0) == (w.Rate > 0) {
		bad.add("Workload.Concurrency", w.Concurrency, "or Workload.Rate must be above 0, and not both")
	}
	return bad.err()
}

// Interval is an estimate and the range that it may turn out in. For a calibrated estimate 90 % of measurements like those
// that it was calibrated with lie from Low to High. For one that is not, Low is what no deployment can beat, every part at
// its peak, and High is twice what 95 % of measurements stayed below whose engine and system were left out of a fit.
type Interval[T time.Duration | float64] struct{ Value, Low, High T }

// Term is a part of a time.
type Term uint8

const (
	ReadWeights    Term = iota // from memory, all but routed experts
	ReadExperts                // those routed experts that a token of the step goes to
	ReadKV                     // what attention sees of the past
	Products                   // with weights
	Scores                     // products of queries, keys and values
	AllReduces                 // of tensor parallelism
	ExpertExchange             // all-to-all of expert parallelism
	StageHops                  // between pipeline stages
	Launch                     // kernels, scheduling, sampling and transport: what does not shrink with the chip
	OtherPrefill               // prompts of other requests: of TPOT what decode steps lose to them, of TTFT what runs before
	StepWait                   // of TTFT: decode steps that run before or along
	RoomWait                   // of TTFT: until the KV cache or the batch has room
	OverlapGain                // negative: what two-batch overlap hides
	numTerms
)

var termNames = [numTerms]string{"read weights", "read experts", "read KV", "products", "scores", "all-reduces",
	"expert exchange", "stage hops", "launch", "other prefill", "step wait", "room wait", "overlap gain"}

func (t Term) String() string {
	if t >= numTerms {
		return fmt.Sprintf("term(%d)", uint8(t))
	}
	return termNames[t]
}

// Breakdown says what a time is made of, by [Term].
type Breakdown [numTerms]time.Duration

// Total is the sum of all terms.
func (b *Breakdown) Total() time.Duration {
	var sum time.Duration
	for _, d := range b {
		sum += d
	}
	return sum
}

// Largest is the term that takes most.
func (b *Breakdown) Largest() Term {
	most := Term(0)
	for t := range numTerms {
		if b[t] > b[most] {
			most = t
		}
	}
	return most
}

// Evidence is how near to a deployment something has been measured.
type Evidence uint8

const (
	NoEvidence         Evidence = iota // nothing of this engine on this system: uncalibrated
	EngineMeasured                     // other models, or this one in another precision, on this engine and system
	ModelMeasured                      // this model in this precision on this engine and system, cut in another way
	DeploymentMeasured                 // this deployment, at some load
	numEvidence
)

var evidenceNames = [numEvidence]string{"none", "engine", "model", "deployment"}

func (e Evidence) String() string {
	if e >= numEvidence {
		return fmt.Sprintf("evidence(%d)", uint8(e))
	}
	return evidenceNames[e]
}

// Estimate is what to expect of a deployment under a workload.
type Estimate struct {
	TTFT Interval[time.Duration] // mean time to the first token of an answer
	TPOT Interval[time.Duration] // mean time between two tokens of an answer

	Prefill time.Duration // of one prompt with nothing else running
	Step    time.Duration // of a decode step with no prefill between

	// Requests and OutputTokens are per second, of the whole instance. At a closed loop they follow from TTFT and TPOT.
	Requests, OutputTokens Interval[float64]

	Concurrency float64 // requests in flight
	Running     float64 // of those, how many the instance runs at a time; the others wait for room
	Room        float64 // how many it can run at a time: the KV cache and the batch limit of the engine

	TPOTTerms, TTFTTerms Breakdown // sum up to the Values of TPOT and TTFT
	Evidence             Evidence
}

// Calibrated is whether measurements of this engine on this system stand behind the estimate.
func (e *Estimate) Calibrated() bool { return e.Evidence > NoEvidence }

// Estimate prepares a deployment and estimates it under a workload. To try several workloads, [Calibration.Prepare] once.
func (c *Calibration) Estimate(d Deployment, w Workload) (Estimate, error) {
	var p Prepared
	if err := c.prepare(&p, d); err != nil {
		return Estimate{}, err
	}
	return p.Estimate(w)
}

// Estimate says what to expect under a workload. It does not allocate unless it fails.
func (p *Prepared) Estimate(w Workload) (Estimate, error) {
	if err := w.validate(); err != nil {
		return Estimate{}, err
	}
	if err := p.fits(w); err != nil {
		return Estimate{}, err
	}
	if w.Rate > 0 {
		n, err := p.sustain(w)
		if err != nil {
			return Estimate{}, err
		}
		w.Concurrency, w.Rate = n, 0
	}
	var e Estimate
	p.closed(&e, w)
	return e, nil
}

// seconds is a duration of at most a year, so that sums of a few do not overflow.
func seconds(s float64) time.Duration { return time.Duration(math.Round(min(s, 365*86400) * 1e9)) }
