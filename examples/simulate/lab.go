package main

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/internal/workload"
)

// figures are what is kept of one run. Times are in seconds.
type figures struct {
	ttft50, ttft95, ttft99 float64
	tpot50, tpot95         float64
	e2e95                  float64
	goodput, goodShare     float64 // requests within the SLO: a second, and of all
	hits, imbalance        float64
	offered                float64 // requests a second
	errors, preemptions    float64 // of all requests
	requests               int

	ttft, tpot stats.Histogram
	samples    []sample
}

// sample is the fleet at one moment.
type sample struct {
	at              time.Duration
	hits, imbalance float64
	inFlight        float64
}

// job is one run.
type job struct {
	policy sim.Policy
	seed   uint64
	load   float64 // times the traffic's rate
	keep   bool    // histograms and samples
}

// lab runs simulations, as many at once as there are processors.
type lab struct {
	*config
	done, planned atomic.Int64 // runs
}

// source is the traffic at a load. With a trace each seed moves requests a little.
func (l *lab) source(load float64, seed uint64) (workload.Source, error) {
	o := l.traffic.At(load)
	s, _, err := o.Source(seed)
	if err != nil {
		return nil, err
	}
	if l.traffic.Trace != "" {
		s = jitter(s, time.Second, seed)
	}
	return s, nil
}

func (l *lab) config1(p sim.Policy, seed uint64) sim.Config {
	c := sim.Config{
		Seed: seed, Policy: p, Fleet: []sim.Group{{Count: l.endpoints, Engine: l.engine}},
		Duration: l.duration, Requests: l.requests, WarmUp: l.warmup, SLO: l.slo, Scrape: sim.Scrape{Interval: l.scrape},
	}
	c.SampleEvery = 10 * time.Second
	if l.duration > 0 {
		c.SampleEvery = max(l.duration/60, 100*time.Millisecond)
	}
	if l.traffic.Adapters != "" {
		c.Fleet[0].Adapters = splitList(l.traffic.Adapters)
		c.Fleet[0].Engine.MaxAdapters = cmp.Or(c.Fleet[0].Engine.MaxAdapters, 4)
	}
	return c
}

// one does a run.
func (l *lab) one(ctx context.Context, j job) (*figures, error) {
	source, err := l.source(j.load, j.seed)
	if err != nil {
		return nil, err
	}
	c := l.config1(j.policy, j.seed)
	c.Workload = source
	f := &figures{}
	r, err := sim.Run(ctx, c, sim.Observer{Sample: func(s *sim.Sample) {
		if !j.keep || s.Arrived+s.InFlight == 0 {
			return
		}
		hits := math.NaN()
		if s.LookedUpTokens > 0 {
			hits = s.HitRatio()
		}
		f.samples = append(f.samples, sample{s.At, hits, s.Imbalance, float64(s.InFlight)})
	}})
	if err != nil {
		return nil, err
	}
	if r.Measured.Arrived == 0 {
		return nil, fmt.Errorf("no request arrives after the warm-up of %v", l.warmup)
	}
	m, n := &r.Measured, float64(r.Measured.Arrived)
	f.ttft50, f.ttft95, f.ttft99 = quantile(&r.TTFT, 0.5), quantile(&r.TTFT, 0.95), quantile(&r.TTFT, 0.99)
	f.tpot50, f.tpot95, f.e2e95 = quantile(&r.TPOT, 0.5), quantile(&r.TPOT, 0.95), quantile(&r.E2E, 0.95)
	f.goodput, f.goodShare, f.hits, f.imbalance = r.Goodput(), r.GoodShare(), r.HitRatio(), r.Imbalance
	f.offered, f.requests = n/r.Window.Seconds(), m.Arrived
	f.errors, f.preemptions = float64(r.Errors())/n, float64(m.Preemptions)/n
	if j.keep {
		f.ttft, f.tpot = r.TTFT, r.TPOT
	}
	l.done.Add(1)
	return f, nil
}

// quantile is in seconds, and NaN if there is none.
func quantile(h *stats.Histogram, q float64) float64 {
	if h.Count() == 0 {
		return math.NaN()
	}
	return h.Quantile(q).Seconds()
}

