package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lab1(t *testing.T, ctx context.Context, args string) (stdout, stderr string, err error) {
	t.Helper()
	var out, notes bytes.Buffer
	err = run(ctx, strings.Fields(args), &out, &notes)
	return out.String(), notes.String(), err
}

// found is what the tests read of the JSON.
type found struct {
	Format    string
	Simulated bool
	Baseline  string
	Offered   float64 `json:"offered_per_s"`
	Policies  []struct {
		Name       string
		Bears      float64 `json:"bears_per_s"`
		Load       float64
		Overloaded bool
		Mean       map[string]struct{ Estimate, Low, High *float64 }
		Runs       map[string][]*float64
	}
	Differences []struct {
		Policy, Figure, Unit, Verdict string
		Value                         struct{ Estimate, Low, High *float64 }
	}
	Sweep []struct {
		Load    float64
		Goodput map[string]struct{ Estimate, Low, High *float64 } `json:"goodput_per_s"`
	}
	Tuned []struct {
		Weights map[string]float64
		Default bool
		Front   bool                                   `json:"pareto_front"`
		Against struct{ Estimate, Low, High *float64 } `json:"objective_against_default"`
	}
	Warnings []string
}

func simulated(t *testing.T, args string) found {
	t.Helper()
	out, notes, err := lab1(t, t.Context(), args+" -json")
	require.NoError(t, err, notes)
	var f found
	require.NoError(t, json.Unmarshal([]byte(out), &f))
	require.Equal(t, resultFormat, f.Format)
	require.True(t, f.Simulated)
	return f
}

func TestComparison(t *testing.T) {
	page := filepath.Join(t.TempDir(), "out.html")
	args := small + "-policy default,round-robin -sweep 0.5,1.3"
	f := simulated(t, args+" -report "+page)
	assert.Equal(t, "round-robin", f.Baseline)
	require.Len(t, f.Policies, 2)
	for _, p := range f.Policies {
		assert.Greater(t, p.Bears, 0.5)
		assert.Less(t, p.Load, 0.81, "0.8 of what the weakest bears")
		assert.False(t, p.Overloaded)
		require.Len(t, p.Runs["ttft_p95_s"], 3)
		mean := p.Mean["ttft_p95_s"]
		assert.True(t, *mean.Low < *mean.Estimate && *mean.Estimate < *mean.High)
	}
	hits := f.Differences[len(f.Differences)-2]
	assert.Equal(t, "prefix hits", hits.Figure)
	assert.Equal(t, "better", hits.Verdict, "prefix-aware routing finds more in caches")
	require.Len(t, f.Sweep, 2)
	assert.Greater(t, *f.Sweep[0].Goodput["default"].Estimate, 0.0)

	html, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, want := range []string{"Policies compared in simulation", "Goodput against load", "Not modelled", "Load imbalance", "go run ./examples/simulate " + strings.TrimSpace(small)} {
		assert.True(t, strings.Contains(string(html), want), want)
	}
	assert.False(t, strings.Contains(string(html), "ZgotmplZ"))
	assert.Equal(t, f.Policies, simulated(t, args).Policies, "the same again, whatever the processors do")
}

func TestOverloadedPoliciesHaveNoLatency(t *testing.T) {
	f := simulated(t, small+"-policy round-robin,least-request -load 1.5")
	require.Len(t, f.Policies, 2)
	for _, p := range f.Policies {
		require.True(t, p.Overloaded)
		assert.Nil(t, p.Mean["ttft_p50_s"].Estimate)
		assert.Nil(t, p.Runs["tpot_p95_s"][0])
		assert.NotNil(t, p.Mean["goodput_per_s"].Estimate)
	}
	for _, d := range f.Differences {
		assert.NotContains(t, d.Figure, "TTFT")
	}
	assert.Contains(t, strings.Join(f.Warnings, "\n"), "round-robin is at")
	out, _, err := lab1(t, t.Context(), small+"-policy round-robin,least-request -load 1.5")
	require.NoError(t, err)
	assert.Regexp(t, `round-robin +[0-9.]+/s +1[0-9]+ % ! +– +– `, out)
}

func TestTuningIsJudgedOnHeldOutSeeds(t *testing.T) {
	if raceEnabled {
		t.Skip("its concurrency is that of a comparison")
	}
	f := simulated(t, small+"-policy default -tune -tries 6 -objective ttft-p50")
	require.GreaterOrEqual(t, len(f.Tuned), finalists)
	defaults, front := 0, 0
	for i, c := range f.Tuned {
		assert.Len(t, c.Weights, len(weights))
		if c.Default {
			defaults++
			assert.EqualValues(t, 1, *c.Against.Estimate)
		}
		if c.Front {
			front++
		}
		if i > 0 {
			assert.GreaterOrEqual(t, *c.Against.Estimate, *f.Tuned[i-1].Against.Estimate*0.9, "the best first, roughly: order is by means")
		}
	}
	assert.Equal(t, 1, defaults, "the default is always among them")
	assert.Positive(t, front)
	_, _, err := lab1(t, t.Context(), small+"-policy round-robin -tune")
	assert.ErrorContains(t, err, "-tune needs the policy default")
	_, _, err = lab1(t, t.Context(), small+"-policy default -tune -load 1.2")
	assert.ErrorContains(t, err, "latency says nothing")
	assert.Less(t, trainSeed, math.MaxInt64)
}

