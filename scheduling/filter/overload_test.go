package filter_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
)

// preferFirst is what attracts everything to one endpoint.
type preferFirst struct{}

func (preferFirst) Score(_ *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		scores[i] = 1 / float64(1+slot)
	}
}

func TestOverload(t *testing.T) {
	for _, row := range []struct {
		name     string
		filter   filter.Overload
		requests int
		want     []int // per endpoint
	}{
		{"below the slack nothing is removed", filter.Overload{}, 8, []int{8, 0, 0, 0}},
		// The ninth finds 8 in flight and a bound of 8 + 1.25*8/4, the eleventh 10 and 11.1; the 14th finds 13 and 12.06.
		{"the mean lifts the bound", filter.Overload{}, 14, []int{13, 1, 0, 0}},
		// With 1, 1 the bound is 1 and the first takes one more; with 2, 1 it is 1.25 and the second does; and so on.
		{"a tight one spreads", filter.Overload{Slack: 0.5, Factor: 1}, 8, []int{3, 3, 2, 0}},
		{"a factor below 1 is 1, so that somebody is left", filter.Overload{Slack: 0.001, Factor: 0.1}, 5, []int{2, 1, 1, 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var list []scheduling.Endpoint
			for i := range row.want {
				list = append(list, scheduling.Endpoint{Address: fmt.Sprintf("10.0.0.%d:80", i+1)})
			}
			pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
			require.NoError(t, err)
			sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
				Filters: []scheduling.Filter{row.filter}, Scorers: []scheduling.Weighted{{Scorer: preferFirst{}}},
			}})
			require.NoError(t, err)
			for range row.requests {
				_, err := sched.Pick(context.Background(), &scheduling.Request{})
				require.NoError(t, err)
			}
			var got []int
			for slot := range row.want {
				got = append(got, pool.InFlight(scheduling.Slot(slot)).Requests)
			}
			require.Equal(t, row.want, got)
		})
	}
}
