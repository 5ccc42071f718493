package moe

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTrackerForgets(t *testing.T) {
	now := time.Unix(0, 0)
	tr, err := NewTracker(TrackerOptions{Layers: 2, Experts: 3, HalfLife: time.Second, Now: func() time.Time { return now }})
	require.NoError(t, err)
	var l Loads
	tr.Loads(&l)
	_, known := l.At(0, 0)
	require.False(t, known, "nothing was observed")

	require.NoError(t, tr.Observe(0, []float64{8, 4, 0}))
	now = now.Add(2 * time.Second)
	require.NoError(t, tr.Observe(0, []float64{1, 0, 0}))
	tr.Loads(&l)
	require.Equal(t, []float64{3, 1, 0}, l.Tokens[:3])
	_, known = l.At(0, 2)
	require.True(t, known, "zero is known")
	_, known = l.At(1, 0)
	require.False(t, known)

	now = now.Add(-time.Hour)
	tr.Loads(&l)
	require.Equal(t, []float64{3, 1, 0}, l.Tokens[:3], "a clock that goes back stands still")
	now = now.Add(math.MaxInt64)
	tr.Loads(&l)
	require.Equal(t, []float64{0, 0, 0}, l.Tokens[:3])
}

func TestTrackerCountsSlots(t *testing.T) {
	p, err := NewPlacement(1, 2, Cluster{GPUs: 3, SlotsPerGPU: 1}, []int32{0, 1, 0})
	require.NoError(t, err)
	tr, err := NewTracker(TrackerOptions{Layers: 1, Experts: 2, Now: func() time.Time { return time.Time{} }})
	require.NoError(t, err)
	require.NoError(t, tr.ObserveSlots(p, 0, []float64{1, 2, 4}))
	var l Loads
	tr.Loads(&l)
	require.Equal(t, []float64{5, 2}, l.Tokens)
}

func TestTrackerStaysFinite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		tr, err := NewTracker(TrackerOptions{Layers: 1, Experts: 2, HalfLife: time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "half-life")),
			Now: func() time.Time { return now }})
		require.NoError(t, err)
		var l Loads
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64().Draw(t, "clock")))
			v := rapid.Float64().Draw(t, "tokens")
			require.Equal(t, v >= 0 && v <= 1e30, tr.Observe(0, []float64{v, 0}) == nil)
			require.Error(t, tr.Observe(0, []float64{math.NaN(), 0}))
			require.Error(t, tr.Observe(0, []float64{1, math.Inf(1)}))
			tr.Loads(&l)
			for _, x := range l.Tokens {
				require.True(t, x >= 0 && x <= 1e30)
			}
		}
		var p Placement
		_, err = (&Placer{}).Plan(&p, l, Cluster{GPUs: 2, SlotsPerGPU: 2})
		require.NoError(t, err)
	})
}
