package engine

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTimesOfARealEngine fits the time options to one recording, a calibration that does one thing at a time, and replays the
// others with them: arrivals as recorded, and nothing else known of the run. A turn of a conversation follows the one before
// after the pause that was recorded. The errors are printed as a table, and bounded unless the recordings were made anew on a
// busy machine: where calibration itself repeats no better than that, nothing can be said of the model.
func TestTimesOfARealEngine(t *testing.T) {
	all := recordings(t)
	i := slices.IndexFunc(all, func(r *recording) bool { return r.Name == "calibration" })
	require.GreaterOrEqual(t, i, 0, "no recording named calibration")
	o, frontend, stepError := calibrate(t, all[i])
	t.Logf("%s: step %v, %v a sequence, %v a token of context; prefill %.0f tokens/s, %.3g pairs/s; frontend %.1f ms; median |error| of a step %.1f %%",
		all[i].Engine, o.StepTime, o.StepTimePerSequence, o.StepTimePerKVToken, o.PrefillRate, o.AttentionRate, frontend, 100*stepError)
	require.Less(t, stepError, 0.15)

	results := map[string]comparison{}
	var table strings.Builder
	fmt.Fprintf(&table, "\n| load | requests | TTFT ms real / simulated | error | TPOT ms | error | E2E error | ITL ms p50 | p99 | waiting | pairs out of order | cached tokens equal | preemptions |\n|%s\n",
		strings.Repeat("---|", 13))
	for _, rec := range all {
		if rec.Name == "calibration" {
			continue
		}
		truth := rec.lives(frontend)
		model := simulateRecording(t, rec, truth, o)
		c := compare(rec, truth, model)
		fmt.Fprintf(&table, "| %s | %d | %.0f / %.0f | %.1f %% | %.1f / %.1f | %.1f %% | %.1f %% | %.0f / %.0f | %.0f / %.0f | %.2f / %.2f | %.2f %% | %d of %d | %d / %d |\n",
			rec.Name, len(rec.Requests), c.ttft[0], c.ttft[1], 100*c.ttftError, c.tpot[0], c.tpot[1], 100*c.tpotError, 100*c.e2eError,
			c.gap50[0], c.gap50[1], c.gap99[0], c.gap99[1],
			c.waiting[0], c.waiting[1], 100*c.disorder, c.sameCached, len(rec.Requests), c.preemptions[0], c.preemptions[1])
		results[rec.Name] = c
	}
	t.Log(table.String())
	if os.Getenv("ENGINE_RECORDINGS") != "" && stepError > 0.05 {
		t.Skip("recorded on a machine too busy for its times to say anything of the model")
	}
	for name, c := range results {
		require.Less(t, c.e2eError, 0.25, name)
		require.Less(t, c.disorder, 0.1, name)
		require.GreaterOrEqual(t, c.sameCached, c.requests*3/4, name)
	}
}

// A life is what happened to a request, in milliseconds since the first was sent.
type life struct {
	arrived, started, first, finished float64
	cached, output, preemptions       int
	gaps                              []float64 // between tokens
}

// lives reads the lives of the requests off the recorded steps. A request arrives at the engine when it has passed the
// frontend, which takes so many milliseconds; the engine itself only looks between two steps.
func (r *recording) lives(frontend float64) []life {
	index := map[string]int{}
	out := make([]life, len(r.Requests))
	for i, q := range r.Requests {
		index[q.ID] = i
		out[i] = life{arrived: min(q.Sent+frontend, q.Added), started: -1, first: -1, cached: q.Cached, output: q.Output}
	}
	for _, s := range r.Steps {
		for _, x := range s.Tokens {
			i := index[x.request]
			l := &out[i]
			if l.started < 0 {
				l.started = s.Planned
			}
			if x.computed+x.tokens < r.Requests[i].Prompt {
				continue
			}
			if l.first < 0 {
				l.first = s.Ended
			} else {
				l.gaps = append(l.gaps, s.Ended-l.finished)
			}
			l.finished = s.Ended
		}
		for _, id := range s.Preempted {
			out[index[id]].preemptions++
		}
	}
	return out
}

// calibrate fits the five terms of a step's time to a recording, and returns with them the time that requests take to an
// engine that is not busy (the 10th percentile), in milliseconds, and the median relative error of what it fitted.
func calibrate(t *testing.T, r *recording) (o Options, frontend, stepError float64) {
	prompt := map[string]int{}
	var delays []float64
	for _, q := range r.Requests {
		prompt[q.ID] = q.Prompt
		delays = append(delays, q.Added-q.Sent)
	}
	var x [][]float64
	ended := math.Inf(-1)
	for _, s := range r.Steps {
		var p plan
		for _, share := range s.Tokens {
			if share.computed >= prompt[share.request] {
				p.decodes++
				p.contextTokens += share.computed + 1
			} else {
				p.chunk(share.tokens, share.computed)
			}
		}
		// Between two steps in a row the engine plans; that belongs to the step.
		began := s.Planned
		if began-ended < 2 {
			began = ended
		}
		ended = s.Ended
		took := ended - began
		x = append(x, []float64{1 / took, float64(p.decodes) / took, float64(p.contextTokens) / took, float64(p.prefill) / took, float64(p.pairs) / took})
	}
	// Least absolute errors, by least squares with weights: a step that the machine interrupted must not count for many.
	var c, errs []float64
	weights := slices.Repeat([]float64{1}, len(x))
	for range 10 {
		xw, yw := make([][]float64, len(x)), make([]float64, len(x))
		for i := range x {
			xw[i] = make([]float64, len(x[i]))
			for j := range x[i] {
				xw[i][j] = x[i][j] * weights[i]
			}
			yw[i] = weights[i]
		}
		c = nonNegativeLeastSquares(xw, yw)
		errs = errs[:0]
		for i := range x {
			e := -1.0
			for j := range c {
				e += c[j] * x[i][j]
			}
			errs = append(errs, math.Abs(e))
			weights[i] = 1 / math.Sqrt(max(math.Abs(e), 0.01))
		}
	}
	o = Options{
		StepTime: millis(c[0]), StepTimePerSequence: max(1, millis(c[1])), StepTimePerKVToken: max(1, millis(c[2])),
		PrefillRate: 1000 / max(c[3], 1e-9), AttentionRate: 1000 / max(c[4], 1e-15),
	}
	return o, quantile(delays, 0.1), quantile(errs, 0.5)
}

