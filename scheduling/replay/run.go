package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
)

// DefaultDifferences is how many differences a report shows where Options does not say.
const DefaultDifferences = 10

// Options are what a replay is asked.
type Options struct {
	// Plan is asked what it would have chosen. Its plugins learn the recorded choices; none of them may be in use by a running
	// scheduler. Its MaxMetricAge counts, its seed does not.
	Plan scheduling.Options
	// Differences is how many differing choices the report shows, the first ones; 0 means DefaultDifferences, -1 none.
	Differences int
}

// Run asks a plan about every recorded choice. A recording that ends within a line counts up to there. What Run returns with an
// error of the recording is the report so far.
func Run(ctx context.Context, r *Reader, o Options) (*Report, error) {
	if err := o.Plan.Validate(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	report := &Report{byStage: map[string]*Tally{}, byEndpoint: map[string]*Shift{}}
	defer report.finish()
	show := cmp.Or(o.Differences, DefaultDifferences)
	var sched *scheduling.Scheduler
	var m scheduling.Moment
	for ctx.Err() == nil {
		err := r.Next(&m)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return report, nil
		}
		if err != nil {
			return report, err
		}
		if sched == nil {
			if sched, err = scheduling.New(r.pool, o.Plan); err != nil {
				return report, err
			}
		}
		v, err := sched.Weigh(&m, scheduling.WeighOptions{Learn: true})
		report.add(&m, &v, err, len(report.Differences) < show)
	}
	return report, ctx.Err()
}

// Report is how a plan's choices differ from the recorded ones.
type Report struct {
	// Tally is of all choices, Stages that of each stage, in order of appearance; empty where there are no stages.
	Tally
	Stages []StageTally `json:"stages,omitempty"`
	// Endpoints are where choices went, the largest shifts first.
	Endpoints []Shift `json:"endpoints"`
	// Differences are the first differing choices.
	Differences []Difference `json:"differences,omitempty"`

	byStage    map[string]*Tally
	byEndpoint map[string]*Shift
	stages     []string
}

// Tally counts choices.
type Tally struct {
	// Choices is the sum of the next five: the plan chose the same endpoint, or another one, or would have done without the
	// stage, or found no endpoint, or has no such stage.
	Choices   int `json:"choices"`
	Agreed    int `json:"agreed"`
	Disagreed int `json:"disagreed"`
	Skipped   int `json:"skipped"`
	Failed    int `json:"failed"`
	Unknown   int `json:"unknown_stage"`
	// Removed are the disagreements in which the plan's filters had removed the recorded choice; Regret is of the others.
	Removed int    `json:"removed"`
	Regret  Regret `json:"regret"`
	// PromptTokens is the length of the prompts of choices that agreed or disagreed, and the others how much of them the recorded
	// and the plan's choices had cached.
	PromptTokens   int64 `json:"prompt_tokens"`
	RecordedCached int64 `json:"recorded_cached_tokens"`
	PlanCached     int64 `json:"plan_cached_tokens"`

	regret histogram
}

// Agreement is the share of the choices that agreed, 0 to 1; 1 if there were none.
func (t *Tally) Agreement() float64 {
	if t.Choices == 0 {
		return 1
	}
	return float64(t.Agreed) / float64(t.Choices)
}

// StageTally is a stage's.
type StageTally struct {
	Stage string `json:"stage"`
	Tally
}

// Regret is how much higher the plan scored its own choice than the recorded one, in its own scores, over disagreements.
// Quantiles are exact to a thousandth.
type Regret struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Shift is how choices of one endpoint differ.
type Shift struct {
	Endpoint string `json:"endpoint"`
	// Recorded and Plan are how many choices fell on it.
	Recorded int `json:"recorded"`
	Plan     int `json:"plan"`
	// RecordedUncached and PlanUncached are the prompt tokens that it would have had to prefill for them.
	RecordedUncached int64 `json:"recorded_uncached_tokens"`
	PlanUncached     int64 `json:"plan_uncached_tokens"`
}

// Difference is one choice that differed.
type Difference struct {
	// Choice is its number in the recording, from 1.
	Choice   int    `json:"choice"`
	Stage    string `json:"stage,omitempty"`
	Model    string `json:"model,omitempty"`
	Tokens   int    `json:"prompt_tokens"`
	Recorded string `json:"recorded"`
	// Plan is empty if the plan chose none; Err then says why, unless it would have done without the stage.
	Plan string `json:"plan,omitempty"`
	// RecordedScore is the score in the recording. PlanScore is the plan's of its choice, and KeptScore, unless its filters had
	// removed that, of the recorded one.
	RecordedScore float64 `json:"recorded_score"`
	PlanScore     float64 `json:"plan_score"`
	KeptScore     float64 `json:"kept_score"`
	Removed       bool    `json:"removed,omitempty"`
	// RecordedCached and PlanCached are the tokens of the prompt that the choices had cached.
	RecordedCached int    `json:"recorded_cached_tokens"`
	PlanCached     int    `json:"plan_cached_tokens"`
	Err            string `json:"error,omitempty"`
}

