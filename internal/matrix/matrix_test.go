package matrix

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func policies(names ...string) []sim.Policy {
	var all []sim.Policy
	for _, name := range names {
		all = append(all, sim.MustPolicy(name))
	}
	return all
}

// scenario returns a generated one by its name.
func scenario(t *testing.T, names ...string) []Scenario {
	t.Helper()
	all, err := Scenarios("", false)
	require.NoError(t, err)
	var found []Scenario
	for _, name := range names {
		for _, s := range all {
			if s.Name == name {
				found = append(found, s)
			}
		}
	}
	require.Len(t, found, len(names))
	return found
}

func quick(t *testing.T) Options {
	return Options{Scenarios: scenario(t, "chats"), Policies: policies("default", "least-request", "oracle"), Loads: []float64{0.5}, Seeds: 2, Requests: 300}
}

func TestScenariosDiffer(t *testing.T) {
	tuned, err := Scenarios("", false)
	require.NoError(t, err)
	held, err := Scenarios("", true)
	require.NoError(t, err)
	require.Len(t, held, len(tuned))
	names := map[string]bool{}
	for i, s := range append(tuned, held...) {
		assert.False(t, names[s.Name], s.Name)
		names[s.Name] = true
		assert.NotEmpty(t, s.Doc)
		first := func(seed uint64, n int) (all []workload.Request) {
			source, err := s.Source(seed, 10)
			require.NoError(t, err, s.Name)
			for r, err := range workload.Limit(source, n) {
				require.NoError(t, err)
				all = append(all, r)
			}
			return all
		}
		few := first(1, 100)
		assert.NotEqual(t, few, first(2, 100), "%s: another seed is other traffic", s.Name)
		assert.Equal(t, few, first(1, 100), s.Name)
		if s.Name != "bursts" && i < len(tuned) {
			many := first(1, 20_000)
			assert.InDelta(t, 10, float64(len(many))/many[len(many)-1].At.Seconds(), 2, "%s: the rate", s.Name)
		}
	}
}

func TestTracesAreOptional(t *testing.T) {
	const shared = "../../../shared/data/traces"
	if _, err := os.Stat(shared); err == nil {
		all, err := Scenarios(shared, false)
		require.NoError(t, err)
		assert.Equal(t, "conversation", all[0].Name)
		assert.Equal(t, "code", all[1].Name)
		source, err := all[0].Source(3, 10)
		require.NoError(t, err)
		for _, err := range workload.Limit(source, 100) {
			require.NoError(t, err)
		}
	}
	_, err := Scenarios(t.TempDir(), false)
	assert.ErrorContains(t, err, "mooncake_conversation.jsonl")
}

func TestAnInterruptedMatrixGoesOn(t *testing.T) {
	o := quick(t)
	want, err := Run(t.Context(), o)
	require.NoError(t, err)
	var table bytes.Buffer
	require.NoError(t, want.WriteMarkdown(&table))

	o.Store = filepath.Join(t.TempDir(), "runs.jsonl")
	o.Workers = 1
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, of int) {
		assert.Equal(t, 9, of) // three searches, and three policies with two seeds
		if done == 5 {
			cancel()
		}
	}
	_, err = Run(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	kept, err := os.ReadFile(o.Store)
	require.NoError(t, err)
	require.Equal(t, 5, bytes.Count(kept, []byte("\n")))
	require.NoError(t, os.WriteFile(o.Store, append(kept, `{"scenario":"chats","poli`...), 0o644)) // a torn line

	o.Progress = nil
	got, err := Run(t.Context(), o)
	require.NoError(t, err)
	var again bytes.Buffer
	require.NoError(t, got.WriteMarkdown(&again))
	assert.Equal(t, table.String(), again.String(), "the same figures as in one go")
	whole, err := os.ReadFile(o.Store)
	require.NoError(t, err)
	assert.True(t, bytes.HasPrefix(whole, kept))
	assert.Equal(t, 9, bytes.Count(whole, []byte("\n")))

	_, err = Run(t.Context(), o)
	require.NoError(t, err)
	after, err := os.ReadFile(o.Store)
	require.NoError(t, err)
	assert.Equal(t, whole, after, "nothing is run again")

	require.NoError(t, os.WriteFile(o.Store, []byte("{}\nnothing\n"), 0o644))
	_, err = Run(t.Context(), o)
	assert.ErrorContains(t, err, "runs.jsonl line 2")
}

// made is a table of made-up runs: policies by their TTFT p99 and hits, which differ a little from seed to seed.
func made(names []string, cells ...[][2]float64) *Table {
	t := &Table{Options: Options{Policies: policies(names...), Seeds: 4, Reference: sim.MustPolicy("llm-d")}}
	for _, cell := range cells {
		c := Cell{Scenario: &Scenario{Name: "made up"}, Load: 0.5, Rate: 7}
		for _, v := range cell {
			var runs []Figures
			for _, noise := range []float64{0.99, 1, 1.01, 1} {
				runs = append(runs, Figures{TTFT99: v[0] * noise, TTFT95: 1, TTFTMean: 1, Good: 0.9, Hits: v[1], Reuse: 0.6})
			}
			c.Runs = append(c.Runs, runs)
		}
		t.Cells = append(t.Cells, c)
	}
	return t
}

func TestVerdicts(t *testing.T) {
	table := made([]string{"default", "llm-d", "dynamo", "oracle"},
		[][2]float64{{1, 0.3}, {2, 0.4}, {3, 0.2}, {0.5, 0.4}},  // better than the best peer
		[][2]float64{{2, 0.3}, {1, 0.3}, {3, 0.3}, {0.5, 0.3}},  // worse than llm-d
		[][2]float64{{1, 0}, {1.001, 0}, {3, 0}, {0.5, 0.0001}}) // no difference shown
	for _, c := range table.Cells[2:] {
		c.Runs[0][0].TTFT99 = 1.01
	}
	s := table.Summarise()
	assert.Equal(t, 3, s.Cells)
	assert.Equal(t, 1, s.Better["TTFT p99"])
	assert.Equal(t, 1, s.Worse["TTFT p99"])
	assert.Equal(t, 1, s.Worse["Prefix hits"], "of the first cell, where llm-d hits more")
	assert.InDelta(t, 1, s.Ratios["llm-d"], 0.01)
	assert.InDelta(t, (0.75+1)/2, s.Hits, 1e-9, "cells without hits do not count")
	assert.InDelta(t, 0.75, s.LeastHits, 1e-9)

	var b strings.Builder
	require.NoError(t, table.WriteMarkdown(&b))
	assert.Contains(t, b.String(), "| TTFT p99 | 1 | 1 | 1 |")
	assert.Contains(t, b.String(), "| made up | 0.50 | 7 | 1.00 s | -50 % ± 0\\* | -67 % ± 0 | **+100 % ± 0** |")
	assert.Contains(t, b.String(), "| made up | 0.50 | 7 | 2.00 s | **+100 % ± 0**\\* |")
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Run(t.Context(), Options{Loads: []float64{-1}, Seeds: 1, Requests: 10, Workers: -1, FirstSeed: -1})
	for _, want := range []string{"no scenarios", "no policies", "load is -1", "Seeds is 1", "Requests is 10", "Workers is -1", "FirstSeed is -1"} {
		assert.ErrorContains(t, err, want)
	}
}
