package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A window is the last values, whatever comes.
func TestWindowEqualsSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWindow()
		all := slices.Clone(w.ring)
		for i := range rapid.IntRange(0, 3*windowSize).Draw(t, "observations") {
			v := float64(rapid.IntRange(-20, 20).Draw(t, "value")) / 4 // so that some are equal
			w.add(v)
			if i < pseudo {
				all[i] = v
			} else {
				all = append(all, v)
			}
		}
		last := slices.Clone(all[max(0, len(all)-windowSize):])
		slices.Sort(last)
		require.Equal(t, last, w.sorted)
		level := rapid.Float64Range(0, 1).Draw(t, "level")
		at := min(max(float64(len(last)+1)*level-1, 0), float64(len(last)-1))
		low, high := last[int(math.Floor(at))], last[int(math.Ceil(at))]
		require.InDelta(t, low+(at-math.Floor(at))*(high-low), w.quantile(level), 1e-9)
		snapshot := restoredWindow(append(slices.Clone(w.ring[w.next:]), w.ring[:w.next]...), w.seen)
		w.add(1)
		snapshot.add(1)
		require.Equal(t, w.sorted, snapshot.sorted)
	})
}

// The published distribution is that of the window at its levels, increases, and is between 0 and 1 everywhere.
func TestDistribution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWindow()
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range rapid.IntRange(0, 400).Draw(t, "observations") {
			w.add(random.NormFloat64() * .5)
		}
		d := w.distribution(.9)
		require.True(t, slices.IsSorted(d.ratios[:]))
		require.Equal(t, math.Exp(w.quantile(.9)), d.target)
		below := func(r float64) float64 { return d.below(r, 1, 1/r) }
		for i, l := range levels {
			if i == len(levels)-1 || d.ratios[i+1] > d.ratios[i] {
				require.InDelta(t, l, below(d.ratios[i]), 1e-9)
			}
		}
		last := 0.
		for r := .001; r < 1000; r *= 1.1 {
			p := below(r)
			require.True(t, p >= last && p > 0 && p < 1, "%v: %v after %v", r, p, last)
			last = p
		}
		require.InDelta(t, below(2), d.below(6, 3, 1./6), 1e-12, "only the ratio matters")
	})
}
