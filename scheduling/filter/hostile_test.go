package filter_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
)

// Whatever engines, labels and requests say, a filter returns some of what it was given, each once.
func TestHostileInput(t *testing.T) {
	number := rapid.SampledFrom([]float64{0, 1, 2, 3, -1, 1e308, math.NaN(), math.Inf(1), math.Inf(-1)})
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		n := rapid.IntRange(1, 9).Draw(t, "endpoints")
		list := make([]scheduling.Endpoint, n)
		var states []scheduling.State
		for i := range list {
			list[i] = scheduling.Endpoint{
				ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:80", i+1), Model: "m", Adapters: []string{"a"},
				Role: scheduling.Role(rapid.IntRange(0, 7).Draw(t, "role")),
			}
			if rapid.Bool().Draw(t, "labelled") {
				list[i].Labels = map[string]string{"rack": rapid.SampledFrom([]string{"", "3", "7"}).Draw(t, "rack")}
			}
			st := scheduling.State{Endpoint: list[i].ID, At: now.Add(-time.Duration(rapid.IntRange(0, 10).Draw(t, "age")) * time.Second)}
			st.Values = []scheduling.Value{{Metric: scheduling.Waiting, Value: number.Draw(t, "waiting")}}
			states = append(states, st)
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
		require.NoError(t, err)
		require.NoError(t, pool.Report(states...))
		request := scheduling.Request{Model: "m", Adapter: rapid.SampledFrom([]string{"", "a"}).Draw(t, "adapter"),
			Pinned: rapid.SampledFrom([]string{"", "e0", "e99"}).Draw(t, "pinned"), Header: func(string) string { return "3" }}
		request.Prompt.Tokens = make([]uint32, rapid.SampledFrom([]int{0, 1, 100}).Draw(t, "tokens"))
		if rapid.Bool().Draw(t, "peer") {
			request.Peer = &list[0]
		}
		for _, f := range all() {
			sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
				Producers: []scheduling.Producer{cached{}},
				Filters: []scheduling.Filter{within(func(c *scheduling.Cycle, slots []scheduling.Slot) {
					given := slices.Clone(slots)
					got := f.Filter(c, slices.Clone(slots))
					slices.Sort(got)
					require.Len(t, slices.Compact(slices.Clone(got)), len(got), "%T: twice", f)
					for _, slot := range got {
						require.Contains(t, given, slot, "%T", f)
					}
					switch f.(type) { // those that promise to leave some
					case filter.Overload, filter.PrefixAffinity, filter.CacheAware, filter.BalancedPrefix, filter.LongestPrefix, filter.Pinned,
						*filter.Topology, filter.AdapterSpread:
						require.NotEmpty(t, got, "%T", f)
					}
				})},
			}})
			require.NoError(t, err)
			_, err = sched.Pick(context.Background(), &request) // stays in flight, for the next filter
			require.NoError(t, err)
		}
	})
}

func TestFiltersDoNotAllocate(t *testing.T) {
	pool, request := busy(t, 100)
	for _, f := range all() {
		inside(t, pool, request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
			work := make([]scheduling.Slot, len(slots))
			require.Zero(t, testing.AllocsPerRun(100, func() {
				copy(work, slots)
				f.Filter(c, work)
			}), "%T", f)
		})
	}
}
