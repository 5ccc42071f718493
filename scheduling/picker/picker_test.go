package picker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/picker"
)

type scores []float64

func (s scores) Score(_ *scheduling.Cycle, slots []scheduling.Slot, dst []float64) {
	for i, slot := range slots {
		dst[i] = s[slot]
	}
}

// shares picks n times with nothing else in flight, and returns how often each endpoint was chosen. It checks that the
// fallbacks are the best of the rest.
func shares(t *testing.T, p scheduling.Picker, n int, given scores) []int {
	t.Helper()
	var list []scheduling.Endpoint
	for i := range given {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:80", i+1)})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Seed: 3, Profile: scheduling.Profile{
		Scorers: []scheduling.Weighted{{Scorer: given}}, Picker: p,
	}})
	require.NoError(t, err)
	got := make([]int, len(given))
	for range n {
		d, err := sched.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		got[d.Slot()]++
		require.Len(t, d.Fallbacks(), min(scheduling.MaxRanked, len(given))-1)
		seen := map[string]bool{d.Endpoint.ID: true}
		for _, e := range d.Fallbacks() {
			require.False(t, seen[e.ID], "ranked twice")
			seen[e.ID] = true
		}
		d.Done()
	}
	return got
}

func requireShares(t *testing.T, n int, want []float64, got []int) {
	t.Helper()
	for i, w := range want {
		require.InDelta(t, w*float64(n), got[i], 0.03*float64(n), "endpoint %d of %v", i, got)
	}
}

func TestMaxScore(t *testing.T) {
	require.Equal(t, []int{0, 100, 0}, shares(t, picker.MaxScore{}, 100, scores{.1, .9, .8}))
	n := 3000
	requireShares(t, n, []float64{1. / 3, 0, 1. / 3, 0, 1. / 3, 0}, shares(t, picker.MaxScore{}, n, scores{.5, .4, .5, .1, .5, 0}))
}

func TestWeightedRandom(t *testing.T) {
	n := 5000
	requireShares(t, n, []float64{.2, 0, .8}, shares(t, picker.WeightedRandom{}, n, scores{.2, 0, .8}))
	requireShares(t, n, []float64{.25, .25, .25, .25}, shares(t, picker.WeightedRandom{}, n, scores{0, 0, 0, 0}))
	require.Equal(t, []int{10}, shares(t, picker.WeightedRandom{}, 10, scores{.3}))
}

// Of three, the best is in two of the three pairs and the worst wins none.
func TestPowerOfTwo(t *testing.T) {
	n := 5000
	requireShares(t, n, []float64{0, 1. / 3, 2. / 3}, shares(t, picker.PowerOfTwo{}, n, scores{.1, .5, .9}))
	require.Equal(t, []int{10}, shares(t, picker.PowerOfTwo{}, 10, scores{.3}))
}

func TestRoundRobin(t *testing.T) {
	require.Equal(t, []int{7, 7, 6}, shares(t, new(picker.RoundRobin), 20, scores{.1, .5, .9}))
}

func TestRandom(t *testing.T) {
	n := 5000
	requireShares(t, n, []float64{.25, .25, .25, .25}, shares(t, picker.Random{}, n, scores{.1, .5, .9, 0}))
}

// exp(1/.5) : exp(.5/.5) : exp(0) is 7.389 : 2.718 : 1.
func TestSoftmax(t *testing.T) {
	n := 5000
	sum := 7.389 + 2.718 + 1
	requireShares(t, n, []float64{2.718 / sum, 7.389 / sum, 1 / sum}, shares(t, picker.Softmax{Temperature: .5}, n, scores{.5, 1, 0}))
	requireShares(t, n, []float64{1. / 3, 1. / 3, 1. / 3}, shares(t, picker.Softmax{Temperature: 1e300}, n, scores{.5, 1, 0}))
	require.Equal(t, []int{0, 100, 0}, shares(t, picker.Softmax{}, 100, scores{.5, 1, 0}))
	require.Equal(t, []int{0, 100, 0}, shares(t, picker.Softmax{Temperature: 1e-300}, 100, scores{.5, 1, 0}))
}
