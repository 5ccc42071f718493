package matrix

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

var gateways = flag.Bool("gateways", false, "print the table of docs/lab.md of four gateways")

// blind is the default policy that takes no notice of what waits for other gateways.
func blind(index *prefix.Index) scheduling.Profile {
	p := policy.Default(index)
	p.Filters = []scheduling.Filter{filter.Overload{Slack: 16}}
	p.Scorers = []scheduling.Weighted{{Scorer: scorer.Effort{PerQueued: 1e-9}}} // 0 would mean the standard value
	return p
}

// TestGateways compares policies where four gateways do not see each other's requests, at about 0.8 of the capacity.
func TestGateways(t *testing.T) {
	if !*gateways {
		t.Skip("prints a table: -gateways")
	}
	const seeds = 4
	all := append(policies("default", "llm-d", "llm-d-token-load"), sim.ProfilePolicy("blind", blind))
	m := &runner{Options: Options{Requests: 1200}.withDefaults(), store: &store{known: map[key]entry{}}}
	for _, c := range []struct {
		name string
		rate float64
	}{{"chats", 8.2}, {"templates", 110}, {"lengths", 36}} {
		s := scenario(t, c.name)[0]
		s.Config.Gateways = 4
		runs := make([][seeds]Figures, len(all))
		err := sim.Parallel(t.Context(), 0, len(all)*seeds, func(ctx context.Context, j int) (err error) {
			runs[j/seeds][j%seeds], err = m.one(ctx, &s, all[j/seeds], c.rate, uint64(1+j%seeds))
			return err
		})
		require.NoError(t, err)
		for p := range all {
			mean := func(of func(*Figures) float64) float64 { return stats.Mean(values(runs[p][:], of)).Estimate }
			fmt.Printf("| %s | `%s` | %.3f s | %.3f s | %.1f %% | %.1f %% |\n", c.name, all[p].Name,
				mean(func(f *Figures) float64 { return f.TTFT99 }), mean(func(f *Figures) float64 { return f.TTFTMean }),
				100*mean(func(f *Figures) float64 { return f.Good }), 100*mean(func(f *Figures) float64 { return f.Hits }))
		}
	}
}
