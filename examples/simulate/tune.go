package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// objective is a figure that tuning improves.
type objective struct {
	name string
	metric
}

func objectives() []objective {
	names := map[string]string{"ttft_p50_s": "ttft-p50", "ttft_p95_s": "ttft-p95", "ttft_p99_s": "ttft-p99", "tpot_p95_s": "tpot-p95", "e2e_p95_s": "e2e-p95", "good_share": "good"}
	var o []objective
	for _, m := range metrics {
		if name, ok := names[m.key]; ok {
			o = append(o, objective{name, m})
		}
	}
	return o
}

func objectiveNames() []string {
	var names []string
	for _, o := range objectives() {
		names = append(names, o.name)
	}
	return names
}

func findObjective(name string) (objective, error) {
	for _, o := range objectives() {
		if o.name == name {
			return o, nil
		}
	}
	return objective{}, errors.New("unknown")
}

// cost is what is minimised.
func (o objective) cost(f *figures) float64 {
	v := o.of(f)
	if math.IsNaN(v) {
		return math.Inf(1)
	}
	return -float64(o.better) * v
}

// candidate is a combination of weights.
type candidate struct {
	weights []float64
	train   []*figures
	held    []*figures // on the seeds of the comparison, which the search never saw
	front   bool
}

// tuned is the end of a search.
type tuned struct {
	names      []string // of the scorers
	defaults   *candidate
	finalists  []*candidate // the best of the search, by the objective on held-out seeds
	candidates int
	trainRuns  int
	load       float64 // as a share of the default policy's capacity
}

// weights are what is tuned of the default policy: the parameters of its scorer.Effort that matter to every workload, and the slack
// of its filter.Overload. All are positive.
var weights = []struct {
	name     string
	standard float64
	set      func(*scorer.Effort, *filter.Overload, float64)
}{
	{"uncached", 2, func(e *scorer.Effort, _ *filter.Overload, v float64) { e.Uncached = v }},
	{"crowd", 4096, func(e *scorer.Effort, _ *filter.Overload, v float64) { e.Crowd = v }},
	{"per request", 64, func(e *scorer.Effort, _ *filter.Overload, v float64) { e.PerRequest = v }},
	{"slack", 16, func(_ *scorer.Effort, o *filter.Overload, v float64) { o.Slack = v }},
}

// weighted is the default policy with other weights.
func weighted(values []float64) sim.Policy {
	return sim.ProfilePolicy("tuned", func(index *prefix.Index) scheduling.Profile {
		p := policy.Default(index)
		var effort scorer.Effort
		var overload filter.Overload
		for i, w := range weights {
			w.set(&effort, &overload, values[i])
		}
		p.Filters = []scheduling.Filter{overload}
		p.Scorers = []scheduling.Weighted{{Scorer: effort}}
		return p
	})
}

// defaultWeights are those of the default policy, with their names.
func defaultWeights() (names []string, values []float64) {
	for _, w := range weights {
		names, values = append(names, w.name), append(values, w.standard)
	}
	return names, values
}

// Seeds that a candidate is judged by in each round of the search, and the share of candidates that stay.
var (
	rounds = []int{2, 4, 8}
	stay   = 3.0
)

const finalists = 5

