package filter_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
)

// has says what endpoints have cached.
type has map[string]int32

func (h has) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = h[c.Endpoint(slot).ID]
	}
}

type only string

func (id only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
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

// kept returns the endpoints that are left, in no order.
func kept(t *testing.T, pool *scheduling.Pool, p scheduling.Profile, r scheduling.Request) []string {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Profile: p, Seed: 1})
	require.NoError(t, err)
	r.Explain = true
	d, err := s.Pick(context.Background(), &r)
	if err != nil {
		require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
		return []string{}
	}
	defer d.Done()
	ids := []string{}
	for _, c := range d.Explanation.Candidates {
		ids = append(ids, c.Endpoint)
	}
	return ids
}

// Every row is worked out by hand from the filter's comment. The prompt has 1000 tokens, a request in flight 100.
func TestFormulas(t *testing.T) {
	type labels = map[string]string
	plain := []scheduling.Endpoint{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	labelled := []scheduling.Endpoint{{ID: "a", Labels: labels{"tier": "gold", "x": ""}}, {ID: "b", Labels: labels{"tier": "tin"}}, {ID: "c"}}
	selector := func(operator filter.LabelOperator, values ...string) *filter.Labels {
		return &filter.Labels{Expressions: []filter.Requirement{{Key: "tier", Operator: operator, Values: values}}}
	}
	header := func(value string) scheduling.Request {
		return scheduling.Request{Header: func(name string) string { return labels{"X-Tier": value}[name] }}
	}
	limit := func(m scheduling.Metric, o filter.Operator, v float64) filter.Limits {
		return filter.Limits{Conditions: []filter.Condition{{Metric: m, Operator: o, Value: v}}}
	}
	waiting := func(id string, n float64) scheduling.State {
		return scheduling.State{Endpoint: id, Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: n}}}
	}
	queues := []scheduling.State{waiting("a", 1), waiting("b", 2)}
	strict := limit(scheduling.Waiting, filter.LessThan, 2)
	strict.RemoveUnknown = true
	fallback := limit(scheduling.InFlightRequests, filter.GreaterThan, 7)
	fallback.FallbackOnEmpty = true
	inputs := []scheduling.Endpoint{
		{ID: "a", Labels: labels{"in": "text, image"}}, {ID: "b", Labels: labels{"in": "video,image,smell"}}, {ID: "c", Labels: labels{"in": ""}}, {ID: "d"},
	}
	zones := []scheduling.Endpoint{
		{ID: "a", Labels: labels{"topology.kubernetes.io/zone": "1", "topology.kubernetes.io/region": "r"}},
		{ID: "b", Labels: labels{"topology.kubernetes.io/zone": "2", "topology.kubernetes.io/region": "r"}}, {ID: "c"},
	}
	for _, row := range []struct {
		name      string
		filter    scheduling.Filter
		endpoints []scheduling.Endpoint
		states    []scheduling.State
		cached    has
		inFlight  map[string]int
		request   scheduling.Request
		want      []string
	}{
		{name: "labels that match", filter: &filter.Labels{Match: labels{"tier": "gold"}}, endpoints: labelled, want: []string{"a"}},
		{name: "an empty label is one", filter: &filter.Labels{Match: labels{"x": ""}}, endpoints: labelled, want: []string{"a"}},
		{name: "no requirements", filter: &filter.Labels{}, endpoints: labelled, want: []string{"a", "b", "c"}},
		{name: "in", filter: selector(filter.In, "tin", "lead"), endpoints: labelled, want: []string{"b"}},
		{name: "not in", filter: selector(filter.NotIn, "tin", "lead"), endpoints: labelled, want: []string{"a", "c"}},
		{name: "exists", filter: selector(filter.Exists), endpoints: labelled, want: []string{"a", "b"}},
		{name: "does not exist", filter: selector(filter.DoesNotExist), endpoints: labelled, want: []string{"c"}},
		{name: "header", filter: &filter.HeaderLabel{Header: "X-Tier", Label: "tier"}, endpoints: labelled, request: header("tin"), want: []string{"b"}},
		{name: "header that nobody has", filter: &filter.HeaderLabel{Header: "X-Tier", Label: "tier"}, endpoints: labelled, request: header("lead"), want: []string{}},
		{name: "header that is only preferred", filter: &filter.HeaderLabel{Header: "X-Tier", Label: "tier", Prefer: true}, endpoints: labelled, request: header("lead"), want: []string{"a", "b", "c"}},
		{name: "empty header", filter: &filter.HeaderLabel{Header: "X-Tier", Label: "tier"}, endpoints: labelled, request: header(""), want: []string{"a", "b", "c"}},
		{name: "no headers", filter: &filter.HeaderLabel{Header: "X-Tier", Label: "tier"}, endpoints: labelled, want: []string{"a", "b", "c"}},

		{name: "less", filter: limit(scheduling.Waiting, filter.LessThan, 2), states: queues, want: []string{"a", "c"}},
		{name: "less and known", filter: strict, states: queues, want: []string{"a"}},
		{name: "less or equal", filter: limit(scheduling.Waiting, filter.LessThanOrEqual, 1), states: queues, want: []string{"a", "c"}},
		{name: "greater", filter: limit(scheduling.Waiting, filter.GreaterThan, 1), states: queues, want: []string{"b", "c"}},
		{name: "greater or equal", filter: limit(scheduling.Waiting, filter.GreaterThanOrEqual, 3), states: queues, want: []string{"c"}},
		{name: "equal", filter: limit(scheduling.Waiting, filter.Equal, 2), states: queues, want: []string{"b", "c"}},
		{name: "not equal", filter: limit(scheduling.Waiting, filter.NotEqual, 2), states: queues, want: []string{"a", "c"}},
		{name: "all conditions", states: queues, inFlight: map[string]int{"a": 3}, want: []string{"b"}, filter: filter.Limits{Conditions: []filter.Condition{
			{Metric: scheduling.InFlightRequests, Operator: filter.LessThan, Value: 3}, {Metric: scheduling.Waiting, Operator: filter.GreaterThan, Value: 0},
		}, RemoveUnknown: true}},
		{name: "tokens to prefill", filter: limit(scheduling.InFlightPrefillTokens, filter.LessThan, 300), inFlight: map[string]int{"a": 3, "b": 2}, want: []string{"b", "c"}},
		{name: "nobody meets it", filter: limit(scheduling.InFlightRequests, filter.GreaterThan, 7), want: []string{}},
		{name: "nobody meets it, so all do", filter: fallback, want: []string{"a", "b", "c"}},

		{name: "sticky", filter: filter.PrefixAffinity{}, cached: has{"a": 800, "b": 799}, want: []string{"a"}},
		{name: "none sticky", filter: filter.PrefixAffinity{Threshold: .9}, cached: has{"a": 800}, want: []string{"a", "b", "c"}},
		{name: "all sticky", filter: filter.PrefixAffinity{Threshold: .1}, cached: has{"a": 800, "b": 100, "c": 999}, want: []string{"a", "b", "c"}},
		{name: "nobody looked", filter: filter.PrefixAffinity{}, want: []string{"a", "b", "c"}},
		// The best sticky one has 200 tokens before it, the best other one none: 2 s at 100 tokens a second.
		{name: "a penalty that is allowed", filter: filter.PrefixAffinity{TokensPerSecond: 100, MaxPenaltyMs: 2000}, cached: has{"a": 900, "b": 900}, inFlight: map[string]int{"a": 2, "b": 3}, want: []string{"a", "b"}},
		{name: "one that is not", filter: filter.PrefixAffinity{TokensPerSecond: 100, MaxPenaltyMs: 1999}, cached: has{"a": 900, "b": 900}, inFlight: map[string]int{"a": 2, "b": 3}, want: []string{"a", "b", "c"}},
		{name: "any is", filter: filter.PrefixAffinity{TokensPerSecond: 100, MaxPenaltyMs: -1}, cached: has{"a": 900}, inFlight: map[string]int{"a": 200}, want: []string{"a"}},
		{name: "always explore", filter: filter.PrefixAffinity{Explore: 1}, cached: has{"a": 900}, want: []string{"a", "b", "c"}},

		{name: "cache aware: the match", filter: filter.CacheAware{}, cached: has{"a": 301, "b": 300}, inFlight: map[string]int{"a": 30}, want: []string{"a"}},
		{name: "cache aware: no more than the threshold", filter: filter.CacheAware{}, cached: has{"a": 300}, inFlight: map[string]int{"a": 2, "b": 1, "c": 1}, want: []string{"b", "c"}},
		{name: "cache aware: imbalanced", filter: filter.CacheAware{BalanceAbs: 4}, cached: has{"a": 900}, inFlight: map[string]int{"a": 6, "b": 1, "c": 1}, want: []string{"b", "c"}},
		{name: "cache aware: not by the other measure", filter: filter.CacheAware{BalanceAbs: 4, BalanceRel: 10}, cached: has{"a": 900}, inFlight: map[string]int{"a": 6, "b": 1, "c": 1}, want: []string{"a"}},
		{name: "cache aware: nobody looked", filter: filter.CacheAware{}, inFlight: map[string]int{"a": 2}, want: []string{"b", "c"}},

		// The mean is 3, the deviation √(8/3) = 1.63: five are too many.
		{name: "balanced prefix: within a deviation", filter: filter.BalancedPrefix{}, cached: has{"a": 900, "b": 500, "c": 400}, inFlight: map[string]int{"a": 5, "b": 3, "c": 1}, want: []string{"b"}},
		{name: "balanced prefix: within two", filter: filter.BalancedPrefix{Deviations: 2}, cached: has{"a": 900, "b": 500}, inFlight: map[string]int{"a": 5, "b": 3, "c": 1}, want: []string{"a"}},
		{name: "balanced prefix: of equal matches the fewest requests", filter: filter.BalancedPrefix{}, cached: has{"b": 500, "c": 500}, inFlight: map[string]int{"a": 5, "b": 3, "c": 1}, want: []string{"c"}},
		{name: "balanced prefix: imbalanced", filter: filter.BalancedPrefix{MaxImbalance: 3}, cached: has{"b": 500}, inFlight: map[string]int{"a": 5, "b": 3, "c": 1}, want: []string{"c"}},
		{name: "balanced prefix: no match", filter: filter.BalancedPrefix{}, cached: has{}, inFlight: map[string]int{"a": 2, "b": 1, "c": 1}, want: []string{"b", "c"}},
		{name: "balanced prefix: the only match is too busy", filter: filter.BalancedPrefix{}, cached: has{"a": 900}, inFlight: map[string]int{"a": 5, "b": 3, "c": 1}, want: []string{"c"}},

		{name: "longest prefix", filter: filter.LongestPrefix{}, cached: has{"a": 100, "c": 100}, inFlight: map[string]int{"a": 50}, want: []string{"a", "c"}},
		{name: "longest prefix: none", filter: filter.LongestPrefix{}, cached: has{}, want: []string{"a", "b", "c"}},
		{name: "longest prefix: too short", filter: filter.LongestPrefix{MinTokens: 101}, cached: has{"a": 100}, want: []string{"a", "b", "c"}},

		{name: "pinned", filter: filter.Pinned{}, request: scheduling.Request{Pinned: "b"}, want: []string{"b"}},
		{name: "pinned to one that left", filter: filter.Pinned{}, request: scheduling.Request{Pinned: "x"}, want: []string{"a", "b", "c"}},
		{name: "same zone", filter: &filter.Topology{Min: scheduling.SameZone}, endpoints: zones, request: scheduling.Request{Peer: &zones[1]}, want: []string{"b"}},
		{name: "same region", filter: &filter.Topology{Min: scheduling.SameRegion}, endpoints: zones, request: scheduling.Request{Peer: &zones[1]}, want: []string{"a", "b"}},
		{name: "nobody is that close", filter: &filter.Topology{}, endpoints: zones, request: scheduling.Request{Peer: &zones[1]}, want: []string{"a", "b", "c"}},
		{name: "no peer", filter: &filter.Topology{Min: scheduling.SameZone}, endpoints: zones, want: []string{"a", "b", "c"}},

		{name: "images", filter: &filter.Modality{Label: "in"}, endpoints: inputs, request: scheduling.Request{Modality: scheduling.Image}, want: []string{"a", "b", "d"}},
		{name: "images and films", filter: &filter.Modality{Label: "in"}, endpoints: inputs, request: scheduling.Request{Modality: scheduling.Image | scheduling.Video}, want: []string{"b", "d"}},
		{name: "text alone", filter: &filter.Modality{Label: "in"}, endpoints: inputs, want: []string{"a", "b", "c", "d"}},

		{name: "the peer's revision", filter: &filter.Rollout{Label: "tier"}, endpoints: labelled, request: scheduling.Request{Peer: &labelled[1]}, want: []string{"b"}},
		{name: "the peer's revision is gone", filter: &filter.Rollout{Label: "tier"}, endpoints: labelled, request: scheduling.Request{Peer: &scheduling.Endpoint{Labels: labels{"tier": "zinc"}}}, want: []string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.endpoints == nil {
				row.endpoints = plain
			}
			pool := newPool(t, append([]scheduling.Endpoint(nil), row.endpoints...)...)
			require.NoError(t, pool.Report(row.states...))
			for id, n := range row.inFlight {
				s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{only(id)}}})
				require.NoError(t, err)
				for range n {
					_, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}})
					require.NoError(t, err)
				}
			}
			profile := scheduling.Profile{Filters: []scheduling.Filter{row.filter}}
			if row.cached != nil {
				profile.Producers = []scheduling.Producer{row.cached}
			}
			row.request.Prompt.Tokens = make([]uint32, 1000)
			require.ElementsMatch(t, row.want, kept(t, pool, profile, row.request))
		})
	}
}

