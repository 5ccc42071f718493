package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/inferloom/inferloom/accel"
)

const defaultKeep = 10

// finish makes plans of points. Unserved is a rate that no plan serves, or 0.
func (s *search) finish(unserved float64) (*Result, error) {
	r := s.result
	keep := s.Keep
	if keep == 0 {
		keep = defaultKeep
	}
	points := s.best
	if len(points) == 0 {
		points = s.near
		slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.miss, b.miss), rank(a, b)) })
		points = slices.DeleteFunc(points, func(p point) bool { return p.err != nil })
	}
	seen := map[accel.Parallelism]bool{}
	for _, p := range points {
		if len(r.Plans) < keep && !seen[p.cut.Parallelism] {
			seen[p.cut.Parallelism] = true
			r.Plans = append(r.Plans, s.plan(&p, unserved))
		}
	}
	for _, p := range s.front {
		r.Front = append(r.Front, s.plan(&p, unserved))
	}
	slices.SortFunc(r.Refused, func(a, b Refusal) int { return int(a.Reason) - int(b.Reason) })
	if len(r.Plans) == 0 {
		return r, fmt.Errorf("%w of %s on %d x %s: %s", ErrNoPlan, s.Model.Name, s.Accelerators, s.System.Name, r.why())
	}
	return r, nil
}

// why is what stands between a problem without a plan and one: the last hurdle that any cut came to.
func (r *Result) why() string {
	if len(r.Refused) == 0 {
		return "Fixed allows no cut"
	}
	last := r.Refused[len(r.Refused)-1]
	return fmt.Sprintf("%s (%d of %d cuts), nearest %s", last.Reason, last.Cuts, r.Cuts, last.Nearest)
}

func (s *search) plan(p *point, unserved float64) Plan {
	c := p.cut
	memory, _, _ := s.fits(c, p.sequences)
	out := Plan{
		Role: s.Role, Deployment: s.deployment(c, p.sequences), Replicas: p.replicas, Idle: s.Accelerators - s.used(p),
		Context: s.context(), Layout: c.layout, Memory: memory, Workload: p.workload, Estimate: p.estimate, devices: s.devices,
	}
	n, paid := float64(p.replicas), float64(s.paid(p))
	requests := p.estimate.Requests
	if s.Rate > 0 {
		served := s.Rate / n
		requests = accel.Interval[float64]{Value: served, Low: min(served, requests.Low), High: served}
	}
	out.Tokens = scale(requests, s.tokens(1)*n)
	out.PerAccelerator = scale(out.Tokens, 1/paid)
	if s.Price > 0 && out.Tokens.Low > 0 {
		hourly := s.Price * paid / 3600 * 1e6
		out.Cost = accel.Interval[float64]{Value: hourly / out.Tokens.Value, Low: hourly / out.Tokens.High, High: hourly / out.Tokens.Low}
	}
	out.Limit = s.limit(p)
	out.Bottleneck = p.estimate.TPOTTerms.Largest()
	if s.Role == Prefill {
		out.Bottleneck = p.estimate.TTFTTerms.Largest()
	}
	if p.ttft > s.TTFT && s.TTFT > 0 {
		out.Unmet = append(out.Unmet, fmt.Sprintf("TTFT %v, target %v", p.ttft.Round(time.Millisecond), s.TTFT))
	}
	if p.tpot > s.TPOT && s.TPOT > 0 {
		out.Unmet = append(out.Unmet, fmt.Sprintf("TPOT %v, target %v", p.tpot.Round(time.Microsecond*10), s.TPOT))
	}
	if unserved > 0 {
		out.Unmet = append(out.Unmet, fmt.Sprintf("%.3g requests/s, target %.3g", p.estimate.Requests.Value*n, unserved))
	}
	return out
}

func scale(i accel.Interval[float64], by float64) accel.Interval[float64] {
	return accel.Interval[float64]{Value: i.Value * by, Low: i.Low * by, High: i.High * by}
}

// limit is what keeps a cut from more load than a point's.
func (s *search) limit(p *point) string {
	if p.load+1 >= p.cut.loads {
		if s.Rate > 0 {
			return "rate"
		}
		return p.cut.cap
	}
	switch next := s.try(p.cut, p.load+1); next.missed {
	case MissesTTFT:
		return "TTFT"
	case MissesTPOT:
		return "TPOT"
	case MissesRate:
		return "throughput"
	case numReasons:
		if next.perAccelerator <= p.perAccelerator {
			return "throughput"
		}
	}
	return ""
}

// missed is the refusal of a cut that misses a target at its least load.
func missed(p *point) *refusal {
	f := &refusal{reason: p.missed, miss: p.miss}
	switch p.missed {
	case MissesTTFT:
		f.why = fmt.Sprintf("TTFT %v", p.ttft.Round(time.Millisecond))
	case MissesTPOT:
		f.why = fmt.Sprintf("TPOT %v", p.tpot.Round(10*time.Microsecond))
	default:
		f.why = p.err.Error()
	}
	return f
}

// size is a number of bytes for people.
func size(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }
