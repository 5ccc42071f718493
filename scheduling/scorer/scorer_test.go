package scorer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

const abstained = -1

// known is a producer that knows what endpoints have cached.
type known map[string]int32

func (k known) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = k[c.Endpoint(slot).ID]
	}
}

type onlyID string

func (id onlyID) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	for _, slot := range slots {
		if c.Endpoint(slot).ID == string(id) {
			return append(slots[:0], slot)
		}
	}
	return nil
}

func newPool(t *testing.T, endpoints ...scheduling.Endpoint) *scheduling.Pool {
	t.Helper()
	for i := range endpoints {
		endpoints[i].Address = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
	require.NoError(t, err)
	return pool
}

func newScheduler(t *testing.T, pool *scheduling.Pool, p scheduling.Profile) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Profile: p})
	require.NoError(t, err)
	return s
}

// explained returns what the profile's only scorer said of each endpoint.
func explained(t *testing.T, s *scheduling.Scheduler, r scheduling.Request) map[string]float64 {
	t.Helper()
	r.Explain = true
	d, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	defer d.Done()
	got := map[string]float64{}
	for _, c := range d.Explanation.Candidates {
		got[c.Endpoint] = c.Scores[0].Score
		if c.Scores[0].Abstained {
			got[c.Endpoint] = abstained
		}
	}
	return got
}

func value(id string, m scheduling.Metric, v float64) scheduling.State {
	return scheduling.State{Endpoint: id, Values: []scheduling.Value{{Metric: m, Value: v}}}
}

func TestScorers(t *testing.T) {
	for _, row := range []struct {
		name     string
		scorer   scheduling.Scorer
		states   []scheduling.State
		cached   known          // nil: nobody looked
		inFlight map[string]int // requests of 100 tokens
		want     map[string]float64
	}{
		{name: "queue", scorer: scorer.Queue{HalfAt: 4},
			states: []scheduling.State{value("a", scheduling.Waiting, 0), value("b", scheduling.Waiting, 12)},
			want:   map[string]float64{"a": 1, "b": 4. / 16, "c": abstained}},
		{name: "queue counts what was placed since the report", scorer: scorer.Queue{HalfAt: 4},
			states:   []scheduling.State{value("a", scheduling.Waiting, 0), value("b", scheduling.Waiting, 1)},
			inFlight: map[string]int{"a": 4},
			want:     map[string]float64{"a": .5, "b": 4. / 5, "c": abstained}},
		{name: "running", scorer: scorer.Running{},
			states: []scheduling.State{value("a", scheduling.Running, 32), value("c", scheduling.Waiting, 1)},
			want:   map[string]float64{"a": .5, "b": abstained, "c": abstained}},
		{name: "KV utilization", scorer: scorer.KVUtilization{},
			states: []scheduling.State{value("a", scheduling.KVUsage, .25), value("b", scheduling.KVUsage, 1)},
			want:   map[string]float64{"a": .75, "b": 0, "c": abstained}},
		{name: "requests in flight", scorer: scorer.InFlightRequests{HalfAt: 2},
			inFlight: map[string]int{"a": 2, "b": 6},
			want:     map[string]float64{"a": .5, "b": .25, "c": 1}},
		{name: "tokens in flight", scorer: scorer.InFlightTokens{HalfAt: 100},
			inFlight: map[string]int{"a": 2, "b": 1},
			want:     map[string]float64{"a": 100. / 300, "b": .5, "c": 1}},
		{name: "prefix", scorer: scorer.Prefix{}, cached: known{"a": 100, "b": 32},
			want: map[string]float64{"a": 1, "b": .32, "c": 0}},
		{name: "prefix that nobody looked up", scorer: scorer.Prefix{},
			want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
		{name: "session of a request without one", scorer: scorer.Session{},
			want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool := newPool(t, scheduling.Endpoint{ID: "a"}, scheduling.Endpoint{ID: "b"}, scheduling.Endpoint{ID: "c"})
			require.NoError(t, pool.Report(row.states...))
			request := scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}}
			for id, n := range row.inFlight {
				only := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{onlyID(id)}})
				for range n {
					_, err := only.Pick(context.Background(), &request)
					require.NoError(t, err)
				}
			}
			profile := scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: row.scorer}}}
			if row.cached != nil {
				profile.Producers = []scheduling.Producer{row.cached}
			}
			got := explained(t, newScheduler(t, pool, profile), request)
			require.Empty(t, cmp.Diff(row.want, got, cmpopts.EquateApprox(0, 1e-12)))
		})
	}
}

func TestLoRA(t *testing.T) {
	var list []scheduling.Endpoint
	for _, id := range []string{"active", "free", "waiting", "full", "silent", "both"} {
		list = append(list, scheduling.Endpoint{ID: id, Model: "m", Adapters: []string{"x"}})
	}
	pool := newPool(t, list...)
	state := func(id string, max int, active, waiting []string) scheduling.State {
		return scheduling.State{Endpoint: id, Adapters: &scheduling.AdapterState{Active: active, Waiting: waiting, Max: max}}
	}
	require.NoError(t, pool.Report(
		state("active", 1, []string{"x"}, nil),
		state("free", 2, []string{"y"}, nil),
		state("waiting", 1, []string{"y"}, []string{"x"}),
		state("full", 1, []string{"y"}, nil),
		state("both", 2, []string{"y"}, []string{"y"}), // vLLM may name an adapter in both lists: it takes up one place
	))
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.LoRA{}}}})
	require.Equal(t,
		map[string]float64{"active": 1, "free": .8, "both": .8, "waiting": .6, "full": 0, "silent": abstained},
		explained(t, s, scheduling.Request{Model: "m", Adapter: "x"}))
	for id, score := range explained(t, s, scheduling.Request{Model: "m"}) {
		require.InDelta(t, abstained, score, 0, "%s: a request without an adapter does not care", id)
	}
}

func TestSession(t *testing.T) {
	pool := newPool(t, make([]scheduling.Endpoint, 10)...)
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Session{}}}})
	homes := func() (home [1000]string) {
		for i := range home {
			d, err := s.Pick(context.Background(), &scheduling.Request{Session: fmt.Sprint("user ", i)})
			require.NoError(t, err)
			home[i] = d.Endpoint.ID
			d.Done()
		}
		return home
	}
	before := homes()
	require.Equal(t, before, homes(), "a session stays")
	counts := map[string]int{}
	for _, id := range before {
		counts[id]++
	}
	require.Len(t, counts, 10)
	for id, n := range counts {
		require.InDelta(t, 100, n, 40, "%s has its share", id)
	}
	pool.Remove("10.0.0.3:80")
	for i, id := range homes() {
		if before[i] != "10.0.0.3:80" {
			require.Equal(t, before[i], id, "only the sessions of the endpoint that left move")
		}
	}
}
