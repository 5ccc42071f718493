package scorer_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// place puts n requests of 100 tokens on an endpoint. Those whose prefill is over count KV tokens only.
func place(t *testing.T, pool *scheduling.Pool, id string, n int, prefilled bool) {
	t.Helper()
	only := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{onlyID(id)}})
	for range n {
		d, err := only.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}})
		require.NoError(t, err)
		if prefilled {
			d.FirstToken()
		}
	}
}

// Every row is worked out by hand from the formula in the scorer's comment. The prompt has 1000 tokens.
func TestFormulas(t *testing.T) {
	label := func(id, key, value string) scheduling.Endpoint {
		return scheduling.Endpoint{ID: id, Labels: map[string]string{key: value}}
	}
	plain := []scheduling.Endpoint{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	waiting := func(a, b float64) []scheduling.State {
		return []scheduling.State{value("a", scheduling.Waiting, a), value("b", scheduling.Waiting, b)}
	}
	where := func(id, host, rack, zone, region string) scheduling.Endpoint {
		return scheduling.Endpoint{ID: id, Labels: map[string]string{
			"host": host, "topology.kubernetes.io/rack": rack, "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": region,
		}}
	}
	places := []scheduling.Endpoint{
		where("host", "h1", "r1", "z1", "g1"), where("rack", "h2", "r1", "z1", "g1"), where("zone", "h3", "r2", "z1", "g1"),
		where("region", "h4", "r3", "z2", "g1"), where("far", "h5", "r4", "z3", "g2"), {ID: "nowhere"},
	}
	peer := where("peer", "h1", "r1", "z1", "g1")
	labels := scheduling.Topology{Host: "host"}
	for _, row := range []struct {
		name      string
		scorer    scheduling.Scorer
		endpoints []scheduling.Endpoint
		states    []scheduling.State
		cached    known
		inFlight  map[string]int
		decoding  map[string]int
		request   scheduling.Request
		want      map[string]float64
	}{
		{name: "queue between the candidates", scorer: scorer.Linear{Metric: scheduling.Waiting}, states: append(waiting(2, 6), value("c", scheduling.Waiting, 3)),
			want: map[string]float64{"a": 1, "b": 0, "c": .75}},
		{name: "one is not known", scorer: scorer.Linear{Metric: scheduling.Waiting}, states: waiting(2, 6),
			want: map[string]float64{"a": 1, "b": 0, "c": abstained}},
		{name: "equal queues", scorer: scorer.Linear{Metric: scheduling.Waiting}, states: waiting(5, 5),
			want: map[string]float64{"a": 1, "b": 1, "c": abstained}},
		{name: "fixed range", scorer: scorer.Linear{Metric: scheduling.Waiting, Max: 128}, states: waiting(32, 256),
			want: map[string]float64{"a": .75, "b": 0, "c": abstained}},
		{name: "higher is better", scorer: scorer.Linear{Metric: scheduling.Custom(2), HigherIsBetter: true, Min: 10, Max: 20},
			states: []scheduling.State{value("a", scheduling.Custom(2), 12), value("b", scheduling.Custom(2), 20), value("c", scheduling.Custom(2), 1)},
			want:   map[string]float64{"a": .2, "b": 1, "c": 0}},
		{name: "a count of the ledger is always known", scorer: scorer.Linear{Metric: scheduling.InFlightKVTokens}, inFlight: map[string]int{"a": 1, "b": 4},
			want: map[string]float64{"a": .75, "b": 0, "c": 1}},
		{name: "token load", scorer: scorer.TokenLoad{Tokens: 4000}, cached: known{"a": 600}, inFlight: map[string]int{"a": 2, "b": 50}, decoding: map[string]int{"c": 9},
			want: map[string]float64{"a": 1 - 600./4000, "b": 0, "c": .75}},
		{name: "token load of an endpoint with nothing to do", scorer: scorer.TokenLoad{}, cached: known{"a": 1000},
			want: map[string]float64{"a": 1, "b": 1 - 1000./4194304, "c": 1 - 1000./4194304}},
		{name: "active requests", scorer: scorer.ActiveRequests{Idle: 1, MaxBusy: .5}, inFlight: map[string]int{"a": 1, "b": 2, "c": 8},
			want: map[string]float64{"a": 1, "b": .5 * 6 / 8, "c": 0}},
		{name: "active requests, none", scorer: scorer.ActiveRequests{}, want: map[string]float64{"a": 1, "b": 1, "c": 1}},
		// (200+400)·3 = 1800, (0+1000)·1 = 1000, (300+0)·(3+1) = 1200
		{name: "lmetric", scorer: scorer.LMetric{}, cached: known{"a": 600, "c": 1000}, inFlight: map[string]int{"a": 2, "c": 3},
			want: map[string]float64{"a": 0, "b": 1, "c": 600. / 800}},
		// a: 200 + (2+200/3/100)·400 + 2·10; b: (2+.67)·1000; c: (2+.67)·1000 + 3·10
		{name: "effort", scorer: scorer.Effort{Crowd: 100, PerRequest: 10, HalfAt: 1000}, cached: known{"a": 600}, inFlight: map[string]int{"a": 2}, decoding: map[string]int{"c": 3},
			want: map[string]float64{"a": 1000 / (1000 + 200 + 8./3*400 + 20), "b": 1000 / (1000 + 8./3*1000), "c": 1000 / (1000 + 8./3*1000 + 30)}},
		// a: 10·100, crowding at its most: 3
		{name: "effort in a crowd", scorer: scorer.Effort{Uncached: 1, Crowd: 1, PerRequest: 1, HalfAt: 1000}, inFlight: map[string]int{"a": 10},
			want: map[string]float64{"a": 1000. / (1000 + 1000 + 4000 + 10), "b": .2, "c": .2}},
		// The engine of a had 12 requests, 3 of which waited, before this process placed 2. All of b's waited.
		{name: "effort for others", scorer: scorer.Effort{Uncached: 1, Crowd: 1e300, PerRequest: 10, PerQueued: 100, HalfAt: 1000}, decoding: map[string]int{"a": 2},
			states: []scheduling.State{{Endpoint: "a", Values: []scheduling.Value{{Metric: scheduling.Running, Value: 9}, {Metric: scheduling.Waiting, Value: 3}}}, value("b", scheduling.Waiting, 50)},
			want:   map[string]float64{"a": 1000 / (1000 + 1000 + 14*10 + 12*.25*100), "b": 1000. / (1000 + 1000 + 50*10 + 50*100), "c": .5}},
		// a: max(0, 200+1000-640)+200 = 760 tokens; b: 1000; c: 1000+300 = 1300
		{name: "Dynamo", scorer: scorer.Dynamo{}, cached: known{"a": 640}, inFlight: map[string]int{"a": 2}, decoding: map[string]int{"c": 3},
			want: map[string]float64{"a": 1, "b": 300. / 540, "c": 0}},
		// Blocks of 10 tokens: a: 2·max(0, 100-.5·64)+2 = 138; b: 200; c: 200+30+7·3 = 251
		{name: "Dynamo's weights", scorer: scorer.Dynamo{PrefillScale: 2, OverlapCredit: .5, RequestWeight: 7, BlockTokens: 10}, cached: known{"a": 640},
			decoding: map[string]int{"c": 3}, states: []scheduling.State{{Endpoint: "a", BlockTokens: 10}},
			want: map[string]float64{"a": 1, "b": 51. / (251 - 136), "c": 0}},
		{name: "Dynamo between equals", scorer: scorer.Dynamo{}, want: map[string]float64{"a": 1, "b": 1, "c": 1}},
		{name: "load by capacity", scorer: &scorer.WeightedLoad{Metric: scheduling.InFlightRequests, Capacity: scorer.Capacity{Label: "gpus", Standard: 2}, HalfAt: 1},
			endpoints: []scheduling.Endpoint{label("a", "gpus", "8"), label("b", "gpus", "-1"), label("c", "gpus", "NaN"), {ID: "d"}}, inFlight: map[string]int{"a": 7, "b": 1},
			want: map[string]float64{"a": .5, "b": .5, "c": 1 / 1.5, "d": 1 / 1.5}},
		{name: "load by computed capacity", endpoints: plain[:2], inFlight: map[string]int{"a": 3, "b": 3}, scorer: &scorer.WeightedLoad{
			Metric: scheduling.InFlightRequests, HalfAt: 1, Capacity: scorer.Capacity{Of: func(e *scheduling.Endpoint) float64 {
				return map[string]float64{"a": 4, "b": math.Inf(1)}[e.ID]
			}}}, want: map[string]float64{"a": .5, "b": .2}},
		{name: "prefix with its length", scorer: scorer.Prefix{LengthWeight: .4, LengthScale: 1200}, cached: known{"a": 600, "b": 1000},
			want: map[string]float64{"a": .6*.6 + .4*.25, "b": .6 + .4*25/36, "c": 0}},
		{name: "no more than its scale", scorer: scorer.Prefix{LengthWeight: 1, LengthScale: 500}, cached: known{"a": 600, "b": 250},
			want: map[string]float64{"a": 1, "b": .25, "c": 0}},
		{name: "pinned", scorer: scorer.Pinned{}, request: scheduling.Request{Pinned: "b"}, want: map[string]float64{"a": 0, "b": 1, "c": 0}},
		{name: "pinned to one that left", scorer: scorer.Pinned{}, request: scheduling.Request{Pinned: "x"}, want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
		{name: "pinned to none", scorer: scorer.Pinned{}, want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
		{name: "header and label", scorer: &scorer.HeaderLabel{Header: "X-Tier", Label: "tier"}, endpoints: []scheduling.Endpoint{label("a", "tier", "gold"), label("b", "tier", "tin"), {ID: "c"}},
			request: scheduling.Request{Header: func(name string) string { return map[string]string{"X-Tier": "gold"}[name] }},
			want:    map[string]float64{"a": 1, "b": 0, "c": 0}},
		{name: "no header", scorer: &scorer.HeaderLabel{Header: "X-Tier", Label: "tier"}, want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
		{name: "topology", scorer: &scorer.Topology{Labels: labels}, endpoints: places, request: scheduling.Request{Peer: &peer},
			want: map[string]float64{"host": 1, "rack": .2, "zone": .05, "region": .02, "far": 0, "nowhere": 0}},
		{name: "topology around nowhere", scorer: &scorer.Topology{Labels: labels}, endpoints: places[4:], request: scheduling.Request{Peer: &scheduling.Endpoint{ID: "x"}},
			want: map[string]float64{"far": 0, "nowhere": 0}},
		{name: "topology without a peer", scorer: &scorer.Topology{}, want: map[string]float64{"a": abstained, "b": abstained, "c": abstained}},
		{name: "context length", scorer: &scorer.ContextLength{Label: "range"}, endpoints: []scheduling.Endpoint{
			label("in", "range", "0-10000"), label("exact", "range", "1000-1000"), label("above", "range", "3000-9000"), label("below", "range", "0-500"),
			label("bad", "range", "8k"), label("backwards", "range", "9-1"), {ID: "none"},
		}, want: map[string]float64{
			"in": .3 + .7*(.7/2+.3*.9), "exact": 1, "above": .3 / 3, "below": .3 / 1.5, "bad": 0, "backwards": 0, "none": .5,
		}},
		// a: .5·4 + (200+400)/1000 s = 2.6; b: .5·1 + 1000/2000 = 1; c: the mean of 2 and .5, and 1000/1000 = 2.25
		{name: "cost in seconds", scorer: scorer.Cost{HalfAt: 2, Terms: []scorer.Term{
			scorer.Each{Metric: scheduling.Waiting, Cost: .5}, &scorer.PrefillTime{TokensPerSecond: scorer.Capacity{Label: "rate", Standard: 1000}},
		}}, endpoints: []scheduling.Endpoint{{ID: "a"}, label("b", "rate", "2000"), {ID: "c"}}, states: waiting(4, 1), cached: known{"a": 600}, inFlight: map[string]int{"a": 2},
			want: map[string]float64{"a": 2 / 4.6, "b": 2. / 3, "c": 2 / 4.25}},
		{name: "a cost that nobody knows", scorer: scorer.Cost{Terms: []scorer.Term{scorer.Each{Metric: scheduling.Waiting, Cost: 1}}},
			want: map[string]float64{"a": 1, "b": 1, "c": 1}},
		{name: "predicted cost", endpoints: plain, want: map[string]float64{"a": .25, "b": .4, "c": 1}, scorer: scorer.Cost{Terms: []scorer.Term{
			scorer.TermFunc(func(c *scheduling.Cycle, slot scheduling.Slot) (float64, bool) {
				return map[string]float64{"a": 3, "b": math.NaN(), "c": 0}[c.Endpoint(slot).ID], true
			})}}},
		// 1 MB at 1e6, 1e6, 5e5 and 1e5 bytes a second, and .1 s; "rack" has 600 tokens of it.
		{name: "transfer", scorer: scorer.Cost{Terms: []scorer.Term{&scorer.TransferTime{
			BytesPerToken: 1000, Seconds: .1, Labels: labels, BytesPerSecond: scorer.Links{Rack: 1e6, Region: 5e5, Anywhere: 1e5},
		}}}, endpoints: append([]scheduling.Endpoint{peer}, places...), request: scheduling.Request{Peer: &peer}, cached: known{"rack": 600}, want: map[string]float64{
			"peer": 1, "host": 1 / 2.1, "rack": 1 / 1.5, "zone": 1 / 3.1, "region": 1 / 3.1, "far": 1 / 11.1, "nowhere": 1 / 11.1,
		}},
		{name: "transfer to the peer", scorer: scorer.Cost{Terms: []scorer.Term{&scorer.TransferTime{
			BytesPerToken: 1000, ToPeer: true, Labels: labels, BytesPerSecond: scorer.Links{Anywhere: 1e6},
		}}}, endpoints: append([]scheduling.Endpoint{peer}, places[0]), request: scheduling.Request{Peer: &peer}, cached: known{"host": 600},
			want: map[string]float64{"peer": 1, "host": .5}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.endpoints == nil {
				row.endpoints = plain
			}
			pool := newPool(t, append([]scheduling.Endpoint(nil), row.endpoints...)...)
			require.NoError(t, pool.Report(row.states...))
			for id, n := range row.inFlight {
				place(t, pool, id, n, false)
			}
			for id, n := range row.decoding {
				place(t, pool, id, n, true)
			}
			row.request.Prompt.Tokens = make([]uint32, 1000)
			profile := scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: row.scorer}}}
			if row.cached != nil {
				profile.Producers = []scheduling.Producer{row.cached}
			}
			got := explained(t, newScheduler(t, pool, profile), row.request)
			require.Empty(t, cmp.Diff(row.want, got, cmpopts.EquateApprox(0, 1e-12)))
		})
	}
}

