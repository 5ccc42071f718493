package accel

import (
	"fmt"
	"math"
	"time"
)

// Pools is disaggregated serving: instances that only prefill, and instances that only decode what those have prefilled.
type Pools struct {
	Prefill, Decode                   *Prepared
	PrefillInstances, DecodeInstances int
	// Transfer is bytes a second at which the KV cache of one prompt moves between two ranks; 0 is what the network gives a
	// rank of the decode pool.
	Transfer float64
}

func (p Pools) validate() error {
	var bad problems
	if p.Prefill == nil {
		bad.add("Pools.Prefill", nil, "must be set")
	}
	if p.Decode == nil {
		bad.add("Pools.Decode", nil, "must be set")
	}
	if p.PrefillInstances < 1 {
		bad.add("Pools.PrefillInstances", p.PrefillInstances, "must be at least 1")
	}
	if p.DecodeInstances < 1 {
		bad.add("Pools.DecodeInstances", p.DecodeInstances, "must be at least 1")
	}
	if !(p.Transfer >= 0 && p.Transfer <= math.MaxFloat64) {
		bad.add("Pools.Transfer", p.Transfer, "must not be negative")
	} else if p.Transfer == 0 && p.Decode != nil && p.Decode.fabric <= 0 {
		bad.add("Pools.Transfer", p.Transfer, "must be set: the system's network bandwidth is not known")
	}
	return bad.err()
}

// Bounds of 90 % of measured over estimated, as logs, over the 185 disaggregated deployments in the file that the built-in
// calibration comes from which are described in full. No fit has seen them; the bounds have. Measured times to the first
// token include the start of a test, when all requests come at once.
var (
	poolsTPOT = spread{-.32, .56}
	poolsTTFT = spread{-1, 3.7}
)

// widen is an interval that is at least as wide as a spread.
func (s spread) widen(i Interval[time.Duration]) Interval[time.Duration] {
	i.Low = min(i.Low, time.Duration(float64(i.Value)*math.Exp(s.low)))
	i.High = max(i.High, time.Duration(float64(i.Value)*math.Exp(s.high)))
	return i
}

// flow is the pools in a steady state, all times in seconds.
type flow struct {
	e     Estimate // terms and intervals of the decode instances
	rate  float64  // requests a second
	first float64  // mean time to the first token, without waiting for room
	queue float64  // of first, waiting for prefill
	total float64  // requests in flight
}

// Estimate says what to expect of both pools together; the load of the workload is theirs. Prompts arrive at random and are
// prefilled in full steps; what prefill and decode take is what the two deployments take, without what they
// cost each other. Calibration of these parts is of aggregated serving, so Evidence is at most [EngineMeasured]. TTFT is that
// of a steady state: tests that start with all requests at once measure several times as much.
func (p Pools) Estimate(w Workload) (Estimate, error) {
	if err := p.validate(); err != nil {
		return Estimate{}, err
	}
	if err := w.validate(); err != nil {
		return Estimate{}, err
	}
	for _, each := range [...]*Prepared{p.Prefill, p.Decode} {
		if err := each.fits(w); err != nil {
			return Estimate{}, err
		}
	}
	room := p.Decode.capacity(w) * p.Decode.dp * float64(p.DecodeInstances)
	f := p.at(w, room)
	if w.Rate > 0 && w.Rate > f.rate {
		return Estimate{}, fmt.Errorf("%w: Workload.Rate is %v: at most %.4g a second", ErrSaturated, w.Rate, f.rate)
	}
	if w.Rate > 0 || w.Concurrency < f.total {
		low, high := 0., room
		for range 60 {
			mid := (low + high) / 2
			f = p.at(w, mid)
			if w.Rate > 0 && f.rate < w.Rate || w.Rate == 0 && f.total < w.Concurrency {
				low = mid
			} else {
				high = mid
			}
		}
		f = p.at(w, high)
	}
	return p.finish(w, f, room), nil
}

