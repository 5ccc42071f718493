package main

import (
	"context"
	"math"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
)

// latencyLimit is the share of its capacity up to which a policy's latency says something: closer to it queues grow for as long
// as one looks.
const latencyLimit = 0.95

// metric is a figure that is compared.
type metric struct {
	name, key string
	of        func(*figures) float64
	format    report.Format
	better    int  // -1: less, +1: more
	latency   bool // means nothing under overload
	share     bool // compared by difference and not by ratio
}

var metrics = []metric{
	{"TTFT p50", "ttft_p50_s", func(f *figures) float64 { return f.ttft50 }, report.Seconds, -1, true, false},
	{"TTFT p95", "ttft_p95_s", func(f *figures) float64 { return f.ttft95 }, report.Seconds, -1, true, false},
	{"TTFT p99", "ttft_p99_s", func(f *figures) float64 { return f.ttft99 }, report.Seconds, -1, true, false},
	{"TPOT p50", "tpot_p50_s", func(f *figures) float64 { return f.tpot50 }, report.Seconds, -1, true, false},
	{"TPOT p95", "tpot_p95_s", func(f *figures) float64 { return f.tpot95 }, report.Seconds, -1, true, false},
	{"end to end p95", "e2e_p95_s", func(f *figures) float64 { return f.e2e95 }, report.Seconds, -1, true, false},
	{"goodput", "goodput_per_s", func(f *figures) float64 { return f.goodput }, report.PerSecond, 1, false, false},
	{"good", "good_share", func(f *figures) float64 { return f.goodShare }, report.Percent, 1, false, true},
	{"prefix hits", "hit_ratio", func(f *figures) float64 { return f.hits }, report.Percent, 1, false, true},
	{"imbalance", "imbalance", func(f *figures) float64 { return f.imbalance }, report.Plain, -1, false, false},
	{"not completed", "errors", func(f *figures) float64 { return f.errors }, report.Percent, -1, false, true},
}

// contender is a policy with its runs, one a seed.
type contender struct {
	policy   sim.Policy
	capacity sim.Capacity
	capRate  float64 // requests a second that it bears
	load     float64 // of the comparison, as a share of its capacity
	runs     []*figures
}

func (c *contender) overloaded() bool { return c.load > latencyLimit }

// values are those of a metric, one a seed; NaN for latency under overload.
func (c *contender) values(m metric) []float64 {
	v := make([]float64, len(c.runs))
	for i, f := range c.runs {
		if v[i] = m.of(f); m.latency && c.overloaded() {
			v[i] = math.NaN()
		}
	}
	return v
}

// comparison is all that was found.
type comparison struct {
	*config
	traffic    string // in words
	offered    float64
	times      float64 // the rate of the comparison, times the traffic's
	contenders []*contender
	sweep      []sweepPoint
	tuned      *tuned
}

// sweepPoint is all policies at one load.
type sweepPoint struct {
	load    float64 // as a share of what the weakest policy bears
	offered float64
	runs    [][]*figures // by policy
}

// compare finds the capacities and compares the policies at one load, then at those of the sweep.
func (l *lab) compare(ctx context.Context) (*comparison, error) {
	if _, _, err := l.traffic.Source(1); err != nil {
		return nil, err // before all capacities are searched for
	}
	c := &comparison{config: l.config}
	capacities, err := l.capacities(ctx)
	if err != nil {
		return nil, err
	}
	weakest := math.Inf(1)
	for i, p := range l.policies {
		c.contenders = append(c.contenders, &contender{policy: p, capacity: capacities[i], capRate: capacities[i].Offered})
		weakest = min(weakest, capacities[i].Load)
	}
	c.times = 1
	if l.load > 0 {
		c.times = l.load * weakest
	}
	at := l.traffic.At(c.times)
	if _, c.traffic, err = at.Source(1); err != nil {
		return nil, err
	}
	runs, err := l.atLoad(ctx, c.times, true)
	if err != nil {
		return nil, err
	}
	for i, k := range c.contenders {
		k.runs, k.load = runs[i], c.times/k.capacity.Load
		for _, f := range k.runs {
			c.offered += f.offered / float64(len(k.runs)*len(c.contenders))
		}
	}
	for _, load := range l.config.sweep {
		runs, err := l.atLoad(ctx, load*weakest, false)
		if err != nil {
			return nil, err
		}
		p := sweepPoint{load: load, runs: runs}
		for _, f := range runs[0] {
			p.offered += f.offered / float64(len(runs[0]))
		}
		c.sweep = append(c.sweep, p)
	}
	return c, nil
}

// atLoad runs all policies with all seeds.
func (l *lab) atLoad(ctx context.Context, load float64, keep bool) ([][]*figures, error) {
	var jobs []job
	for _, p := range l.policies {
		for seed := range l.seeds {
			jobs = append(jobs, job{p, uint64(seed + 1), load, keep})
		}
	}
	found, err := l.all(ctx, jobs)
	if err != nil {
		return nil, err
	}
	runs := make([][]*figures, len(l.policies))
	for i := range runs {
		runs[i] = found[i*l.seeds : (i+1)*l.seeds]
	}
	return runs, nil
}

// base is the contender that the others are compared with.
func (c *comparison) base() *contender {
	for _, k := range c.contenders {
		if k.policy.Name == c.baseline {
			return k
		}
	}
	return c.contenders[0]
}

// difference compares a metric, seed by seed.
func difference(base, other *contender, m metric) (stats.Interval, error) {
	if m.share {
		return stats.PairedDifference(base.values(m), other.values(m))
	}
	return stats.PairedRatio(base.values(m), other.values(m))
}