// trace writes a trace of n requests, every so often, and returns its path.
func trace(t *testing.T, n int, every time.Duration) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"timestamp": %d, "input_length": 1024, "output_length": 20, "hash_ids": [1, %d]}`+"\n", int64(i)*every.Milliseconds(), i+2)
	}
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

func TestATraceRunsAtItsOwnRate(t *testing.T) {
	f := simulated(t, small+"-policy default,round-robin -duration 0 -warmup 20s -trace "+trace(t, 1200, 250*time.Millisecond))
	assert.InDelta(t, 4, f.Offered, 0.1)
	runs := f.Policies[1].Runs["ttft_p95_s"]
	assert.NotEqual(t, *runs[0], *runs[1], "seeds move requests a little")
}

func TestBrokenTraces(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "trace.jsonl")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	line := func(at int) string {
		return fmt.Sprintf(`{"timestamp": %d, "input_length": 10, "output_length": 5, "hash_ids": [1]}`+"\n", at)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"unsorted": {line(1000) + line(2000) + line(500), "line 3"},
		"broken":   {line(0) + `{"timestamp": 1` + "\n", "line 2"},
		"empty":    {"", "trace.jsonl"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := lab1(t, t.Context(), small+"-duration 0 -warmup 0 -trace "+write(tt.text))
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestFlagsAreCheckedAtOnce(t *testing.T) {
	_, _, err := lab1(t, t.Context(), "-policy magic,default,default -endpoints 0 -seeds 0 -sweep 1,x -objective speed -load -1 -duration 1m -warmup 2m -scrape 0s -trace /no/such -report /no/such/x.html -baseline oracle")
	require.ErrorAs(t, err, new(program.UsageError))
	for _, want := range []string{
		`-policy is "magic", want one of default, round-robin`, `-policy is "default", want each once`, "-endpoints is 0", "-seeds is 0", `-sweep is "1,x"`, `-objective is "speed", want one of ttft-p50`,
		"-load is -1", "-warmup is 2m0s, want less than -duration", "-scrape is 0s", `-trace is "/no/such"`, "-report is", `-baseline is "oracle", want one of -policy`,
	} {
		assert.ErrorContains(t, err, want)
	}
	_, _, err = lab1(t, t.Context(), "-duration 0")
	assert.ErrorContains(t, err, "generated requests have no end")
	_, notes, err := lab1(t, t.Context(), "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, notes, "-sweep")
}

// The standard weights must be those of the policy: a run with them is a run of the default.
func TestDefaultWeightsAreThoseOfTheDefault(t *testing.T) {
	_, values := defaultWeights()
	c, err := parse(strings.Fields(small+"-policy default"), io.Discard)
	require.NoError(t, err)
	l := &lab{config: &c}
	want, err := l.one(t.Context(), job{c.policies[0], 1, 4, false})
	require.NoError(t, err)
	got, err := l.one(t.Context(), job{weighted(values), 1, 4, false})
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for i := range values {
		other := slices.Clone(values)
		other[i] *= 16
		profile, err := weighted(other).New(sim.Env{MaxEndpoints: 4})
		require.NoError(t, err)
		base, err := weighted(values).New(sim.Env{MaxEndpoints: 4})
		require.NoError(t, err)
		assert.NotEqual(t, [2]any{base.Filters[0], base.Scorers[0]}, [2]any{profile.Filters[0], profile.Scorers[0]}, weights[i].name)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := lab1(t, ctx, small)
	assert.ErrorIs(t, err, errInterrupted)
}

func TestJitterKeepsOrderAndRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gaps := rapid.SliceOfN(rapid.IntRange(0, 2000), 1, 60).Draw(t, "gaps")
		sessions := rapid.IntRange(1, 8).Draw(t, "sessions")
		var plan []workload.Request
		at := time.Duration(0)
		turns := map[int]int{}
		for i, g := range gaps {
			at += time.Duration(g) * time.Millisecond
			plan = append(plan, workload.Request{At: at, Session: i % sessions, Turn: turns[i%sessions], InputTokens: i})
			turns[i%sessions]++
		}
		source := func(yield func(workload.Request, error) bool) {
			for _, r := range plan {
				if !yield(r, nil) {
					return
				}
			}
		}
		seen, next, last := map[int]bool{}, map[int]int{}, time.Duration(0)
		for r, err := range jitter(source, time.Second, rapid.Uint64().Draw(t, "seed")) {
			require.NoError(t, err)
			require.GreaterOrEqual(t, r.At, last)
			last = r.At
			require.False(t, seen[r.InputTokens])
			seen[r.InputTokens] = true
			require.Equal(t, next[r.Session], r.Turn, "sessions stay in order")
			next[r.Session]++
			require.GreaterOrEqual(t, r.At, plan[r.InputTokens].At)
		}
		require.Len(t, seen, len(plan))
	})
}

func TestParetoFront(t *testing.T) {
	c := func(ttft, tpot float64) *candidate { return &candidate{held: []*figures{{ttft95: ttft, tpot95: tpot}}} }
	pool := []*candidate{c(1, 5), c(2, 4), c(2, 5), c(3, 3), c(4, 3)}
	markFront(pool)
	var front []bool
	for _, k := range pool {
		front = append(front, k.front)
	}
	assert.Equal(t, []bool{true, true, false, true, false}, front)
}
