package filter_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
)

// all returns one of each filter, with parameters under which it removes some of the pool of busy.
func all() []scheduling.Filter {
	return []scheduling.Filter{
		filter.Role{Phase: scheduling.Decode}, filter.Overload{Slack: .5, Factor: 1},
		&filter.Labels{Match: map[string]string{"rack": "3"}},
		&filter.HeaderLabel{Header: "h", Label: "rack"},
		filter.Limits{Conditions: []filter.Condition{
			{Metric: scheduling.Waiting, Operator: filter.LessThanOrEqual, Value: 2},
			{Metric: scheduling.InFlightRequests, Operator: filter.LessThanOrEqual, Value: 3},
		}},
		filter.PrefixAffinity{Threshold: .1}, filter.CacheAware{Threshold: .1}, filter.BalancedPrefix{}, filter.LongestPrefix{},
		filter.Pinned{}, &filter.Topology{Min: scheduling.SameRack}, filter.AdapterSpread{}, &filter.Rollout{Label: "rack"},
		&filter.Modality{Label: "rack"},
	}
}

func busy(tb testing.TB, n int) (*scheduling.Pool, *scheduling.Request) {
	tb.Helper()
	list := make([]scheduling.Endpoint, n)
	states := make([]scheduling.State, n)
	now := time.Now()
	for i := range list {
		list[i] = scheduling.Endpoint{
			ID: fmt.Sprint("vllm-", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Model: "m", Adapters: []string{"a"},
			Role:   []scheduling.Role{0, scheduling.Prefill, scheduling.Decode}[i%3],
			Labels: map[string]string{"rack": fmt.Sprint(i % 10), "topology.kubernetes.io/rack": fmt.Sprint(i % 10)},
		}
		states[i] = scheduling.State{
			Endpoint: list[i].ID, At: now, Adapters: &scheduling.AdapterState{Active: []string{"b"}, Max: 1},
			Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: float64(i % 5)}},
		}
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
	require.NoError(tb, err)
	require.NoError(tb, pool.Report(states...))
	request := &scheduling.Request{
		Model: "m", Adapter: "a", Pinned: list[n/2].ID, Peer: &list[n/3], Modality: scheduling.Image,
		Header: func(string) string { return "7" }, Prompt: scheduling.Prompt{Tokens: make([]uint32, 4000)},
	}
	sched, err := scheduling.New(pool, scheduling.Options{Seed: 1})
	require.NoError(tb, err)
	for range 3*n + n/2 {
		_, err := sched.Pick(context.Background(), request)
		require.NoError(tb, err)
	}
	return pool, request
}

// cached says that every third endpoint has part of the prompt.
type cached struct{}

func (cached) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for i := range c.Match.Cached {
		if i%3 == 0 {
			c.Match.Cached[i] = int32(i * 16)
		}
	}
}

// within calls f with what a filter sees inside a pick.
type within func(*scheduling.Cycle, []scheduling.Slot)

func (f within) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	f(c, slots)
	return slots
}

func inside(tb testing.TB, pool *scheduling.Pool, r *scheduling.Request, f within) {
	tb.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{
		Producers: []scheduling.Producer{cached{}}, Filters: []scheduling.Filter{f},
	}})
	require.NoError(tb, err)
	d, err := s.Pick(context.Background(), r)
	require.NoError(tb, err)
	d.Done()
}

func BenchmarkFilter(b *testing.B) {
	for _, f := range all() {
		b.Run(fmt.Sprintf("plugin=%s/endpoints=100", reflect.Indirect(reflect.ValueOf(f)).Type().Name()), func(b *testing.B) {
			pool, request := busy(b, 100)
			inside(b, pool, request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				work := make([]scheduling.Slot, len(slots))
				b.ReportAllocs()
				for b.Loop() {
					copy(work, slots)
					f.Filter(c, work)
				}
			})
		})
	}
}