func (r *Report) add(m *scheduling.Moment, v *scheduling.Verdict, err error, show bool) {
	stage := r.byStage[m.Stage]
	if stage == nil {
		stage = new(Tally)
		r.byStage[m.Stage] = stage
		r.stages = append(r.stages, m.Stage)
	}
	for _, t := range [...]*Tally{&r.Tally, stage} {
		t.add(m, v, err)
	}
	chose := err == nil && !v.Skipped
	recorded := r.shift(m.Choice.Endpoint.ID)
	recorded.Recorded++
	recorded.RecordedUncached += int64(max(0, m.PromptTokens-m.Choice.CachedTokens))
	if chose {
		plan := r.shift(v.Choice.Endpoint.ID)
		plan.Plan++
		plan.PlanUncached += int64(max(0, m.PromptTokens-v.Choice.CachedTokens))
	}
	if !show || chose && v.Choice.Slot == m.Choice.Slot {
		return
	}
	d := Difference{
		Choice: r.Choices, Stage: m.Stage, Model: m.Request.Model, Tokens: m.PromptTokens, Recorded: m.Choice.Endpoint.ID,
		RecordedScore: m.Score, RecordedCached: m.Choice.CachedTokens,
	}
	if chose {
		d.Plan, d.PlanScore, d.PlanCached = v.Choice.Endpoint.ID, v.Score, v.Choice.CachedTokens
		d.KeptScore, d.Removed = v.KeptScore, !v.Kept
	} else if err != nil {
		d.Err = err.Error()
	}
	r.Differences = append(r.Differences, d)
}

func (r *Report) shift(id string) *Shift {
	s := r.byEndpoint[id]
	if s == nil {
		s = &Shift{Endpoint: id}
		r.byEndpoint[id] = s
	}
	return s
}

func (t *Tally) add(m *scheduling.Moment, v *scheduling.Verdict, err error) {
	t.Choices++
	switch {
	case errors.Is(err, scheduling.ErrUnknownStage):
		t.Unknown++
		return
	case err != nil:
		t.Failed++
		return
	case v.Skipped:
		t.Skipped++
		return
	case v.Choice.Slot == m.Choice.Slot:
		t.Agreed++
	default:
		t.Disagreed++
		if v.Kept {
			t.regret.add(v.Score - v.KeptScore)
		} else {
			t.Removed++
		}
	}
	t.PromptTokens += int64(m.PromptTokens)
	t.RecordedCached += int64(m.Choice.CachedTokens)
	t.PlanCached += int64(v.Choice.CachedTokens)
}

// finish works out what is derived of the sums.
func (r *Report) finish() {
	r.Regret = r.regret.summary()
	if len(r.stages) > 1 || len(r.stages) == 1 && r.stages[0] != "" {
		for _, name := range r.stages {
			t := r.byStage[name]
			t.Regret = t.regret.summary()
			r.Stages = append(r.Stages, StageTally{name, *t})
		}
	}
	r.Endpoints = make([]Shift, 0, len(r.byEndpoint))
	for _, s := range r.byEndpoint {
		r.Endpoints = append(r.Endpoints, *s)
	}
	slices.SortFunc(r.Endpoints, func(a, b Shift) int {
		return cmp.Or(cmp.Compare(abs(b.Plan-b.Recorded), abs(a.Plan-a.Recorded)), strings.Compare(a.Endpoint, b.Endpoint))
	})
}

func abs(n int) int { return max(n, -n) }

// histogram holds numbers from 0 to 1, to a thousandth.
type histogram struct {
	bins  [1001]int
	count int
	sum   float64
	max   float64
}

func (h *histogram) add(v float64) {
	h.bins[int(min(max(v, 0), 1)*1000+.5)]++
	h.count++
	h.sum += v
	h.max = max(h.max, v)
}

func (h *histogram) quantile(q float64) float64 {
	rank := int(q*float64(h.count-1)) + 1
	for i, n := range h.bins {
		if rank -= n; rank <= 0 {
			return min(float64(i)/1000, h.max)
		}
	}
	return h.max
}

func (h *histogram) summary() Regret {
	if h.count == 0 {
		return Regret{}
	}
	return Regret{h.sum / float64(h.count), h.quantile(.5), h.quantile(.9), h.quantile(.99), h.max}
}

// String is the report as a text for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d choices: %.2f %% the same, %d others, %d skipped, %d failed, %d of stages that the plan has not\n",
		r.Choices, 100*r.Agreement(), r.Disagreed, r.Skipped, r.Failed, r.Unknown)
	for i := range r.Stages {
		s := &r.Stages[i]
		fmt.Fprintf(&b, "  %s: %d choices, %.2f %% the same\n", s.Stage, s.Choices, 100*s.Agreement())
	}
	if r.Disagreed > 0 {
		fmt.Fprintf(&b, "regret: mean %.3f, p50 %.3f, p99 %.3f, max %.3f; %d recorded choices were removed by filters\n",
			r.Regret.Mean, r.Regret.P50, r.Regret.P99, r.Regret.Max, r.Removed)
	}
	if r.PromptTokens > 0 {
		total := float64(r.PromptTokens)
		fmt.Fprintf(&b, "cached: %.1f %% of the prompt tokens recorded, %.1f %% by the plan\n",
			100*float64(r.RecordedCached)/total, 100*float64(r.PlanCached)/total)
	}
	for _, s := range r.Endpoints[:min(len(r.Endpoints), 10)] {
		fmt.Fprintf(&b, "  %-20s %6d choices recorded, %6d by the plan (%+d)\n", s.Endpoint, s.Recorded, s.Plan, s.Plan-s.Recorded)
	}
	return b.String()
}
