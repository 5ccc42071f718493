package config_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// samples are entries of every type that needs parameters, and of some with others than the standard ones.
var samples = map[string][]string{
	"filter context-length": {"{type: context-length, label: range}"},
	"filter header-label":   {"{type: header-label, headerName: x, labelKey: tier}", "{type: header-label, headerName: x, labelKey: tier, prefer: true}"},
	"filter labels":         {"labels", "{type: labels, matchLabels: {tier: gold}}"},
	"filter limits":         {"{type: limits, conditions: [{metric: waiting, operator: LessThan, value: 3}]}", "{type: limits, removeUnknown: true, fallbackOnEmpty: true, conditions: [{metric: kv_usage, operator: NotEqual, value: 0}]}"},
	"filter modality":       {"{type: modality, label: in}"},
	"filter role":           {"{type: role, phase: decode}", "{type: role, phase: prefill, explicit: true}"},
	"filter rollout":        {"{type: rollout, labelKey: tier}", "{type: rollout, labelKey: tier, weight: sum, requireRoles: [prefill, decode]}"},
	"filter topology":       {"topology", "{type: topology, minAffinity: zone}"},
	"scorer context-length": {"{type: context-length, label: range}"},
	"scorer cost": {"{type: cost, terms: [{type: each, metric: custom(0), cost: 2}, {type: prefill-time, tokensPerSecond: {label: range}}, " +
		"{type: transfer-time, bytesPerToken: 1000, bytesPerSecond: {anywhere: 1e9}}, {type: adapter-time, loadSeconds: 2, evictSeconds: 1}]}"},
	"scorer header-label":  {"{type: header-label, headerName: x, labelKey: tier}"},
	"scorer linear":        {"{type: linear, metric: waiting}", "{type: linear, metric: custom(0), higherIsBetter: true, min: -1, max: 1}"},
	"scorer session":       {"session", "{type: session, bound: 1.25}"},
	"scorer ring":          {"{type: ring, points: 8, bound: 1.25}"},
	"scorer weighted-load": {"{type: weighted-load, metric: running, capacity: {label: range}}"},
	"picker softmax":       {"softmax", "{type: softmax, temperature: 0.5}"},
	"condition uncached":   {"{type: uncached, nonCachedTokens: 100, promptTokens: 10}"},
}

func entries[T any](kind string, types map[string]func() T) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if s, ok := samples[kind+" "+name]; ok {
			list = append(list, s...)
		} else {
			list = append(list, name)
		}
	}
	return list
}

// last remembers which slots came through the filters.
type last struct{ slots []scheduling.Slot }

func (l *last) Filter(_ *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	l.slots = slices.Clone(slots)
	return slots
}

