package scorer_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// all returns one of each scorer, and of each term of a Cost, with parameters under which they work hardest.
func all() []scheduling.Scorer {
	terms := []scorer.Term{
		scorer.Each{Metric: scheduling.Waiting, Cost: .1},
		&scorer.PrefillTime{TokensPerSecond: scorer.Capacity{Label: "speed"}},
		&scorer.TransferTime{BytesPerToken: 1e5, BytesPerSecond: scorer.Links{Anywhere: 1e9}},
		scorer.AdapterTime{Load: 1},
	}
	scorers := []scheduling.Scorer{
		scorer.Queue{}, scorer.Running{}, scorer.KVUtilization{}, scorer.InFlightRequests{}, scorer.InFlightTokens{},
		scorer.Linear{Metric: scheduling.Waiting}, scorer.TokenLoad{}, scorer.ActiveRequests{}, scorer.LMetric{}, scorer.Dynamo{}, scorer.Effort{},
		&scorer.WeightedLoad{Metric: scheduling.InFlightRequests, Capacity: scorer.Capacity{Label: "speed"}},
		scorer.Prefix{LengthWeight: .5}, scorer.Media{}, scorer.LoRA{}, scorer.Pinned{}, scorer.Session{Bound: 1.25}, scorer.PrefixHash{},
		&scorer.Ring{Bound: 1.25}, &scorer.HeaderLabel{Header: "h", Label: "rack"}, &scorer.Topology{},
		&scorer.ContextLength{Label: "context"}, &scorer.ColdLRU{}, &scorer.TenantSpread{}, &scorer.SessionBinding{},
		scorer.Cost{Terms: []scorer.Term{scorer.TermFunc(func(c *scheduling.Cycle, slot scheduling.Slot) (float64, bool) {
			return float64(c.Uncached(slot)), slot%10 != 0
		})}},
	}
	for _, t := range terms {
		scorers = append(scorers, scorer.Cost{Terms: []scorer.Term{t}})
	}
	return scorers
}

func name(s scheduling.Scorer) string {
	name := reflect.Indirect(reflect.ValueOf(s)).Type().Name()
	if cost, ok := s.(scorer.Cost); ok {
		name += "(" + strings.TrimPrefix(fmt.Sprintf("%T", cost.Terms[0]), "*") + ")"
		name = strings.ReplaceAll(name, "scorer.", "")
	}
	return name
}

// busy is a pool of n endpoints with labels, reports and requests in flight, and a request that concerns them in every way.
func busy(tb testing.TB, n int) (*scheduling.Pool, *scheduling.Request) {
	tb.Helper()
	list := make([]scheduling.Endpoint, n)
	states := make([]scheduling.State, n)
	now := time.Now()
	for i := range list {
		list[i] = scheduling.Endpoint{
			ID: fmt.Sprint("vllm-", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Model: "m", Adapters: []string{"a"}, BlockTokens: 16,
			Labels: map[string]string{
				"speed": fmt.Sprint(1 + i%3), "rack": fmt.Sprint(i % 10), "context": fmt.Sprintf("%d-%d", i%7*1000, i%7*1000+3000),
				"topology.kubernetes.io/rack": fmt.Sprint(i % 10), "topology.kubernetes.io/zone": fmt.Sprint(i % 3),
			},
		}
		states[i] = scheduling.State{Endpoint: list[i].ID, At: now, Adapters: &scheduling.AdapterState{Active: []string{"ab"[i%2 : i%2+1]}, Max: 1}}
		if i%10 != 0 {
			states[i].Values = []scheduling.Value{{Metric: scheduling.Waiting, Value: float64(i % 5)}, {Metric: scheduling.Running, Value: float64(i % 9)}, {Metric: scheduling.KVUsage, Value: .5}}
		}
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
	require.NoError(tb, err)
	require.NoError(tb, pool.Report(states...))
	request := &scheduling.Request{
		Model: "m", Adapter: "a", Session: "s", Tenant: "t", Pinned: list[n/2].ID, Peer: &list[n/3],
		Header: func(string) string { return "7" }, Prompt: scheduling.Prompt{Tokens: make([]uint32, 4000)},
		Media: []scheduling.Media{{Hash: 1, Size: 100}},
	}
	sched, err := scheduling.New(pool, scheduling.Options{Seed: 1})
	require.NoError(tb, err)
	for range 3 * n {
		_, err := sched.Pick(context.Background(), request)
		require.NoError(tb, err)
	}
	return pool, request
}

// cached says that every third endpoint has part of the prompt.
type cached struct{ nothing bool }

func (p cached) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	c.Match.Media = append(c.Match.Media[:0], make([]int32, len(c.Match.Cached))...)
	for i := range c.Match.Cached {
		if i%3 == 0 && !p.nothing {
			c.Match.Cached[i] = int32(i * 16)
			c.Match.Media[i] = int32(i)
		}
	}
}

// within calls f with what a scorer sees inside a pick.
func within(tb testing.TB, pool *scheduling.Pool, r *scheduling.Request, p scheduling.Producer, f func(*scheduling.Cycle, []scheduling.Slot, []float64)) {
	tb.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{
		Producers: []scheduling.Producer{p}, Scorers: []scheduling.Weighted{{Scorer: scorerFunc(f)}},
	}})
	require.NoError(tb, err)
	d, err := s.Pick(context.Background(), r)
	require.NoError(tb, err)
	d.Done()
}

type scorerFunc func(*scheduling.Cycle, []scheduling.Slot, []float64)

func (f scorerFunc) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	f(c, slots, scores)
}

func BenchmarkScore(b *testing.B) {
	for _, s := range all() {
		b.Run(fmt.Sprintf("plugin=%s/endpoints=100", name(s)), func(b *testing.B) {
			pool, request := busy(b, 100)
			_, cold := s.(*scorer.ColdLRU)
			within(b, pool, request, cached{nothing: cold}, func(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
				if committer, ok := s.(scheduling.Committer); ok {
					for _, slot := range slots {
						committer.Commit(c, slot)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					s.Score(c, slots, scores)
				}
			})
		})
	}
}