func TestContextLengthFilters(t *testing.T) {
	var list []scheduling.Endpoint
	for _, label := range []string{"0-1000", "1000-1000", "1001-2000", "0-999", "bad"} {
		list = append(list, scheduling.Endpoint{ID: label, Labels: map[string]string{"range": label}})
	}
	pool := newPool(t, append(list, scheduling.Endpoint{ID: "none"})...)
	s := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{&scorer.ContextLength{Label: "range"}}})
	d, err := s.Pick(context.Background(), &scheduling.Request{Explain: true, Prompt: scheduling.Prompt{Tokens: make([]uint32, 1000)}})
	require.NoError(t, err)
	var ids []string
	for _, c := range d.Explanation.Candidates {
		ids = append(ids, c.Endpoint)
	}
	require.ElementsMatch(t, []string{"0-1000", "1000-1000", "none"}, ids)
}

func TestAdapterTime(t *testing.T) {
	var list []scheduling.Endpoint
	for _, id := range []string{"active", "free", "waiting", "full", "silent"} {
		list = append(list, scheduling.Endpoint{ID: id, Model: "m", Adapters: []string{"x"}})
	}
	pool := newPool(t, list...)
	state := func(id string, max int, active, waiting []string) scheduling.State {
		return scheduling.State{Endpoint: id, Adapters: &scheduling.AdapterState{Active: active, Waiting: waiting, Max: max}}
	}
	require.NoError(t, pool.Report(state("active", 1, []string{"x"}, nil), state("free", 2, []string{"y"}, nil),
		state("waiting", 1, []string{"y"}, []string{"x"}), state("full", 1, []string{"y"}, nil)))
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{Terms: []scorer.Term{scorer.AdapterTime{Load: 1, Evict: 2}}}}}})
	want := map[string]float64{"active": 1, "free": .5, "waiting": .5, "full": .25, "silent": 1 / 2.25}
	require.Empty(t, cmp.Diff(want, explained(t, s, scheduling.Request{Model: "m", Adapter: "x"}), cmpopts.EquateApprox(0, 1e-12)))
	for id, score := range explained(t, s, scheduling.Request{Model: "m"}) {
		require.InDelta(t, 1, score, 0, "%s: no adapter, no cost", id)
	}

	s = newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Effort{AdapterTokens: 1000, HalfAt: 1000}}}})
	want = map[string]float64{"active": 1, "free": .5, "waiting": .5, "full": 1. / 3, "silent": .5}
	require.Empty(t, cmp.Diff(want, explained(t, s, scheduling.Request{Model: "m", Adapter: "x"}), cmpopts.EquateApprox(0, 1e-12)))
}