// at is the steady state with so many requests decoding.
func (p Pools) at(w Workload, decoding float64) flow {
	var f flow
	n := float64(p.DecodeInstances)
	w.Concurrency, w.Rate = decoding/n, 0
	load := p.Decode.features(w)

	var y [maxParts]float64
	p.Decode.decode(&y, w, max(decoding/n/p.Decode.dp, 1), nil)
	p.Decode.tpot.apply(&y, &load)
	tpot := f.e.fill(&f.e.TPOTTerms, outParts[:], &y)
	if p.Decode.overlap {
		tpot -= f.e.hide(&f.e.TPOTTerms)
	}
	f.e.TPOT, f.e.Step = poolsTPOT.widen(p.Decode.tpot.interval(tpot)), tpot

	if p.Decode.evidence == NoEvidence {
		peak := p.Decode.decodeAtPeak(w, max(decoding/n/p.Decode.dp, 1))
		f.e.TPOT.Low = min(f.e.TPOT.Low, seconds(peak))
	}

	busy := p.share(w)
	servers := p.Prefill.dp * float64(p.PrefillInstances)
	most := servers / busy
	f.rate = min(decoding/(max(float64(w.OutputTokens-1), 1)*tpot.Seconds()), .999*most)
	used := f.rate / most
	// M/D/k by Sakasegawa's approximation.
	f.queue = busy / 2 * math.Pow(used, math.Sqrt(2*(servers+1))-1) / (servers * (1 - used))
	alone, x := p.prefill(w, tpot.Seconds())
	f.e.fill(&f.e.TTFTTerms, inParts[:], &x)
	f.e.Prefill = seconds(alone)
	f.e.TTFTTerms[OtherPrefill] = seconds(f.queue)
	f.e.TTFTTerms[StageHops] += seconds(p.Decode.memory.Sequence.Bytes(w.InputTokens) / p.transfer())
	f.e.TTFTTerms[StepWait] = tpot
	f.first = f.e.TTFTTerms.Total().Seconds()
	f.total = f.rate * (f.first + float64(w.OutputTokens-1)*tpot.Seconds())
	return f
}

// prefill is how long a prompt keeps a rank of the prefill pool busy on its own, and the parts of TTFT.
func (p Pools) prefill(w Workload, tpot float64) (alone float64, x [maxParts]float64) {
	w.Concurrency = p.Prefill.dp // each rank has one prompt
	load := p.Prefill.features(w)
	pr := p.Prefill.prompt(w, false)
	p.Prefill.first(&x, w, 1, 0, tpot, &pr)
	x[inStep] = 0
	p.Prefill.ttft.apply(&x, &load)
	for i := range inRequest {
		alone += x[i]
	}
	return alone, x
}

// share is how long a prompt keeps a rank of the prefill pool busy when steps are full of prompts: that is what prompts cost
// aggregated serving, so those factors apply.
func (p Pools) share(w Workload) float64 {
	pr := p.Prefill.prompt(w, true)
	k := &p.Prefill.tpot.factors
	exchange := pr.reduce*k[outPrefillComm] + pr.kernel*k[outKernel]
	work := (pr.weights+pr.experts)*k[outWeights] + pr.dense*k[outPrefillDense] + pr.routed*k[outPrefillRouted] +
		pr.scores*k[outPrefillScores] + pr.cached*k[outKV]
	if p.Prefill.overlap {
		exchange -= overlapShare * min(exchange, work)
	}
	return work + exchange + pr.layers*k[outPrefillLayers] + pr.hops*k[outHops]
}

func (p Pools) transfer() float64 {
	if p.Transfer > 0 {
		return p.Transfer
	}
	return p.Decode.fabric
}

// finish turns a steady state into an estimate. At a closed loop with more requests than the pools can hold, the others wait.
func (p Pools) finish(w Workload, f flow, room float64) Estimate {
	e := f.e
	e.Concurrency = f.total
	if w.Rate == 0 && w.Concurrency > f.total {
		e.TTFTTerms[RoomWait] = seconds((w.Concurrency - f.total) / f.rate)
		e.Concurrency = w.Concurrency
	}
	e.TTFT = poolsTTFT.widen(p.Prefill.ttft.interval(e.TTFTTerms.Total()))
	e.Room, e.Running = room, min(e.Concurrency, room)
	out := float64(w.OutputTokens)
	slow := float64(e.TPOT.Value) / float64(max(e.TPOT.High, 1))
	fast := float64(e.TPOT.Value) / float64(max(e.TPOT.Low, 1))
	if p.Prefill.evidence == NoEvidence {
		pr := p.Prefill.prompt(w, true)
		fast = max(fast, p.share(w)/pr.atPeak())
	}
	e.Requests = Interval[float64]{f.rate, f.rate * slow, f.rate * fast}
	e.OutputTokens = Interval[float64]{out * f.rate, out * f.rate * slow, out * f.rate * fast}
	e.Evidence = min(p.Prefill.evidence, p.Decode.evidence, EngineMeasured)
	return e
}