// A label filter sees labels that change.
func TestLabelsFollowThePool(t *testing.T) {
	pool := newPool(t, scheduling.Endpoint{ID: "a"}, scheduling.Endpoint{ID: "b"})
	profile := scheduling.Profile{Filters: []scheduling.Filter{&filter.Labels{Match: map[string]string{"v": "2"}}}}
	require.Empty(t, kept(t, pool, profile, scheduling.Request{}))
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "b", Address: "10.0.0.2:80", Labels: map[string]string{"v": "2"}}))
	require.Equal(t, []string{"b"}, kept(t, pool, profile, scheduling.Request{}))
	other := newPool(t, scheduling.Endpoint{ID: "c", Labels: map[string]string{"v": "2"}}, scheduling.Endpoint{ID: "d"})
	require.Equal(t, []string{"c"}, kept(t, other, profile, scheduling.Request{}), "one filter may serve two pools")
	require.Equal(t, []string{"b"}, kept(t, pool, profile, scheduling.Request{}))
}

func TestRolloutDrawsByWeight(t *testing.T) {
	// v1 has one prefill and six decode endpoints, v2 three and two, v3 four that decode.
	var list []scheduling.Endpoint
	add := func(revision string, role scheduling.Role, n int) {
		for range n {
			list = append(list, scheduling.Endpoint{ID: fmt.Sprint(len(list)), Role: role, Labels: map[string]string{"rev": revision}})
		}
	}
	add("1", scheduling.Prefill, 1)
	add("1", scheduling.Decode, 6)
	add("2", scheduling.Prefill, 3)
	add("2", scheduling.Decode, 2)
	add("3", scheduling.Decode, 4)
	pool := newPool(t, list...)
	both := []scheduling.Role{scheduling.Prefill, scheduling.Decode}
	for _, row := range []struct {
		name   string
		filter *filter.Rollout
		want   map[string]float64 // probability
	}{
		{"most decode", &filter.Rollout{Label: "rev"}, map[string]float64{"1": 6. / 12, "2": 2. / 12, "3": 4. / 12}},
		{"all count", &filter.Rollout{Label: "rev", Weight: filter.Sum}, map[string]float64{"1": 7. / 16, "2": 5. / 16, "3": 4. / 16}},
		{"v3 cannot prefill", &filter.Rollout{Label: "rev", Require: both}, map[string]float64{"1": 6. / 8, "2": 2. / 8}},
		{"nobody can encode", &filter.Rollout{Label: "rev", Weight: filter.Sum, Require: []scheduling.Role{scheduling.Encode}}, map[string]float64{"1": 7. / 16, "2": 5. / 16, "3": 4. / 16}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{Filters: []scheduling.Filter{row.filter}}})
			require.NoError(t, err)
			const n = 4000
			got := map[string]int{}
			for range n {
				d, err := s.Pick(context.Background(), &scheduling.Request{})
				require.NoError(t, err)
				revision := d.Endpoint.Labels["rev"]
				got[revision]++
				for _, e := range d.Fallbacks() {
					require.Equal(t, revision, e.Labels["rev"])
				}
				d.Done()
			}
			require.Len(t, got, len(row.want))
			for revision, p := range row.want {
				require.InDelta(t, p*n, got[revision], .03*n, "%s of %v", revision, got)
			}
		})
	}
}