// The load of other processes is what an engine reports beyond what this process had there at that time.
func TestOthersAreWhatReportsShowBeyondTheLedger(t *testing.T) {
	pool := newPool(t, scheduling.Endpoint{ID: "a"})
	var requests, queued float64
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: look(func(c *scheduling.Cycle, slot scheduling.Slot) {
		others := c.Others()
		requests, queued = others.At(slot)
	})}}})
	pick := func() scheduling.Decision {
		d, err := s.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		return d
	}
	report := func(running, waiting float64) {
		require.NoError(t, pool.Report(scheduling.State{Endpoint: "a", Values: []scheduling.Value{
			{Metric: scheduling.Running, Value: running}, {Metric: scheduling.Waiting, Value: waiting},
		}}))
	}
	first := pick()
	require.Equal(t, [2]float64{0, 0}, [2]float64{requests, queued}, "nothing was reported")
	pick()
	report(3, 3)
	pick()
	require.Equal(t, [2]float64{4, 2}, [2]float64{requests, queued}, "two of the six are this process's")
	first.Done()
	pick()
	require.Equal(t, [2]float64{4, 2}, [2]float64{requests, queued}, "until the next report")
	report(2, 1)
	pick()
	require.Equal(t, [2]float64{0, 0}, [2]float64{requests, queued}, "all are this process's")
}