// Whatever engines report, endpoints say of themselves and profiles are made of: no panic, no endpoint that a filter removed, none
// only if none is left, and nothing stays on the ledger.
func TestEveryTypeUnderBadInput(t *testing.T) {
	types := config.BuiltIn()
	filters, scorers, pickers := entries("filter", types.Filters), entries("scorer", types.Scorers), entries("picker", types.Pickers)
	conditions := entries("condition", types.Conditions)
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 1 << 20, MaxEndpoints: 64}}
	for _, f := range filters { // each of them is in some round: that this test knows all is not left to chance
		_, err := loader.Load([]byte("profile: {filters: [" + f + "]}"))
		require.NoError(t, err, f)
	}
	for _, s := range scorers {
		_, err := loader.Load([]byte("profile: {scorers: [" + s + "]}"))
		require.NoError(t, err, s)
	}
	odd := rapid.SampledFrom([]float64{0, 1, .5, 3, 1e300, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64})
	rapid.Check(t, func(t *rapid.T) {
		profile := func(name string) string {
			return fmt.Sprintf("{producers: [prefix, media, source], filters: [%s], scorers: [%s], picker: %s}",
				strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(filters), 0, 2, typeOf).Draw(t, name+" filters"), ", "),
				strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(scorers), 0, 3, typeOf).Draw(t, name+" scorers"), ", "),
				rapid.SampledFrom(pickers).Draw(t, name+" picker"))
		}
		text := "profile: " + profile("")
		if rapid.Bool().Draw(t, "staged") {
			text = fmt.Sprintf("stages: [{name: a, profile: %s}, {name: b, after: [a], optional: true, when: %s, takes: prefill, profile: %s}]",
				profile("a"), rapid.SampledFrom(conditions).Draw(t, "when"), profile("b"))
		}
		plan, err := loader.Load([]byte(text))
		if err != nil && strings.Contains(err.Error(), "has other parameters") {
			t.Skip("two of a name in two stages")
		}
		require.NoError(t, err, text)
		seen := &last{}
		primary := &plan.Options.Profile
		if len(plan.Options.Stages) > 0 {
			primary = &plan.Options.Stages[0].Profile
		}
		primary.Filters = append(primary.Filters, seen)

		list := make([]scheduling.Endpoint, rapid.IntRange(1, 6).Draw(t, "endpoints"))
		for i := range list {
			list[i] = scheduling.Endpoint{
				ID: fmt.Sprint(i), Rank: i, Address: rapid.SampledFrom([]string{"10.0.0.1:80", "10.0.0.2:80"}).Draw(t, "address"), // shared
				Role: scheduling.Role(rapid.IntRange(0, 7).Draw(t, "role")), Model: rapid.SampledFrom([]string{"", "m"}).Draw(t, "model"), Adapters: []string{"a"},
				BlockTokens: rapid.SampledFrom([]int{0, 1, 16, 4096}).Draw(t, "block"), CacheBlocks: rapid.SampledFrom([]int{0, 1, 100}).Draw(t, "blocks"),
				Labels: map[string]string{
					"tier": rapid.SampledFrom([]string{"gold", "tin", ""}).Draw(t, "tier"), "in": rapid.SampledFrom([]string{"text", "image,,video", "¤"}).Draw(t, "in"),
					"range":                  rapid.SampledFrom([]string{"0-100", "9-3", "-", "1e400", "NaN", "-5", "Inf"}).Draw(t, "range"),
					"kubernetes.io/hostname": rapid.SampledFrom([]string{"", "h"}).Draw(t, "host"),
				},
			}
		}
		now := time.Unix(1000, 0)
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
		require.NoError(t, err)
		s, err := scheduling.New(pool, plan.Options)
		require.NoError(t, err)
		var held []scheduling.Decision
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			var states []scheduling.State
			for range rapid.IntRange(0, 4).Draw(t, "states") { // some twice, some of nobody
				states = append(states, scheduling.State{
					Endpoint: fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "whose")),
					At:       rapid.SampledFrom([]time.Time{{}, now, now.Add(-time.Hour), now.Add(time.Hour), time.Unix(-1, 0)}).Draw(t, "when"),
					Values: []scheduling.Value{
						{Metric: scheduling.Waiting, Value: odd.Draw(t, "waiting")}, {Metric: scheduling.Waiting, Value: odd.Draw(t, "again")},
						{Metric: scheduling.KVUsage, Value: odd.Draw(t, "kv")}, {Metric: scheduling.Running, Value: odd.Draw(t, "running")},
						{Metric: scheduling.Custom(0), Value: odd.Draw(t, "custom")}, {Metric: 200, Value: 1},
					},
					Adapters: rapid.SampledFrom([]*scheduling.AdapterState{nil, {}, {Active: []string{"a", "a", ""}, Waiting: []string{"a"}, Max: -1}}).Draw(t, "adapters"),
				})
			}
			_ = pool.Report(states...) // of endpoints that it does not know it says so
			if rapid.Bool().Draw(t, "flap") {
				e := list[rapid.IntRange(0, len(list)-1).Draw(t, "who")]
				pool.Remove(e.ID)
				if len(list) > 1 || rapid.Bool().Draw(t, "back") {
					require.NoError(t, pool.Upsert(e))
				}
			}
			request := &scheduling.Request{
				Model: "m", Adapter: rapid.SampledFrom([]string{"", "a"}).Draw(t, "adapter"), Modality: scheduling.Modality(rapid.IntRange(0, 9).Draw(t, "modality")),
				Session: rapid.SampledFrom([]string{"", "s"}).Draw(t, "session"), Pinned: rapid.SampledFrom([]string{"", "0", "nobody"}).Draw(t, "pinned"),
				Tenant: rapid.SampledFrom([]string{"", "t"}).Draw(t, "tenant"), Media: []scheduling.Media{{Hash: 1, Size: -5}, {Hash: 1, Size: math.MaxInt32}},
				Prompt: scheduling.Prompt{Text: make([]byte, rapid.SampledFrom([]int{0, 1, 5000}).Draw(t, "prompt"))},
			}
			if rapid.Bool().Draw(t, "peer") {
				request.Peer = &scheduling.Endpoint{ID: "elsewhere"}
			}
			if rapid.Bool().Draw(t, "header") {
				request.Header = func(string) string { return "tin" }
			}
			seen.slots = nil
			d, err := s.Pick(context.Background(), request)
			if err != nil {
				require.Empty(t, seen.slots, "none, although some were left: %v", err)
				continue
			}
			require.Contains(t, seen.slots, d.Slot())
			require.True(t, d.Score >= 0 && d.Score <= 1, d.Score)
			require.NotNil(t, pool.Snapshot().Endpoint(d.Slot()))
			if rapid.Bool().Draw(t, "next") {
				d.Next()
			}
			held = append(held, d)
			now = now.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "ms")) * time.Millisecond)
		}
		for i := range held {
			held[i].Done()
		}
		require.Zero(t, pool.Total())
	})
}

// typeOf is the type in an entry: a list holds each once.
func typeOf(entry string) string {
	if _, rest, ok := strings.Cut(entry, "type: "); ok {
		entry = rest
	}
	name, _, _ := strings.Cut(entry, ",")
	return strings.TrimSuffix(name, "}")
}

func TestTenThousandEndpoints(t *testing.T) {
	const n = 10_000
	list := make([]scheduling.Endpoint, n)
	states := make([]scheduling.State, n)
	for i := range list {
		list[i] = scheduling.Endpoint{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255), Model: "m"}
		states[i] = scheduling.State{Endpoint: list[i].ID, Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: float64((i + 1) % n)}}}
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, MaxEndpoints: n})
	require.NoError(t, err)
	require.NoError(t, pool.Report(states...))
	index, err := prefix.New(prefix.Options{MaxEndpoints: n})
	require.NoError(t, err)
	s, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	require.NoError(t, err)
	request := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 64_000)}}
	d, err := s.Pick(context.Background(), request)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(n-1), d.Endpoint.ID, "the one with nothing waiting")
	again, err := s.Pick(context.Background(), request)
	require.NoError(t, err)
	require.Equal(t, d.Endpoint, again.Endpoint, "and now with the prompt")
	d.Done()
	again.Done()
	require.Zero(t, pool.Total())
	require.ErrorContains(t, pool.Upsert(scheduling.Endpoint{Address: "10.9.9.9:1"}), "10001 endpoints: more than the pool's maximum of 10000")
}
