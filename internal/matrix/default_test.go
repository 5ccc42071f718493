package matrix

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
)

// TestDefaultIsNoWorse holds the default policy to a few cells of docs/policies.md, at about 0.85 of the capacity. The bounds are
// what was measured and some room for another draw of the traffic; the simulation itself is deterministic.
func TestDefaultIsNoWorse(t *testing.T) {
	if racing {
		t.Skip("one simulation after the other, without concurrency of its own")
	}
	const seeds = 4
	cells := []struct {
		name  string
		rate  float64
		llmd  float64 // the most that its TTFT p99 may be of llm-d's default's, mean over the seeds
		peer  float64 // and of llm-d's token load's, the best of the peers
		hits  float64 // the least that its prefix hits may be of llm-d's token load's
		goods float64 // the least share of good answers
	}{
		{"chats", 8.7, 0.8, 1.04, 0.95, 0.94},
		{"templates", 130, 0.3, 1.05, 0.99, 0.98},
		{"agents", 32, 0.85, 1.2, 0.97, 0.98},
		{"adapters", 40, 0.1, 0.1, 1, 0.98},
		{"lengths", 36, 0.5, 1.04, 1, 0.9},
	}
	m := &runner{Options: Options{Requests: 1200}.withDefaults(), store: &store{known: map[key]entry{}}}
	all := policies("default", "llm-d", "llm-d-token-load")
	runs := make([][][seeds]Figures, len(cells))
	for i, c := range cells {
		runs[i] = make([][seeds]Figures, len(all))
		scenario := scenario(t, c.name)[0]
		err := sim.Parallel(t.Context(), 0, len(all)*seeds, func(ctx context.Context, j int) (err error) {
			runs[i][j/seeds][j%seeds], err = m.one(ctx, &scenario, all[j/seeds], c.rate, uint64(1+j%seeds))
			return err
		})
		require.NoError(t, err)
	}
	for i, c := range cells {
		mean := func(policy int, of func(*Figures) float64) float64 {
			return stats.Mean(values(runs[i][policy][:], of)).Estimate
		}
		p99 := func(f *Figures) float64 { return f.TTFT99 }
		hits := func(f *Figures) float64 { return f.Hits }
		assert.LessOrEqual(t, mean(0, p99)/mean(1, p99), c.llmd, "%s: TTFT p99 of llm-d's default", c.name)
		assert.LessOrEqual(t, mean(0, p99)/mean(2, p99), c.peer, "%s: TTFT p99 of llm-d's token load", c.name)
		if h := mean(2, hits); h > 0 {
			assert.GreaterOrEqual(t, mean(0, hits)/h, c.hits, "%s: prefix hits of llm-d's token load", c.name)
		}
		assert.GreaterOrEqual(t, mean(0, func(f *Figures) float64 { return f.Good }), c.goods, "%s: good answers", c.name)
	}
}