// look is a scorer that only looks.
type look func(*scheduling.Cycle, scheduling.Slot)

func (f look) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		f(c, slot)
		scores[i] = 1
	}
}

// Consistent hashing: a session stays, an endpoint that leaves moves only its own, and a bound holds.
func TestHashing(t *testing.T) {
	prompt := func(i int) scheduling.Prompt {
		tokens := make([]uint32, 300)
		tokens[100] = uint32(i)
		return scheduling.Prompt{Tokens: tokens}
	}
	for name, s := range map[string]scheduling.Scorer{"Ring": &scorer.Ring{}, "PrefixHash": scorer.PrefixHash{}, "bounded Session": scorer.Session{Bound: 1.25}} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, make([]scheduling.Endpoint, 10)...)
			sched := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: s}}})
			homes := func() (home [1000]string) {
				for i := range home {
					d, err := sched.Pick(context.Background(), &scheduling.Request{Session: string(rune('a' + i)), Prompt: prompt(i)})
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
				require.InDelta(t, 100, n, 50, "%s has its share", id)
			}
			pool.Remove("10.0.0.3:80")
			for i, id := range homes() {
				if before[i] != "10.0.0.3:80" {
					require.Equal(t, before[i], id, "only the sessions of the endpoint that left move")
				}
			}
		})
	}
	for name, s := range map[string]scheduling.Scorer{"Ring": &scorer.Ring{Bound: 1.25}, "PrefixHash": scorer.PrefixHash{}, "Session": scorer.Session{Bound: 1.25}} {
		t.Run(name+" under a bound", func(t *testing.T) {
			pool := newPool(t, make([]scheduling.Endpoint, 4)...)
			sched := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: s}}})
			for n := range 200 {
				_, err := sched.Pick(context.Background(), &scheduling.Request{Session: "one", Prompt: prompt(1)})
				require.NoError(t, err)
				for slot := range uint32(4) {
					require.LessOrEqual(t, float64(pool.InFlight(slot).Requests), 1.25*float64(n+1)/4+1)
				}
			}
		})
	}
	t.Run("a prompt's head is what counts", func(t *testing.T) {
		sched := newScheduler(t, newPool(t, make([]scheduling.Endpoint, 50)...), scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.PrefixHash{Tokens: 8}}}})
		home := func(p scheduling.Prompt) string {
			d, err := sched.Pick(context.Background(), &scheduling.Request{Prompt: p})
			require.NoError(t, err)
			defer d.Done()
			return d.Endpoint.ID
		}
		text := func(s string) scheduling.Prompt { return scheduling.Prompt{Text: []byte(s)} }
		require.Equal(t, home(text("the same thirty-two bytes, and.. this")), home(text("the same thirty-two bytes, and.. that")))
		chain := func(hashes ...uint64) scheduling.Prompt {
			return scheduling.Prompt{Chains: []scheduling.Chain{{BlockTokens: 4, Hashes: hashes}}}
		}
		require.Equal(t, home(chain(1, 2, 3)), home(chain(1, 2, 4)))
		all := explained(t, sched, scheduling.Request{})
		for _, score := range all {
			require.InDelta(t, abstained, score, 0, "no prompt")
		}
	})
}

