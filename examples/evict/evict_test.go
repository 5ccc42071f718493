package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-sizes", "0"}, {"-sizes", "x"}, {"-policies", "mru"}, {"-block", "0"}, {"-model", "nobody/nothing"}, {"-accelerator", "abacus"}, {"-trace", "/does/not/exist"}, {"-x"}} {
		err := run(t.Context(), args, io.Discard, io.Discard)
		require.ErrorAs(t, err, new(program.UsageError), "%v", args)
	}
}

func TestGeneratedChats(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-requests", "600", "-sizes", "10,100", "-json"}, &out, io.Discard))
	var rows []row
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
	require.Len(t, rows, 2*len(evict.Kinds()))
	whole := rows[len(rows)-1]
	for _, r := range rows {
		require.LessOrEqual(t, r.HitRatio, whole.HitRatio, "no policy finds more than a store that holds everything")
		if r.SizePercent == 100 {
			require.Equal(t, whole.HitRatio, r.HitRatio, "%s", r.Policy)
		}
		if r.Policy == evict.PrefixCost.String() {
			require.Zero(t, r.Orphaned, "a parent outlives its children")
		}
	}
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-requests", "50", "-sizes", "50"}, &out, io.Discard))
	require.Contains(t, out.String(), "| 50 % | prefix-cost |")
}

// The table in docs/tiered-cache.md: at each of these sizes the policy that knows prefixes and costs saves more than the best of
// those that are known well.
func TestConversationTrace(t *testing.T) {
	const trace = "../../../shared/data/traces/mooncake_conversation.jsonl"
	if _, err := os.Stat(trace); err != nil || raceEnabled {
		t.Skip("no trace, or too slow: it runs in one goroutine")
	}
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-trace", trace, "-policies", "lru,arc,w-tinylfu,prefix-cost", "-json"}, &out, io.Discard))
	var rows []row
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
	best := map[float64]float64{}
	for _, r := range rows {
		switch r.Policy {
		case "lru", "arc", "w-tinylfu":
			best[r.SizePercent] = max(best[r.SizePercent], r.SavedSeconds)
		}
	}
	require.Len(t, best, 4)
	for _, r := range rows {
		if r.Policy == "prefix-cost" {
			require.Greater(t, r.SavedSeconds, best[r.SizePercent], "at %v %%", r.SizePercent)
		}
	}
}