// all does runs side by side, and returns them in order of the jobs.
func (l *lab) all(ctx context.Context, jobs []job) ([]*figures, error) {
	l.planned.Add(int64(len(jobs)))
	found := make([]*figures, len(jobs))
	err := sim.Parallel(ctx, 0, len(jobs), func(ctx context.Context, i int) (err error) {
		found[i], err = l.one(ctx, jobs[i])
		return err
	})
	return found, err
}

// capacities finds the load that each policy can just bear, times the traffic's rate: the median over a few seeds that no
// comparison uses, since one stretch of traffic is harder than another.
func (l *lab) capacities(ctx context.Context) ([]sim.Capacity, error) {
	seeds := l.capacitySeeds()
	l.planned.Add(l.capacityRuns())
	found := make([]sim.Capacity, len(l.policies)*seeds)
	err := sim.Parallel(ctx, 0, len(found), func(ctx context.Context, i int) error {
		p, seed := l.policies[i/seeds], uint64(capacitySeed+i%seeds)
		c := l.config1(p, seed)
		c.SampleEvery = min(c.SampleEvery, time.Second) // a trace at many times its rate is short
		runs := int64(0)
		var err error
		found[i], err = sim.FindCapacity(ctx, c, func(load float64) (workload.Source, error) {
			runs++
			l.done.Add(1)
			return l.source(load, seed)
		}, sim.CapacityOptions{Start: l.guess(), Precision: 0.05})
		l.planned.Add(runs - capacityTries)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	medians := make([]sim.Capacity, len(l.policies))
	for i := range medians {
		own := found[i*seeds : (i+1)*seeds]
		slices.SortFunc(own, func(a, b sim.Capacity) int { return cmp.Compare(a.Load, b.Load) })
		medians[i] = own[seeds/2]
	}
	return medians, nil
}

// capacitySeeds is how many seeds a capacity is searched with; those of a trace are all alike.
func (l *lab) capacitySeeds() int {
	if l.traffic.Trace != "" {
		return 1
	}
	return 3
}

// capacityTries is about how many runs it takes to find a capacity.
const capacityTries = 8

// capacityRuns is about how many runs the search for all of them takes.
func (l *lab) capacityRuns() int64 { return int64(capacityTries * l.capacitySeeds() * len(l.policies)) }

// guess is a load to begin with: a request a second for each engine, if the rate is known.
func (l *lab) guess() float64 {
	if l.traffic.Trace != "" {
		return 1
	}
	return float64(l.endpoints) / l.traffic.Rate
}

// Seeds of runs that no comparison uses.
const (
	capacitySeed = 1 << 32
	trainSeed    = 1 << 33
)

// jitter delays each request by up to a time, each by another, and keeps sessions in order. It holds back what arrives within
// that time.
func jitter(source workload.Source, most time.Duration, seed uint64) workload.Source {
	return func(yield func(workload.Request, error) bool) {
		random := rand.New(rand.NewPCG(seed, 0x6a6974746572))
		latest := map[int]time.Duration{} // by session
		var held arrivals
		number := 0
		for r, err := range source {
			if err != nil {
				yield(r, err)
				return
			}
			for len(held) > 0 && held[0].At <= r.At {
				if !yield(heap.Pop(&held).(arrival).Request, nil) {
					return
				}
			}
			r.At = max(r.At+time.Duration(random.Int64N(int64(most))), latest[r.Session])
			if r.Last {
				delete(latest, r.Session)
			} else {
				latest[r.Session] = r.At
			}
			heap.Push(&held, arrival{r, number})
			number++
		}
		for len(held) > 0 {
			if !yield(heap.Pop(&held).(arrival).Request, nil) {
				return
			}
		}
	}
}

type arrival struct {
	workload.Request
	number int
}

// arrivals is a heap by time, and by number where that is equal.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	return a[i].At < a[j].At || a[i].At == a[j].At && a[i].number < a[j].number
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(r any)   { *a = append(*a, r.(arrival)) }
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	r := (*a)[last]
	*a = (*a)[:last]
	return r
}