func TestColdLRU(t *testing.T) {
	pool := newPool(t, scheduling.Endpoint{ID: "a"}, scheduling.Endpoint{ID: "b"}, scheduling.Endpoint{ID: "c"})
	lru := &scorer.ColdLRU{}
	warm := known{}
	s := newScheduler(t, pool, scheduling.Profile{Producers: []scheduling.Producer{warm}, Scorers: []scheduling.Weighted{{Scorer: lru}}})
	var order []string
	for range 6 {
		d, err := s.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		order = append(order, d.Endpoint.ID)
		d.Done()
	}
	require.Equal(t, []string{"a", "b", "c", "a", "b", "c"}, order)
	require.Equal(t, map[string]float64{"a": 1, "b": .5, "c": 0}, explained(t, s, scheduling.Request{}), "least recently used first; takes a")
	require.Equal(t, map[string]float64{"b": 1, "c": .5, "a": 0}, explained(t, s, scheduling.Request{}), "takes b")
	warm["c"] = 16
	require.Equal(t, map[string]float64{"a": .5, "b": .5, "c": .5}, explained(t, s, scheduling.Request{}), "somebody has part of it")
	clear(warm)
	require.Equal(t, map[string]float64{"c": 1, "a": .5, "b": 0}, explained(t, s, scheduling.Request{}), "which was no use in this sense; takes c")
	moved := scheduling.Endpoint{ID: "b", Address: "10.9.9.9:1"}
	require.NoError(t, pool.Upsert(moved))
	require.Equal(t, map[string]float64{"b": 1, "a": .5, "c": 0}, explained(t, s, scheduling.Request{}), "another engine in b's slot has not been used")
	pool.Remove("a", "c")
	require.Equal(t, map[string]float64{"b": 1}, explained(t, s, scheduling.Request{}), "one alone")
}

