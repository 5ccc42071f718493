package scheduling_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
)

// What others have in flight counts for plugins, and not for this process's own account.
func TestRemoteLoad(t *testing.T) {
	pool := newPool(t, endpoints(3)...)
	var seen [3][4]int
	var column [3]float64
	look := columns(func(c *scheduling.Cycle, slots []scheduling.Slot) {
		for _, slot := range slots {
			seen[slot] = [4]int{c.Requests(slot), c.PrefillTokens(slot), c.KVTokens(slot), c.Unreported(slot)}
			column[slot], _ = c.Metric(scheduling.InFlightKVTokens).At(slot)
		}
	})
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: look}}})
	pool.SetRemote([]scheduling.RemoteLoad{
		{Slot: 1, Generation: 1, Load: scheduling.Load{Requests: 5, PrefillTokens: 100, KVTokens: 1000}},
		{Slot: 0, Generation: 1, Load: scheduling.Load{Requests: 1 << 40, PrefillTokens: 1 << 40, KVTokens: -1}},
		{Slot: 2, Generation: 7, Load: scheduling.Load{Requests: 9}},
		{Slot: 1 << 20, Generation: 1, Load: scheduling.Load{Requests: 9}},
	})
	d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 10)}})
	require.NoError(t, err)
	require.Equal(t, [3][4]int{{1<<16 - 1, 1<<32 - 1, 0, 0}, {5, 100, 1000, 0}, {0, 0, 0, 0}}, seen)
	require.Equal(t, [3]float64{0, 1000, 0}, column)
	require.Equal(t, scheduling.Slot(2), d.Slot(), "the fewest, there and elsewhere")
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 10, KVTokens: 10}, pool.Total())
	require.Equal(t, scheduling.Load{Requests: 5, PrefillTokens: 100, KVTokens: 1000}, pool.Remote(1))
	require.Zero(t, pool.Remote(2))
	require.Zero(t, pool.Remote(1<<20))
	pool.SetRemote(nil)
	require.Zero(t, pool.Remote(1))
}
