package latency_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var objectives = scheduling.Request{
	TTFT: time.Second, TPOT: 50 * time.Millisecond, Prompt: scheduling.Prompt{Tokens: make([]uint32, 1000)},
}

func fleet(n int) []scheduling.Endpoint {
	list := make([]scheduling.Endpoint, n)
	for i := range list {
		list[i] = scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Model: "m", BlockTokens: 16, CacheBlocks: 10_000}
	}
	return list
}

func newPool(t testing.TB, list ...scheduling.Endpoint) *scheduling.Pool {
	t.Helper()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	return pool
}

func newModel(t testing.TB, o latency.Options) *latency.Model {
	t.Helper()
	m, err := latency.New(o)
	require.NoError(t, err)
	return m
}

func report(t testing.TB, pool *scheduling.Pool, list []scheduling.Endpoint) {
	t.Helper()
	var states []scheduling.State
	for i, e := range list {
		states = append(states, scheduling.State{Endpoint: e.ID, Values: []scheduling.Value{
			{Metric: scheduling.Waiting, Value: float64(i % 3)}, {Metric: scheduling.Running, Value: float64(i % 20)},
			{Metric: scheduling.KVUsage, Value: float64(i%10) / 10},
		}})
	}
	require.NoError(t, pool.Report(states...))
}

// filterFunc is a filter as a function.
type filterFunc func(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot

func (f filterFunc) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return f(c, slots)
}

// inside calls do within a pick, once predictions have been made.
func inside(t testing.TB, pool *scheduling.Pool, p scheduling.Producer, r scheduling.Request, do func(c *scheduling.Cycle, slots []scheduling.Slot)) {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{
		Producers: []scheduling.Producer{p},
		Filters: []scheduling.Filter{filterFunc(func(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
			do(c, slots)
			return slots
		})},
	}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	d.Done()
}