func TestTenantSpread(t *testing.T) {
	now := time.Unix(100_000, 0)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Now: func() time.Time { return now }, Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:80"}, {ID: "b", Address: "10.0.0.2:80"}, {ID: "c", Address: "10.0.0.3:80"},
	}})
	require.NoError(t, err)
	spread := &scorer.TenantSpread{}
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: spread}}})
	// Up to .1·random, so up to .1/4 lower.
	requireNear := func(tenant string, tokens int, want map[string]float64) {
		t.Helper()
		got := explained(t, s, scheduling.Request{Tenant: tenant, Prompt: scheduling.Prompt{Tokens: make([]uint32, tokens)}})
		for id, w := range want {
			require.InDelta(t, w-.0125, got[id], .0126, "%s of %v", id, got)
		}
	}
	at := func(place float64) map[string]float64 {
		return map[string]float64{"a": 1 - math.Abs(0-place)/4, "b": 1 - math.Abs(1-place)/4, "c": 1 - math.Abs(2-place)/4}
	}
	requireNear("light", 500, at(0))
	requireNear("light", 0, at(.5)) // 500 tokens, and the bucket is 1000
	spread.Used("heavy", 5000, now.Unix())
	requireNear("heavy", 0, at(10000./5250)) // 10000 tokens; the bucket is (500+10000)/2
	requireNear("light", 0, at(500./5250))
	now = now.Add(299 * time.Second / 2)
	requireNear("heavy", 0, at(10000./5250))
	now = now.Add(301 * time.Second / 2)
	requireNear("heavy", 0, at(0)) // the window is over
	got := explained(t, s, scheduling.Request{})
	require.Equal(t, map[string]float64{"a": abstained, "b": abstained, "c": abstained}, got)

	place(t, pool, "a", 50, false)
	requireNear("light", 0, map[string]float64{"a": 1 - .5/4})
}
