package matrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/internal/workload"
)

// Options are the parameters of Run. Scenarios and Policies are required.
type Options struct {
	Scenarios []Scenario
	// Policies are compared; the first is the one under test.
	Policies []sim.Policy
	// Reference is the policy whose capacity loads are shares of; its Name empty means llm-d's default.
	Reference sim.Policy
	// Loads are shares of the capacity; none means 0.5, 0.8 and 0.95.
	Loads []float64
	// Seeds is the number of runs of each policy in a cell; 0 means 10.
	Seeds int
	// FirstSeed moves the seeds, to ones that nothing was tuned on; the first is FirstSeed+1.
	FirstSeed int
	// Requests is about how many arrive in a run; 0 means 2500. The first quarter is not measured.
	Requests int
	// Store is a file of runs; empty means that none are kept.
	Store string
	// Workers is how many simulations run at the same time; 0 means one for each processor.
	Workers int
	// Progress, if it is there, is called with the number of runs that have ended and that there are, in any order.
	Progress func(done, of int)
}

func (o Options) withDefaults() Options {
	if o.Reference.Name == "" {
		o.Reference = sim.MustPolicy("llm-d")
	}
	if len(o.Loads) == 0 {
		o.Loads = []float64{0.5, 0.8, 0.95}
	}
	o.Seeds = cmp.Or(o.Seeds, 10)
	o.Requests = cmp.Or(o.Requests, 2500)
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	return o
}

func (o *Options) validate() error {
	var errs []error
	if len(o.Scenarios) == 0 {
		errs = append(errs, errors.New("no scenarios"))
	}
	if len(o.Policies) == 0 {
		errs = append(errs, errors.New("no policies"))
	}
	for _, load := range o.Loads {
		if !(load > 0 && load <= 10) {
			errs = append(errs, fmt.Errorf("load is %v, want above 0, at most 10", load))
		}
	}
	for _, v := range []struct {
		name     string
		v, least int
	}{{"Seeds", o.Seeds, 2}, {"FirstSeed", o.FirstSeed, 0}, {"Requests", o.Requests, 100}, {"Workers", o.Workers, 1}} {
		if v.v < v.least {
			errs = append(errs, fmt.Errorf("%s is %d, want at least %d", v.name, v.v, v.least))
		}
	}
	return errors.Join(errs...)
}

// Figures are what is kept of a run. Times are in seconds.
type Figures struct {
	TTFTMean float64 `json:"ttft_mean_s"`
	TTFT50   float64 `json:"ttft_p50_s"`
	TTFT95   float64 `json:"ttft_p95_s"`
	TTFT99   float64 `json:"ttft_p99_s"`
	TPOT95   float64 `json:"tpot_p95_s"`
	// Good is the share of requests answered within the SLO: goodput over the rate of arrivals.
	Good float64 `json:"good_share"`
	// Hits is the share of prompt tokens that were cached, Reuse what had been said before, a bound on it.
	Hits  float64 `json:"hit_ratio"`
	Reuse float64 `json:"reuse_ratio"`
	// Incomplete is the share of requests that did not complete.
	Incomplete float64 `json:"incomplete_share"`
	Requests   int     `json:"requests"`
}

// key is all that determines a run, but for the code.
type key struct {
	Scenario string  `json:"scenario"`
	Policy   string  `json:"policy"`
	Rate     float64 `json:"rate"` // 0 is the search for the capacity
	Seed     uint64  `json:"seed"`
	Requests int     `json:"wanted"`
}

// Cell is a scenario at a load.
type Cell struct {
	Scenario *Scenario
	Load     float64
	Rate     float64     // requests a second
	Runs     [][]Figures // by policy and seed
}

// Table is a matrix that was run.
type Table struct {
	Options
	Cells []Cell
}

// seedsOfCapacity are the runs that capacities are searched with, on seeds that no comparison uses.
const (
	capacitySeed    = 1 << 32
	seedsOfCapacity = 3
	precision       = 0.02
)