// simulateRecording replays a recording with the time options of o.
func simulateRecording(t *testing.T, rec *recording, truth []life, o Options) []life {
	geometry := rec.options()
	o.BlockTokens, o.Blocks, o.MaxRunning = geometry.BlockTokens, geometry.Blocks, geometry.MaxRunning
	o.MaxBatchTokens, o.MaxContextTokens = geometry.MaxBatchTokens, geometry.MaxContextTokens

	// Which request follows which, and how long after its end.
	follower, pause := map[uint64]int{}, map[int]time.Duration{}
	last := map[string]int{}
	type arrival struct {
		at      time.Duration
		request int
	}
	var arrivals []arrival
	for i, q := range rec.Requests {
		session, _, _ := strings.Cut(q.ID, "t")
		if before, ok := last[session]; ok {
			follower[uint64(before)] = i
			pause[i] = millis(truth[i].arrived - truth[before].finished)
		} else {
			arrivals = append(arrivals, arrival{millis(truth[i].arrived), i})
		}
		last[session] = i
	}

	out := make([]life, len(rec.Requests))
	inMillis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	e, err := New(0, o, Hooks{
		Tokens: func(at time.Duration, id uint64, _, produced int) {
			if l := &out[id]; produced > 1 {
				l.gaps = append(l.gaps, inMillis(at)-l.finished)
			}
			out[id].finished = inMillis(at)
		},
		Finished: func(r Result) {
			out[r.ID] = life{
				arrived: inMillis(r.Arrived), started: inMillis(r.Started), first: inMillis(r.FirstToken), finished: inMillis(r.Finished),
				cached: r.CachedTokens, output: r.OutputTokens, preemptions: r.Preemptions, gaps: out[r.ID].gaps,
			}
			if next, ok := follower[r.ID]; ok {
				arrivals = append(arrivals, arrival{r.Finished + pause[next], next})
			}
		},
	})
	require.NoError(t, err)
	for {
		at, busy := e.NextStep() // each token at its time
		slices.SortStableFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
		switch {
		case len(arrivals) > 0 && (!busy || arrivals[0].at <= at):
			a := arrivals[0]
			arrivals = arrivals[1:]
			require.NoError(t, e.Submit(a.at, rec.Requests[a.request].request(a.request)))
		case busy:
			e.Advance(at)
		default:
			return out
		}
	}
}

// A comparison holds figures of a real engine and of the simulated one, in this order, and errors of the latter: medians over
// requests of the relative error.
type comparison struct {
	ttft, tpot, waiting            [2]float64
	gap50, gap99                   [2]float64
	ttftError, tpotError, e2eError float64
	disorder                       float64 // share of the pairs of requests that finish in the other order
	requests, sameCached           int
	preemptions                    [2]int
}

func compare(rec *recording, truth, model []life) comparison {
	c := comparison{requests: len(truth)}
	var errors [3][]float64
	var values [2][2][]float64
	relative := func(model, truth float64) float64 { return math.Abs(model/truth - 1) }
	for i := range truth {
		a, b := truth[i], model[i]
		errors[0] = append(errors[0], relative(b.first-b.arrived, a.first-a.arrived))
		errors[2] = append(errors[2], relative(b.finished-b.arrived, a.finished-a.arrived))
		for k, l := range []life{a, b} {
			values[0][k] = append(values[0][k], l.first-l.arrived)
			c.preemptions[k] += l.preemptions
		}
		if a.output > 1 {
			tpot := func(l life) float64 { return (l.finished - l.first) / float64(l.output-1) }
			errors[1] = append(errors[1], relative(tpot(b), tpot(a)))
			values[1][0], values[1][1] = append(values[1][0], tpot(a)), append(values[1][1], tpot(b))
		}
		if a.cached == b.cached {
			c.sameCached++
		}
	}
	pairs := 0
	for i := range truth {
		for j := range i {
			pairs++
			if (truth[i].finished-truth[j].finished)*(model[i].finished-model[j].finished) < 0 {
				c.disorder++
			}
		}
	}
	c.disorder /= float64(pairs)
	for k, lives := range [][]life{truth, model} {
		waited, end := 0.0, 0.0
		var gaps []float64
		for _, l := range lives {
			gaps = append(gaps, l.gaps...)
			waited += l.started - l.arrived
			end = max(end, l.finished)
		}
		c.waiting[k] = waited / end
		c.gap50[k], c.gap99[k] = quantile(gaps, 0.5), quantile(gaps, 0.99)
		c.ttft[k], c.tpot[k] = quantile(values[0][k], 0.5), quantile(values[1][k], 0.5)
	}
	c.ttftError, c.tpotError, c.e2eError = quantile(errors[0], 0.5), quantile(errors[1], 0.5), quantile(errors[2], 0.5)
	return c
}
