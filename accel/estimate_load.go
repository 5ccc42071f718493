package accel

import (
	"fmt"
	"math"
	"time"
)

// closed estimates a closed loop.
func (p *Prepared) closed(e *Estimate, w Workload) {
	pr := p.prompt(w, false)
	room, running, waiting := p.load(w)
	f := p.features(w)

	var x [maxParts]float64
	p.decode(&x, w, running, &pr)
	p.tpot.apply(&x, &f)
	tpot := e.fill(&e.TPOTTerms, outParts[:], &x)
	if p.overlap {
		tpot -= e.hide(&e.TPOTTerms)
	}
	e.TPOT = p.tpot.interval(tpot)
	e.Step = tpot - e.TPOTTerms[OtherPrefill]

	x = [maxParts]float64{}
	p.first(&x, w, running, waiting, tpot.Seconds(), &pr)
	p.ttft.apply(&x, &f)
	ttft := e.fill(&e.TTFTTerms, inParts[:], &x)
	e.TTFT = p.ttft.interval(ttft)
	own := 0.
	for i := range inRequest {
		own += x[i]
	}
	e.Prefill = seconds(own)
	if p.evidence == NoEvidence {
		p.bound(e, w, running, &pr)
	}

	e.Evidence = p.evidence
	e.Concurrency = w.Concurrency
	e.Room = room * p.dp
	e.Running = min(w.Concurrency, e.Room)
	out := float64(w.OutputTokens)
	rate := func(ttft, tpot time.Duration) float64 {
		return w.Concurrency / (ttft.Seconds() + (out-1)*tpot.Seconds())
	}
	e.Requests = Interval[float64]{rate(e.TTFT.Value, e.TPOT.Value), rate(e.TTFT.High, e.TPOT.High), rate(e.TTFT.Low, e.TPOT.Low)}
	e.OutputTokens = Interval[float64]{out * e.Requests.Value, out * e.Requests.Low, out * e.Requests.High}
}

// load is how a closed loop fills each rank: requests that it has room for, that run, and that wait for each that runs.
func (p *Prepared) load(w Workload) (room, running, waiting float64) {
	room = p.capacity(w)
	requests := max(w.Concurrency/p.dp, 1)
	running = min(requests, max(room, 1))
	return room, running, requests/running - 1
}

// fill adds up parts to terms.
func (e *Estimate) fill(b *Breakdown, parts []part, x *[maxParts]float64) time.Duration {
	var sums [numTerms]float64
	for i := range parts {
		sums[parts[i].term] += x[i]
	}
	for t, s := range sums {
		b[t] = seconds(s)
	}
	return b.Total()
}

// overlapShare is how much of the perfect overlap two half batches reach: it explains published wide expert-parallel
// figures, where perfect overlap predicts half as much again.
const overlapShare = .35

// hide takes from a breakdown what two half batches hide of the shorter of exchange and the rest, and returns it.
func (e *Estimate) hide(b *Breakdown) time.Duration {
	exchange := b[ExpertExchange]
	rest := b.Total() - exchange - b[OtherPrefill] - b[Launch]
	gain := time.Duration(overlapShare * float64(min(exchange, max(rest, 0))))
	b[OverlapGain] = -gain
	return gain
}

// bound replaces what intervals say by what is physically possible: nothing is faster than its slowest resource at its peak.
func (p *Prepared) bound(e *Estimate, w Workload, running float64, pr *prompt) {
	e.TPOT.Low = min(seconds(p.decodeAtPeak(w, running)), e.TPOT.Value)
	e.TTFT.Low = min(seconds(pr.atPeak()), e.TTFT.Value)
}

func (p *Prepared) decodeAtPeak(w Workload, running float64) float64 {
	var x [maxParts]float64
	p.decode(&x, w, running, nil)
	return max(x[outWeights]+x[outExperts]+x[outKV], x[outScores]+x[outDense]+x[outRouted], x[outReduce]+x[outSpread])
}

func (pr *prompt) atPeak() float64 {
	return max(pr.weights+pr.experts+pr.cached, pr.dense+pr.routed+pr.scores, pr.reduce)
}

// sustain is the concurrency at which an instance answers as many requests a second as come.
func (p *Prepared) sustain(w Workload) (float64, error) {
	target := w.Rate
	w.Rate = 0
	rate := func(n float64) float64 {
		var e Estimate
		w.Concurrency = n
		p.closed(&e, w)
		return e.Requests.Value
	}
	low, high := 0., math.Max(p.capacity(w), 1)*p.dp
	if most := rate(high); target > most {
		return 0, fmt.Errorf("%w: Workload.Rate is %v: at most %.4g a second at %.0f requests in flight", ErrSaturated, target, most, high)
	}
	for range 60 {
		mid := (low + high) / 2
		if rate(mid) < target {
			low = mid
		} else {
			high = mid
		}
		if high-low < 1e-6*high {
			break
		}
	}
	return high, nil
}
