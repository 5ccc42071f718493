package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/replay"
)

// record writes a recording of the default preset.
func record(t *testing.T, w io.Writer) {
	plan, err := program.LoadPlan("", "default")
	require.NoError(t, err)
	var list []scheduling.Endpoint
	for i := range 4 {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Model: "m"})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, plan.Options)
	require.NoError(t, err)
	recorder, err := replay.NewRecorder(w, replay.RecorderOptions{})
	require.NoError(t, err)
	sched.Observe(1, recorder)
	for i := range 60 {
		d, err := sched.Pick(t.Context(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: fmt.Appendf(nil, "%0*d", 100*(i%9+1), i%7)}})
		require.NoError(t, err)
		if i%3 > 0 {
			d.Done()
		}
	}
	require.NoError(t, recorder.Close())
}

func TestTheSamePlanAndAnother(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "decisions.jsonl.gz")
	var plainFile bytes.Buffer
	record(t, &plainFile)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(plainFile.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(path, packed.Bytes(), 0o644))

	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{path}, &out, io.Discard))
	require.Contains(t, out.String(), "60 choices: 100.00 % the same, 0 others")

	other := filepath.Join(folder, "other.yaml")
	require.NoError(t, os.WriteFile(other, []byte("profile: {scorers: [in-flight-requests]}\n"), 0o644))
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-config", other, "-json", path}, &out, io.Discard))
	var report replay.Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &report))
	require.Equal(t, 60, report.Choices)
	require.Positive(t, report.Disagreed)
	require.Less(t, report.PlanCached, report.RecordedCached, "it does not look at prompts")
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-config", other, "-differences", "1", path}, &out, io.Discard))
	require.Contains(t, out.String(), "the plan chooses e")
}

func TestMistakesAreSaid(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(wrong, []byte("x\n"), 0o644))
	for want, args := range map[string][]string{
		"0 recordings named": {},
		"nothing":            {"-preset", "nothing", wrong},
		"missing":            {"missing"},
		"line 1":             {wrong},
	} {
		require.ErrorContains(t, run(t.Context(), args, io.Discard, io.Discard), want)
	}
}
