package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/inferloom/inferloom/accel"
)

// workload is one request's as the estimator is asked for it. An instance that decodes finds whole prompts in the KV cache.
func (p *Problem) workload() accel.Workload {
	w := accel.Workload{InputTokens: p.Input, CachedTokens: p.Cached, OutputTokens: p.Output}
	if p.Role == Decode {
		w.CachedTokens = p.Input - 1
	}
	return w
}

// ask estimates a point. Estimators know instances that do both; what those of one role do follows from the parts.
func (s *search) ask(p *point) error {
	w := p.workload
	if s.Role == Prefill {
		w.Concurrency, w.Rate = float64(p.cut.DP), 0
	}
	s.result.Estimates++
	e, err := s.estimator.Estimate(s.deployment(p.cut, p.sequences), w)
	if err != nil {
		return err
	}
	switch s.Role {
	case Prefill:
		if err := prefillOnly(&e, p.workload.Rate, float64(p.cut.DP)); err != nil {
			return err
		}
	case Decode:
		if w.Rate == 0 {
			e.Requests = inverse(e.TPOT, e.Concurrency/float64(s.Output))
			e.OutputTokens = scale(e.Requests, float64(s.Output))
		}
	}
	p.estimate = e
	return nil
}

// prefillOnly makes an estimate that of an instance that only prefills: each of its data-parallel ranks takes a prompt at a
// time. At a rate prompts wait as in a queue with so many servers and equal service times (M/D/k, Sakasegawa 1977); without
// one each rank has always one.
func prefillOnly(e *accel.Estimate, rate, ranks float64) error {
	each := e.Prefill.Seconds()
	if each <= 0 {
		return fmt.Errorf("prefill of a prompt is estimated to take %v", e.Prefill)
	}
	first, most := each, ranks/each
	if used := rate / most; used >= 1 {
		return fmt.Errorf("%w: at most %.4g a second", accel.ErrSaturated, most)
	} else if rate > 0 {
		first += each / 2 * math.Pow(used, math.Sqrt(2*(ranks+1))-1) / (ranks * (1 - used))
		e.Concurrency = rate * first
	}
	low, high := 1., 1.
	if v := float64(e.TTFT.Value); v > 0 {
		low, high = float64(e.TTFT.Low)/v, float64(e.TTFT.High)/v
	}
	of := func(by float64) time.Duration { return time.Duration(first * by * float64(time.Second)) }
	e.TTFT = accel.Interval[time.Duration]{Value: of(1), Low: of(low), High: of(high)}
	e.Requests = accel.Interval[float64]{Value: most, Low: most / max(high, 1), High: most / max(low, math.SmallestNonzeroFloat64)}
	e.OutputTokens = e.Requests
	for _, t := range []accel.Term{accel.OtherPrefill, accel.StepWait, accel.RoomWait} {
		e.TTFTTerms[t] = 0
	}
	return nil
}

// inverse is so many a second where each takes so long.
func inverse(each accel.Interval[time.Duration], of float64) accel.Interval[float64] {
	return accel.Interval[float64]{Value: of / each.Value.Seconds(), Low: of / each.High.Seconds(), High: of / each.Low.Seconds()}
}