// Run simulates what the store does not have yet. The same options give the same table.
func Run(ctx context.Context, o Options) (*Table, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	st, err := openStore(o.Store)
	if err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	defer st.close()
	m := &runner{Options: o, store: st}
	m.planned = len(o.Scenarios) * (seedsOfCapacity + len(o.Loads)*len(o.Policies)*o.Seeds)
	capacities, err := m.capacities(ctx)
	if err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	t := &Table{Options: o}
	for i := range o.Scenarios {
		for _, load := range o.Loads {
			c := Cell{Scenario: &o.Scenarios[i], Load: load, Rate: load * capacities[i], Runs: make([][]Figures, len(o.Policies))}
			for p := range c.Runs {
				c.Runs[p] = make([]Figures, o.Seeds)
			}
			t.Cells = append(t.Cells, c)
		}
	}
	err = sim.Parallel(ctx, o.Workers, len(t.Cells)*len(o.Policies)*o.Seeds, func(ctx context.Context, i int) (err error) {
		i, p := i/len(o.Policies), i%len(o.Policies)
		c, seed := &t.Cells[i/o.Seeds], i%o.Seeds
		c.Runs[p][seed], err = m.one(ctx, c.Scenario, o.Policies[p], c.Rate, uint64(o.FirstSeed+seed+1))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	return t, st.close()
}

// runner is a matrix under way.
type runner struct {
	Options
	store   *store
	planned int
	done    atomic.Int64
}

func (m *runner) ended() {
	if n := m.done.Add(1); m.Progress != nil {
		m.Progress(int(n), m.planned)
	}
}

// capacities finds the rate that the reference policy bears in each scenario: the median over seeds.
func (m *runner) capacities(ctx context.Context) ([]float64, error) {
	found := make([]float64, len(m.Scenarios)*seedsOfCapacity)
	err := sim.Parallel(ctx, m.Workers, len(found), func(ctx context.Context, i int) (err error) {
		found[i], err = m.capacity(ctx, &m.Scenarios[i/seedsOfCapacity], uint64(capacitySeed+i%seedsOfCapacity))
		return err
	})
	if err != nil {
		return nil, err
	}
	capacities := make([]float64, len(m.Scenarios))
	for i := range capacities {
		own := found[i*seedsOfCapacity : (i+1)*seedsOfCapacity]
		slices.Sort(own)
		capacities[i] = own[seedsOfCapacity/2]
	}
	return capacities, nil
}

func (m *runner) capacity(ctx context.Context, s *Scenario, seed uint64) (float64, error) {
	defer m.ended()
	k := key{Scenario: s.Name, Policy: m.Reference.Name, Seed: seed, Requests: m.Requests}
	if e, ok := m.store.get(k); ok {
		return e.Capacity, nil
	}
	start := 1.0
	for _, g := range s.Config.Fleet {
		start += float64(g.Count)
	}
	c := s.Config
	c.Seed, c.Policy = seed, m.Reference
	// The length of a search is that of a run at a request a second and engine.
	c.Duration = m.length(start)
	c.SampleEvery = c.Duration / 60
	found, err := sim.FindCapacity(ctx, c, func(rate float64) (workload.Source, error) { return s.Source(seed, rate) },
		sim.CapacityOptions{Start: start, Precision: precision})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.Name, err)
	}
	return found.Load, m.store.put(entry{key: k, Capacity: found.Load})
}

// length is that of a run at a rate. Caches and batches must fill, and nobody waits for rare requests for ever.
func (m *runner) length(rate float64) time.Duration {
	const shortest, longest = time.Minute, 30 * time.Minute
	return min(max(time.Duration(float64(m.Requests)/rate*float64(time.Second)), shortest), longest)
}

// one does a run, or finds it in the store.
func (m *runner) one(ctx context.Context, s *Scenario, p sim.Policy, rate float64, seed uint64) (Figures, error) {
	defer m.ended()
	k := key{Scenario: s.Name, Policy: p.Name, Rate: rate, Seed: seed, Requests: m.Requests}
	if e, ok := m.store.get(k); ok {
		return e.Figures, nil
	}
	c := s.Config
	c.Seed, c.Policy, c.Reuse = seed, p, true
	c.Duration = m.length(rate)
	c.WarmUp = c.Duration / 4
	c.SLO = cmp.Or(c.SLO, sim.SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond})
	var err error
	if c.Workload, err = s.Source(seed, rate); err != nil {
		return Figures{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	r, err := sim.Run(ctx, c)
	if err != nil {
		return Figures{}, fmt.Errorf("%s, %s, seed %d: %w", s.Name, p.Name, seed, err)
	}
	f := Figures{
		TTFTMean: r.TTFT.Mean().Seconds(), TTFT50: quantile(&r.TTFT, 0.5), TTFT95: quantile(&r.TTFT, 0.95), TTFT99: quantile(&r.TTFT, 0.99),
		TPOT95: quantile(&r.TPOT, 0.95), Good: r.GoodShare(), Hits: r.HitRatio(), Reuse: r.ReuseRatio(), Requests: r.Measured.Arrived,
		Incomplete: float64(r.Errors()) / math.Max(1, float64(r.Measured.Arrived)),
	}
	return f, m.store.put(entry{key: k, Figures: f})
}

func quantile(h *stats.Histogram, q float64) float64 { return h.Quantile(q).Seconds() }