// Adapters stay on few endpoints while these can take the load, and the homes of many adapters are spread.
func TestAdapterSpread(t *testing.T) {
	var list []scheduling.Endpoint
	var adapters []string
	for i := range 40 {
		adapters = append(adapters, fmt.Sprint("lora-", i))
	}
	for i := range 8 {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Model: "m", Adapters: adapters})
	}
	pool := newPool(t, list...)
	homes := func(adapter string) []string {
		return kept(t, pool, scheduling.Profile{Filters: []scheduling.Filter{filter.AdapterSpread{Replicas: 3}}}, scheduling.Request{Model: "m", Adapter: adapter})
	}
	used := map[string]int{}
	for _, a := range adapters {
		require.Len(t, homes(a), 3)
		require.ElementsMatch(t, homes(a), homes(a))
		for _, id := range homes(a) {
			used[id]++
		}
	}
	require.Len(t, used, 8)
	require.Len(t, homes(""), 8, "no adapter")

	first := homes("lora-0")
	elsewhere := ""
	for _, e := range list {
		if !slices.Contains(first, e.ID) {
			elsewhere = e.ID
		}
	}
	require.NoError(t, pool.Report(scheduling.State{Endpoint: elsewhere, Adapters: &scheduling.AdapterState{Active: []string{"lora-0"}, Max: 1}}))
	require.ElementsMatch(t, append([]string{elsewhere}, first...), homes("lora-0"), "where it runs already it may stay")

	// 12 requests are more than 8 + 1.25·12/8 = 9.875.
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{only(first[0])}}})
	require.NoError(t, err)
	for range 12 {
		_, err := s.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
	}
	now := homes("lora-0")
	require.NotContains(t, now, first[0], "overloaded")
	require.Len(t, now, 4, "another took its place")
}
