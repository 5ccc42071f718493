package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// servegen writes a folder of two clients: one that is bursty at 3 requests a second for 20 minutes and idle for the next
// ten, and one with images that is regular at 1 request a second from the tenth minute on.
func servegen(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{
		"chunk-0-trace.csv":    "0,3,3,Gamma,0.111,3\n600,3,2,Weibull,0.5427,0.2\n1200,0,0,,0,0\n",
		"chunk-0-dataset.json": `{"0": {"input_tokens": "{}", "output_tokens": "{}"}, "600": {"input_tokens": "{100: 0.25, 300: 0.75}", "output_tokens": "{10: 1.0}", "reason_ratio": "{0.0: 1.0}"}}`,
		"chunk-12-trace.csv":   "0,0,0,,0,0\n600,1,0.2,Gamma,25,0.04\n1200,1,0.2,Gamma,25,0.04",
		"chunk-12-dataset.json": `{"0": {"text_tokens": "{40: 1.0}", "image_tokens": "{500: 1.0}", "image_count": "{0: 0.5, 2: 0.5}",
			"audio_tokens": "{0: 1.0}", "audio_count": "{0: 1.0}", "output_tokens": "{7: 1.0}"}}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
	}
	return folder
}

func TestServeGen(t *testing.T) {
	folder := servegen(t)
	source, format, err := Open(folder)
	require.NoError(t, err)
	require.Equal(t, ServeGenFormat, format)
	list, err := all(source)
	require.NoError(t, err)
	again, err := all(source)
	require.NoError(t, err)
	require.Equal(t, list, again)

	inputs := map[string]map[int]int{"client-0": {}, "client-12": {}}
	byWindow := map[string]*[3]int{"client-0": {}, "client-12": {}}
	texts := map[uint64]bool{}
	for i, r := range list {
		if i > 0 {
			require.GreaterOrEqual(t, r.At, list[i-1].At)
		}
		inputs[r.Tenant][r.InputTokens]++
		byWindow[r.Tenant][int(r.At/(600*time.Second))]++
		require.Equal(t, map[string]int{"client-0": 10, "client-12": 7}[r.Tenant], r.OutputTokens)
		texts[r.Messages[0].Pieces[0].ID] = true
	}
	require.Len(t, texts, len(list), "nothing is shared")
	require.Equal(t, [3]int{1800, 1800, 0}, *byWindow["client-0"])
	require.Equal(t, [3]int{0, 600, 600}, *byWindow["client-12"])
	require.Len(t, inputs["client-0"], 2)
	assert.InDelta(t, 900, inputs["client-0"][100], 100)
	require.Len(t, inputs["client-12"], 2)
	assert.InDelta(t, 600, inputs["client-12"][1040], 60)

	// Gaps within the windows are as bursty as the data say.
	for from, want := range map[time.Duration]float64{0: 3, 600 * time.Second: 2} {
		var found []float64
		last := time.Duration(-1)
		for _, r := range list {
			if r.Tenant == "client-0" && r.At >= from && r.At < from+600*time.Second {
				if last >= 0 {
					found = append(found, (r.At - last).Seconds())
				}
				last = r.At
			}
		}
		_, cv := meanAndCV(found)
		assert.InDelta(t, want, cv, 0.35*want)
	}

	part, err := ServeGen(folder, ServeGenOptions{From: 300 * time.Second, For: 600 * time.Second, Load: 2})
	require.NoError(t, err)
	list, err = all(part)
	require.NoError(t, err)
	assert.InDelta(t, 4200, len(list), 700)
	require.Less(t, list[len(list)-1].At, 600*time.Second)
}

func TestBrokenServeGen(t *testing.T) {
	for name, row := range map[string]struct{ file, content, want string }{
		"columns":        {"trace.csv", "0,1\n", "chunk-0-trace.csv: line 1: 2 columns, want 6"},
		"start":          {"trace.csv", "\n-5,1,1,Gamma,1,1\n", `line 2: the start is "-5"`},
		"order":          {"trace.csv", "600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", "line 2: the start 0 is not behind the 600"},
		"rate":           {"trace.csv", "0,NaN,1,Gamma,1,1\n", `the rate is "NaN"`},
		"large rate":     {"trace.csv", "0,1e6,1,Gamma,1,1\n", "are too many"},
		"distribution":   {"trace.csv", "0,1,1,Pareto,1,1\n", `the distribution is "Pareto"`},
		"shape":          {"trace.csv", "0,1,1,Gamma,0,1\n", `the shape is "0"`},
		"idle":           {"trace.csv", "0,0,0,,0,0\n", "no client has a request in the time asked for"},
		"no JSON":        {"dataset.json", "hello", "chunk-0-dataset.json: at byte 0: invalid character"},
		"an array":       {"dataset.json", "[]", "[, want an object"},
		"cut":            {"dataset.json", `{"0": {"input_`, "unexpected EOF"},
		"open":           {"dataset.json", `{"0": {"input_tokens": "{1: 1.0}", "output_tokens": "{1: 1.0}"}`, "unexpected EOF"},
		"time":           {"dataset.json", `{"x": {}}`, `the start is "x"`},
		"times":          {"dataset.json", `{"5": {}, "5": {"output_tokens": ""}}`, "output_tokens: \"\" is no {value"},
		"probability":    {"dataset.json", `{"0": {"input_tokens": "{1: 2.0}"}}`, `0: input_tokens: "1: 2.0" has no probability`},
		"sum":            {"dataset.json", `{"0": {"input_tokens": "{1: 0.5}"}}`, "probabilities sum up to 0.5"},
		"negative value": {"dataset.json", `{"0": {"input_tokens": "{-1: 1.0}"}}`, "is no number from 0 to"},
		"nothing":        {"dataset.json", `{}`, "no lengths for the requests of chunk-0-trace.csv"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := servegen(t)
			for _, other := range []string{"trace.csv", "dataset.json"} {
				require.NoError(t, os.Remove(filepath.Join(folder, "chunk-12-"+other)))
			}
			require.NoError(t, os.WriteFile(filepath.Join(folder, "chunk-0-"+row.file), []byte(row.content), 0o600))
			_, err := ServeGen(folder, ServeGenOptions{})
			require.ErrorContains(t, err, row.want)
			require.ErrorContains(t, err, folder)
		})
	}
	folder := servegen(t)
	require.NoError(t, os.Remove(filepath.Join(folder, "chunk-0-dataset.json")))
	_, err := ServeGen(folder, ServeGenOptions{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ServeGen(folder, ServeGenOptions{From: -1, Load: math.NaN()})
	require.ErrorContains(t, err, "From and For are -1ns")
	require.ErrorContains(t, err, "Load is NaN")
}

// Gaps beyond what floats hold must not stop the drawing.
func TestExtremeGaps(t *testing.T) {
	folder := servegen(t)
	for i, shape := range []string{"0.0011", "999999"} {
		for _, name := range []string{"Gamma", "Weibull"} {
			csv := fmt.Sprintf("0,2,9,%s,%s,1\n", name, shape)
			require.NoError(t, os.WriteFile(filepath.Join(folder, "chunk-0-trace.csv"), []byte(csv), 0o600))
			source, err := ServeGen(folder, ServeGenOptions{Seed: uint64(i)})
			require.NoError(t, err)
			list, err := all(source)
			require.NoError(t, err)
			require.Len(t, list, 1200+1200, "of both clients, with %s %s", name, shape)
		}
	}
}

func FuzzServeGen(f *testing.F) {
	f.Add("0,3,3,Gamma,0.111,3\n600,3,2,Weibull,0.5427,0.2\n", `{"0": {"input_tokens": "{100: 0.25, 300: 0.75}", "output_tokens": "{10: 1.0}"}}`)
	f.Fuzz(func(t *testing.T, trace, dataset string) {
		windows, err := readWindows(strings.NewReader(trace))
		lengths, err2 := readLengths(strings.NewReader(dataset))
		if err != nil || err2 != nil {
			return
		}
		for _, l := range lengths {
			input, output := l.lengths.draw(rand.New(rand.NewPCG(1, 1)))
			require.Positive(t, input)
			require.Positive(t, output)
		}
		for _, w := range windows {
			if w.rate*w.length > 1e4 || w.rate == 0 {
				continue
			}
			at := w.start
			for _, next := range w.arrivals(rand.New(rand.NewPCG(1, 1)), 1) {
				require.GreaterOrEqual(t, next, at)
				require.LessOrEqual(t, next, w.start+w.length)
				at = next
			}
		}
	})
}

// TestPublishedServeGen draws from a published model, if SERVEGEN_MODEL names its folder.
func TestPublishedServeGen(t *testing.T) {
	folder := os.Getenv("SERVEGEN_MODEL")
	if folder == "" {
		t.Skip("SERVEGEN_MODEL is not set")
	}
	source, err := ServeGen(folder, ServeGenOptions{})
	require.NoError(t, err)
	n, at, tenants := 0, time.Duration(0), map[string]bool{}
	for r, err := range source {
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.At, at)
		at = r.At
		tenants[r.Tenant] = true
		n++
	}
	t.Logf("%d requests of %d clients in %v", n, len(tenants), at)
}