// tune searches weights by successive halving: many random combinations, around the default and far from it, are tried with
// few seeds, and the better third with more. The best then meet the held-out seeds of the comparison, beside the default.
func (l *lab) tune(ctx context.Context, load, share float64) (*tuned, error) {
	names, defaults := defaultWeights()
	t := &tuned{names: names, defaults: &candidate{weights: defaults}, load: share}
	pool := []*candidate{t.defaults}
	r := rand.New(rand.NewPCG(1, 2))
	for len(pool) < l.tries {
		pool = append(pool, &candidate{weights: draw(r, defaults)})
	}
	t.candidates = len(pool)
	for _, seeds := range rounds {
		if err := l.train(ctx, pool, seeds, load, t); err != nil {
			return nil, err
		}
		slices.SortStableFunc(pool, func(a, b *candidate) int {
			return cmp.Compare(l.trainCost(a, seeds), l.trainCost(b, seeds))
		})
		if keep := max(finalists, int(math.Ceil(float64(len(pool))/stay))); keep < len(pool) {
			pool = pool[:keep]
		}
	}
	if !slices.Contains(pool, t.defaults) {
		pool = append(pool, t.defaults)
	}
	var jobs []job
	for _, c := range pool {
		for seed := range l.seeds {
			jobs = append(jobs, job{weighted(c.weights), uint64(seed + 1), load, false})
		}
	}
	found, err := l.all(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for i, c := range pool {
		c.held = found[i*l.seeds : (i+1)*l.seeds]
	}
	slices.SortStableFunc(pool, func(a, b *candidate) int {
		return cmp.Compare(mean(a.held, l.objective.cost), mean(b.held, l.objective.cost))
	})
	t.finalists = pool
	markFront(pool)
	return t, nil
}

// train gives each candidate runs on the first so many training seeds.
func (l *lab) train(ctx context.Context, pool []*candidate, seeds int, load float64, t *tuned) error {
	var jobs []job
	var whose []*candidate
	for _, c := range pool {
		for seed := len(c.train); seed < seeds; seed++ {
			jobs = append(jobs, job{weighted(c.weights), uint64(trainSeed + seed), load, false})
			whose = append(whose, c)
		}
	}
	found, err := l.all(ctx, jobs)
	if err != nil {
		return err
	}
	for i, f := range found {
		whose[i].train = append(whose[i].train, f)
	}
	t.trainRuns += len(jobs)
	return nil
}

func (l *lab) trainCost(c *candidate, seeds int) float64 {
	return mean(c.train[:seeds], l.objective.cost)
}

func mean(runs []*figures, of func(*figures) float64) float64 {
	values := make([]float64, len(runs))
	for i, f := range runs {
		values[i] = of(f)
	}
	return stats.Mean(values).Estimate
}

// draw makes weights: each of the default's times a factor between a sixteenth and sixteen.
func draw(r *rand.Rand, defaults []float64) []float64 {
	w := make([]float64, len(defaults))
	for i, d := range defaults {
		w[i] = d * math.Exp2(8*r.Float64()-4)
		w[i] = math.Round(w[i]*100) / 100
	}
	return w
}

// markFront marks the candidates that no other beats in TTFT p95 and in TPOT p95, by means over the held-out seeds.
func markFront(pool []*candidate) {
	ttft := func(f *figures) float64 { return f.ttft95 }
	tpot := func(f *figures) float64 { return f.tpot95 }
	for _, c := range pool {
		a, b := mean(c.held, ttft), mean(c.held, tpot)
		c.front = !slices.ContainsFunc(pool, func(o *candidate) bool {
			x, y := mean(o.held, ttft), mean(o.held, tpot)
			return x <= a && y <= b && (x < a || y < b)
		})
	}
}

// table is the finalists, the best first.
func (t *tuned) table(o objective) *report.Table {
	table := &report.Table{
		Title:   "Weights, the best by " + o.metric.name + " first",
		Columns: report.Columns("", append(slices.Clone(t.names), "TTFT p95", "TPOT p95", "good", "by objective", "95 % interval", "front")...),
		Note: fmt.Sprintf("%d combinations were searched with %d runs on training seeds, by successive halving; all figures here are means over seeds that the search did not use. "+
			"By objective: "+o.metric.name+" against the default. The best of several finalists looks a little better than it is. Front: no other finalist is better in both TTFT p95 and TPOT p95 (the Pareto front).", t.candidates, t.trainRuns),
	}
	for i, c := range t.finalists {
		name := fmt.Sprintf("%d", i+1)
		if c == t.defaults {
			name = "default"
		}
		cells := []string{name}
		for _, w := range c.weights {
			cells = append(cells, fmt.Sprintf("%g", w))
		}
		diff, format := t.against(c, o)
		front := ""
		if c.front {
			front = "yes"
		}
		table.Add(append(cells,
			report.Seconds(mean(c.held, func(f *figures) float64 { return f.ttft95 })),
			report.Seconds(mean(c.held, func(f *figures) float64 { return f.tpot95 })),
			report.Percent(mean(c.held, func(f *figures) float64 { return f.goodShare })),
			format(diff.Estimate), report.Between(diff, format), front)...)
	}
	return table
}

// against compares a candidate with the default, on held-out seeds.
func (t *tuned) against(c *candidate, o objective) (stats.Interval, report.Format) {
	values := func(c *candidate) []float64 {
		v := make([]float64, len(c.held))
		for i, f := range c.held {
			v[i] = o.of(f)
		}
		return v
	}
	compare, format := stats.PairedRatio, report.Change
	if o.share {
		compare, format = stats.PairedDifference, report.Points
	}
	i, err := compare(values(t.defaults), values(c))
	if err != nil { // not reached: both have a run for each seed
		return stats.Interval{Estimate: math.NaN(), Low: math.NaN(), High: math.NaN()}, format
	}
	return i, format
}
