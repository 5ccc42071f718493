package config_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

const header = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"

func load(t testing.TB, text string) *config.Plan {
	t.Helper()
	plan, err := (&config.Loader{Index: prefix.Options{MaxBytes: 4 << 20}}).Load([]byte(text))
	require.NoError(t, err)
	return plan
}

func TestOwnForm(t *testing.T) {
	plan := load(t, `
maxMetricAge: 2s
seed: 7
stages:
  - name: decode
    profile:
      producers: [prefix]
      filters:
        - {type: role, phase: decode}
        - type: labels
          matchExpressions: [{key: tier, operator: In, values: [gold]}]
        - {type: rollout, labelKey: revision, weight: sum, requireRoles: [prefill-decode, both]}
        - {type: limits, conditions: [{metric: kv_usage, operator: LessThan, value: 0.9}, {metric: custom(0), operator: Equal, value: 3}]}
      scorers:
        - {type: prefix, weight: 3, matchLengthWeight: 0.5}
        - queue
        - {type: linear, name: running, metric: running, weight: 0.5}
        - {type: cost, halfAt: 2, terms: [{type: each, metric: waiting, cost: 0.05}, {type: prefill-time, tokensPerSecond: {label: rate, standard: 9000}}]}
        - {type: topology, labels: {zoneLabel: z}}
      picker: {type: softmax, temperature: 0.25}
  - name: prefill
    after: [decode]
    takes: prefill
    optional: true
    when: {type: uncached, nonCachedTokens: 512}
    profile:
      producers: [prefix]
      filters: [{type: topology, minAffinity: rack}]
`)
	require.Equal(t, 2*time.Second, plan.Options.MaxMetricAge)
	require.EqualValues(t, 7, plan.Options.Seed)
	decode, prefill := plan.Options.Stages[0], plan.Options.Stages[1]
	require.Equal(t, &filter.Role{Phase: scheduling.Decode}, decode.Profile.Filters[0])
	require.Equal(t, []filter.Requirement{{Key: "tier", Operator: filter.In, Values: []string{"gold"}}}, decode.Profile.Filters[1].(*filter.Labels).Expressions)
	require.Equal(t, filter.Sum, decode.Profile.Filters[2].(*filter.Rollout).Weight)
	require.Equal(t, []scheduling.Role{scheduling.Prefill | scheduling.Decode, scheduling.Prefill | scheduling.Decode}, decode.Profile.Filters[2].(*filter.Rollout).Require)
	require.Equal(t, scheduling.Custom(0), decode.Profile.Filters[3].(*filter.Limits).Conditions[1].Metric)
	require.Equal(t, scheduling.Weighted{Scorer: &scorer.Prefix{LengthWeight: .5}, Weight: 3}, decode.Profile.Scorers[0])
	require.Equal(t, scheduling.Weighted{Scorer: &scorer.Queue{}}, decode.Profile.Scorers[1])
	require.Equal(t, scheduling.Weighted{Scorer: &scorer.Linear{Metric: scheduling.Running}, Weight: .5}, decode.Profile.Scorers[2])
	cost := decode.Profile.Scorers[3].Scorer.(*scorer.Cost)
	require.Equal(t, &scorer.Each{Metric: scheduling.Waiting, Cost: .05}, cost.Terms[0])
	require.InDelta(t, 9000, cost.Terms[1].(*scorer.PrefillTime).TokensPerSecond.Standard, 0)
	require.Equal(t, "z", decode.Profile.Scorers[4].Scorer.(*scorer.Topology).Labels.Zone)
	require.Equal(t, &picker.Softmax{Temperature: .25}, decode.Profile.Picker)
	require.Equal(t, scheduling.Stage{
		Name: "prefill", After: []string{"decode"}, Takes: scheduling.Prefill, Optional: true, When: &condition.Uncached{Tokens: 512}, Profile: prefill.Profile,
	}, prefill)
	require.Same(t, decode.Profile.Producers[0], prefill.Profile.Producers[0], "an entry that says the same is the same plugin")
	require.Same(t, decode.Profile.Scorers[2].Scorer, plan.Plugin("running"))
	require.Nil(t, plan.Plugin("nobody"))
}

// keepNamed is a plugin of a program's own.
type keepNamed struct {
	ID   string         `json:"id"`
	More map[string]any `json:"more"`
}

func (k *keepNamed) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return only(k.ID).Filter(c, slots)
}

func TestOwnTypes(t *testing.T) {
	loader := &config.Loader{Types: config.Types{
		Filters: map[string]func() scheduling.Filter{"named": func() scheduling.Filter { return new(keepNamed) }, "e1": func() scheduling.Filter { return only("e1") }},
	}}
	for _, text := range []string{
		"profile: {filters: [{type: named, id: e2, more: {a: [1, {b: true}], c: x}}, e1]}",
		header + "plugins: [{type: named, parameters: {id: e2, more: {a: [1, {b: true}], c: x}}}, {type: e1}]",
		header + "plugins: [{type: named, name: x, parameters: {id: e2, more: {a: [1, {b: true}], c: x}}}, {type: e1}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: x}, {pluginRef: e1}]}]",
	} {
		plan, err := loader.Load([]byte(text))
		require.NoError(t, err)
		require.Equal(t, []scheduling.Filter{&keepNamed{"e2", map[string]any{"a": []any{1.0, map[string]any{"b": true}}, "c": "x"}}, only("e1")}, plan.Options.Profile.Filters)
	}
	_, err := loader.Load([]byte("profile: {filters: [{type: e1, id: x}]}"))
	require.ErrorContains(t, err, `profile.filters[0]: filter "e1" takes no parameters`)
	require.NotContains(t, config.BuiltIn().Filters, "named", "no type is registered for others")
}

// Every problem has its path and its line, and all come at once.
func TestProblems(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"empty"}},
		{"nothing but a comment", "# nothing", []string{"empty"}},
		{"not YAML", "a: [", []string{"line 1"}},
		{"a list", "[1]", []string{"line 1: want fields"}},
		{"two documents, one broken", "profile: {}\n---\n[", []string{"a second document"}},
		{"type twice", "profile: {filters: [{type: overload, type: role}]}", []string{"line 1: profile.filters[0].type: given twice"}},
		{"a plugin that is none of scheduling's", header + "plugins: [{type: token-producer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: token-producer}]}]", []string{`"token-producer" is no filter, scorer or picker`}},
		{"two documents", "profile: {}\n---\nprofile: {}", []string{"line 2: a second document"}},
		{"too large", strings.Repeat("#", 1<<20+1), []string{"1048577 bytes"}},
		{"too deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), []string{"want fields"}},
		{"deep parameters", "profile: {picker: {type: random, x: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}}", []string{"profile.picker.x: unknown field"}},
		{"a bomb", "a: &a [x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\nkind: EndpointPickerConfig\nplugins: [{type: precise-prefix-cache-producer, parameters: {indexerConfig: [*d, *d, *d, *d, *d, *d]}}]", []string{"plugins[0].parameters", "more than 65536 values or 64 levels"}},
		{"an alias of itself", "kind: EndpointPickerConfig\nplugins: [{type: precise-prefix-cache-producer, parameters: {indexerConfig: &a [*a]}}]", []string{"more than 65536 values or 64 levels"}},
		{"own form", `
profle: {}
maxMetricAge: soon
profile:
  producers: prefix
  filters:
    - overlord
    - {type: overload, slack: much, factr: 2, factor: 1.5, factor: 2}
    - {slack: 1}
    - 5
    - [overload]
    - {type: overload, slack: 3}
    - {type: overload, slack: 4}
    - {type: role, phase: dekode}
  scorers:
    - {type: queue, weight: heavy}
    - {type: running, weight: 0}
    - {type: cost, terms: [{type: each, metric: wating}, warp]}
  picker: {type: max-score, temperature: 1}
stages: {name: a}
`, []string{
			"line 2: profle: unknown field: want one of preset, profile, stages, maxMetricAge, seed",
			"line 3: maxMetricAge: want a duration, like 5s",
			"line 5: profile.producers: want a list",
			`line 7: profile.filters[0]: filter "overlord" is unknown: want one of adapter-spread, balanced-prefix`,
			"line 8: profile.filters[1].slack: want a number",
			"line 8: profile.filters[1].factr: unknown field: want one of slack, factor",
			"line 8: profile.filters[1].factor: given twice",
			"line 9: profile.filters[2]: want the type of a filter",
			`line 10: profile.filters[3]: filter "5" is unknown`,
			"line 11: profile.filters[4]: want the type of a filter",
			`line 12: profile.filters[5]: another filter of the name "overload" has other parameters`,
			`line 13: profile.filters[6]: another filter`,
			`line 14: profile.filters[7].phase: role "dekode": want all, both`,
			"line 16: profile.scorers[0].weight: want a number",
			"line 17: profile.scorers[1].weight: 0: leave the scorer out",
			`line 18: profile.scorers[2].terms[0].metric: metric "wating" is unknown`,
			`line 18: profile.scorers[2].terms[1]: term "warp" is unknown: want one of adapter-time, each, prefill-time, transfer-time`,
			"line 19: profile.picker.temperature: unknown field: there are none here",
			"line 20: stages: want a list",
		}},
		{"a plan that makes no sense", `
stages:
  - {name: a, after: [b], optional: true}
  - {name: b, after: [a], profile: {filters: [{type: overload, slack: -1}]}}
`, []string{
			"stages[0].optional: the primary stage is not",
			"stages[1].profile.filters[0] (filter.Overload): slack -1",
			`stages: "a" after "b" after "a": each waits for the next`,
		}},
		{"profile and stages", "profile: {picker: random}\nstages: [{name: a}]", []string{"profile: not empty, though there are stages"}},
		{"unknown preset", "preset: best", []string{`line 1: preset: "best" is no preset: want one of default, disaggregated, llm-d`}},
		{"preset and profile", "preset: default\nprofile: {}", []string{"line 2: profile: a preset has its own"}},
		{"merge key", "x: &x {picker: random}\nprofile:\n  <<: *x", []string{"line 1: x: unknown field", "line 3: profile: want a plain name for a field"}},
		{"no picker config", "kind: Deployment\napiVersion: apps/v1", []string{`line 2: apiVersion: "apps/v1": want llm-d.ai/v1alpha1`, `line 1: kind: "Deployment": want EndpointPickerConfig`}},
		{"llm-d", header + `featureGates: [flowContrl, flowControl=maybe, 5]
plugins:
- type: queue-scorer
- {type: queue-scorer}
- {name: x}
- {type: kv-scorer}
- {type: decode-filter, parameters: {label: x}}
- type: prefix-cache-affinity-filter
  parameters: {affinityThreshold: 1.5, ttftSource: latencyPredictor}
- {type: by-label}
- {type: latency-scorer}
- {type: endpoint-attribute-scorer, parameters: {attributeKey: Heat, algorithm: {type: square}}}
- {type: random-picker, parameters: {maxNumOfEndpoints: 9}}
- {type: max-score-picker}
- {type: prefix-based-pd-decider, parameters: {nonCachedTokens: -1}}
- {type: utilization-detector}
- {type: inflight-load-producer, parameters: {addEstimatedOutputTokens: true}}
- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: nobody}}
- {type: session-affinity-filter, parameters: {strategy: cookie, sessionIdConfig: {sources: [{attribute: agent}]}}}
- {type: load-aware-scorer, parameters: {threshold: -1}}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: -1}
  - {pluginRef: prefix-based-pd-decider}
  - {pluginRef: x}
  - {pluginRef: random-picker}
  - {pluginRef: max-score-picker}
  - {weight: 1}
  - {pluginRef: prefix-cache-scorer, weigth: 2}
dataLayer: {sources: [{pluginRef: nowhere, extractors: [{pluginRef: nobody}]}], discovery: {pluginRef: file}}
flowControl: {maxBytes: 1Gi}
saturationDetector: {pluginRef: y}
requestHandler: {parsers: [{pluginRef: openai}]}
parser: {}
controlFlow: {}
`, []string{
			`line 3: featureGates[0]: "flowContrl" is no feature gate`, `line 3: featureGates[1]: "maybe": want true or false`, "line 3: featureGates[2]: want text",
			`line 6: plugins[1]: the name "queue-scorer" is given twice`,
			"plugins[2].type: missing",
			`line 8: plugins[3].type: "kv-scorer" is unknown`,
			"line 9: plugins[4].parameters.label: unknown field: there are none here",
			"line 11: plugins[5].parameters: affinityThreshold 1.5: want a number from 0 to 1", `line 11: plugins[5].parameters.ttftSource: "latencyPredictor" is not supported`,
			`line 12: plugins[6].type: "by-label" is deprecated by llm-d and not supported: use label-selector-filter`,
			`line 13: plugins[7].type: "latency-scorer" is not supported: it needs predicted latencies`,
			`line 14: plugins[8].parameters.attributeKey: attribute "Heat" is unknown: say which metric it is in Loader.Attributes`,
			`line 14: plugins[8].parameters.algorithm.type: "square"`, "line 14: plugins[8].parameters.algorithm.normalization: want either",
			"line 15: plugins[9].parameters.maxNumOfEndpoints: 9: want 1 to 4",
			"line 17: plugins[11].parameters: nonCachedTokens -1: negative",
			`line 18: plugins[12].type: "utilization-detector" belongs to flowControl, which scheduling does not handle`,
			"line 19: plugins[13].parameters.addEstimatedOutputTokens: true",
			`line 21: plugins[15].parameters.strategy: "cookie": want encoded`, "line 21: plugins[15].parameters.sessionIdConfig.sources: [0]: want a header",
			"line 22: plugins[16].parameters.threshold: -1",
			"line 26: schedulingProfiles[0].plugins[0].weight: -1: want a number of at least 0",
			`line 27: schedulingProfiles[0].plugins[1].pluginRef: "prefix-based-pd-decider" is no filter, scorer or picker`,
			`line 28: schedulingProfiles[0].plugins[2].pluginRef: "x" names no plugin`,
			`line 30: schedulingProfiles[0].plugins[4].pluginRef: "max-score-picker": the profile has a picker already`,
			"schedulingProfiles[0].plugins[5].pluginRef: missing",
			"line 32: schedulingProfiles[0].plugins[6].weigth: unknown field: want one of pluginRef, weight",
			`profile "default": "nobody" is no prefix producer`,
			`line 33: dataLayer.sources[0].pluginRef: "nowhere" names no plugin`, `line 33: dataLayer.sources[0].extractors[0].pluginRef: "nobody" names no plugin`,
			"line 33: dataLayer: not handled by scheduling",
			`line 34: flowControl: not handled by scheduling: give Loader.Sections["flowControl"], or take it out`,
			"line 35: saturationDetector: deprecated", `line 36: requestHandler.parsers[0].pluginRef: "openai" names no plugin`, "line 37: parser: deprecated",
			"line 38: controlFlow: unknown field",
		}},
		{"nothing in lists", header + "featureGates: [null]\nplugins: [null]\nschedulingProfiles: [null, {name: a, plugins: [null]}]", []string{"featureGates[0]: empty", "plugins[0].type: missing", "schedulingProfiles[0].name: missing", "schedulingProfiles[1].plugins[0].pluginRef: missing", "no profile handler"}},
		{"a weight that is none", header + "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: .nan}]}]", []string{"plugins[0].weight: NaN"}},
		{"gate alone", header + "featureGates: [flowControl]", []string{"featureGates: flowControl is not handled by scheduling"}},
		{"two handlers", header + "plugins: [{type: single-profile-handler}, {type: disagg-profile-handler}]", []string{`["single-profile-handler" "disagg-profile-handler"] are profile handlers: want one`}},
		{"no handler", header + "schedulingProfiles: [{name: a}, {name: b}]", []string{"no profile handler, though there are 2 profiles"}},
		{"profile names", header + "schedulingProfiles: [{name: a}, {name: a}, {}]", []string{`schedulingProfiles[1].name: "a" is given twice`, "schedulingProfiles[2].name: missing"}},
		{"single with two", header + "plugins: [{type: single-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]", []string{"schedulingProfiles: 2 of them: single-profile-handler takes one"}},
		{"disaggregation", header + "plugins: [{type: disagg-profile-handler, parameters: {stageOrder: prefill-first, deciders: {encode: x, prefill: y}}}]\nschedulingProfiles: [{name: decode}]",
			[]string{`no profile "encode"`, `no profile "prefill"`, `plugins[0].parameters.deciders.encode: "x" names no decider`, "deciders.prefill: not with stageOrder prefill-first"}},
		{"two matches", header + `plugins:
- {type: approx-prefix-cache-producer, name: a}
- {type: approx-prefix-cache-producer, name: b}
- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: a}}
- {type: prefix-cache-affinity-filter, parameters: {prefixMatchInfoProducerName: b}}`, []string{`the plugins of profile "default" go by different prefix producers: "a", "b"`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan, err := new(config.Loader).Load([]byte(row.text))
			require.Nil(t, plan)
			for _, want := range row.want {
				require.ErrorContains(t, err, want)
			}
			var problem *config.Problem
			require.ErrorAs(t, err, &problem)
			if len(row.want) > 2 {
				require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), len(row.want), "no others: %v", err)
			}
		})
	}
}

func TestLLMDDefaults(t *testing.T) {
	plan := load(t, header+"plugins: [{type: queue-scorer}, {type: prefix-cache-scorer}, {type: decode-filter}]")
	p := plan.Options.Profile
	require.Len(t, p.Filters, 1)
	require.Equal(t, []scheduling.Weighted{{Scorer: scorer.Linear{Metric: scheduling.Waiting}, Weight: 1}, {Scorer: scorer.Prefix{}, Weight: 1}}, p.Scorers, "a scorer counts 1")
	require.Equal(t, picker.MaxScore{}, p.Picker)
	producer := p.Producers[0].(*prefix.Producer)
	require.Equal(t, []int{16, 31250, 131072}, []int{producer.BlockTokens, producer.CacheBlocks, producer.MaxTokens}, "a producer that nobody named")
	require.False(t, producer.Fixed)

	plan = load(t, header+"plugins: [{type: queue-scorer}, {type: random-picker}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer, weight: 0}]}]")
	require.Equal(t, picker.Random{}, plan.Options.Profile.Picker, "a picker that is there")
	require.Empty(t, plan.Options.Profile.Scorers, "a weight of 0 counts for nothing")

	plan = load(t, strings.Replace(header, "llm-d.ai", "inference.networking.x-k8s.io", 1)+"featureGates: [flowControl=false, populate-non-leader-datastore]")
	require.Equal(t, picker.MaxScore{}, plan.Options.Profile.Picker)

	plan = load(t, header+"plugins: [{type: prefix-cache-affinity-filter, parameters: {maxTTFTPenaltyMs: 0}}, {type: active-request-scorer, parameters: {maxBusyScore: 0}}]")
	require.Negative(t, plan.Options.Profile.Filters[0].(filter.PrefixAffinity).MaxPenaltyMs, "0 means always")
	require.Positive(t, plan.Options.Profile.Scorers[0].Scorer.(scorer.ActiveRequests).MaxBusy)
	require.Less(t, plan.Options.Profile.Scorers[0].Scorer.(scorer.ActiveRequests).MaxBusy, 1e-300)

	plan = load(t, header+`plugins:
- {type: session-affinity-filter, parameters: {strategy: session_id, sessionIdConfig: {sources: [{header: a}, {header: b}], evictionTtlSeconds: 60}}}
- {type: session-affinity-scorer, parameters: {strategy: session_id}}`)
	require.Equal(t, &scorer.SessionBinding{TTLSeconds: 60, Headers: []string{"a", "b"}}, plan.Options.Profile.Filters[0])
	require.Equal(t, &scorer.SessionBinding{Headers: []string{"x-session-id"}}, plan.Options.Profile.Scorers[0].Scorer)

	plan = load(t, header+`plugins:
- {type: context-length-aware, parameters: {enableFiltering: true}}
- {type: context-length-aware, name: soft}
- {type: disaggregatedset-rollout-screener, parameters: {headerSelectors: [{name: r, headerName: x-disagg-revision, mode: prefer}], revisionGating: {mode: sum, requireRoles: {values: [prefill, decode]}}}}
- {type: p2p-source-producer, parameters: {minCachedTokenDelta: 64}}`)
	p = plan.Options.Profile
	require.Equal(t, &filter.HeaderLabel{Header: "x-disagg-revision", Label: "disaggregatedset.x-k8s.io/revision", Prefer: true}, p.Filters[0], "screeners come first")
	require.Equal(t, []scheduling.Role{scheduling.Prefill, scheduling.Decode}, p.Filters[1].(*filter.Rollout).Require)
	require.Len(t, p.Filters, 3)
	require.Len(t, p.Scorers, 2)
	require.Equal(t, prefix.Source{MinGain: 64}, p.Producers[1])
}

func TestLLMDStageOrders(t *testing.T) {
	plan := load(t, header+`plugins:
- {type: disagg-profile-handler, parameters: {stageOrder: prefill-first, profiles: {decode: d, prefill: p, encode: e}, deciders: {encode: always-disagg-multimodal-decider}}}
- {type: always-disagg-multimodal-decider}
schedulingProfiles: [{name: p}, {name: e}, {name: d}, {name: spare}]`)
	var stages []scheduling.Stage
	for _, st := range plan.Options.Stages {
		st.Profile = scheduling.Profile{}
		stages = append(stages, st)
	}
	require.Equal(t, []scheduling.Stage{
		{Name: "d", After: []string{"p", "e"}},
		{Name: "e", After: []string{"p"}, When: condition.Media{}, Takes: scheduling.Encode, Optional: true},
		{Name: "p", Takes: scheduling.Prefill, Optional: true},
	}, stages)
	require.Equal(t, []string{`profile "spare": nothing runs it, there is no decider for it`}, plan.Notes)

	plan = load(t, header+`plugins:
- {type: disagg-profile-handler, parameters: {prefillDeciderPluginName: never, decodeProfile: d}}
- {type: prefix-based-pd-decider, name: never}
schedulingProfiles: [{name: prefill}, {name: d}]`)
	require.Equal(t, condition.Never{}, plan.Options.Stages[1].When, "0 tokens mean never")
	require.Equal(t, "d", plan.Options.Stages[0].Name)
}

// A header says which profile counts for a request.
func TestProfilesByHeader(t *testing.T) {
	plan := load(t, header+`plugins:
- {type: header-profile-handler, parameters: {headerName: x-profile, defaultProfile: d}}
- {type: prefill-filter}
- {type: decode-filter}
- {type: queue-scorer}
- {type: prefix-cache-scorer}
- {type: random-picker}
schedulingProfiles:
- {name: p, plugins: [{pluginRef: prefill-filter}, {pluginRef: prefix-cache-scorer}, {pluginRef: random-picker}]}
- {name: d, plugins: [{pluginRef: decode-filter}, {pluginRef: queue-scorer}]}`)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "p", Address: "10.0.0.1:80", Role: scheduling.Prefill}, {ID: "d", Address: "10.0.0.2:80", Role: scheduling.Decode},
	}})
	require.NoError(t, err)
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "d", Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: 1}}}))
	s, err := scheduling.New(pool, plan.Options)
	require.NoError(t, err)
	pick := func(profile string) (scheduling.Decision, error) {
		return s.Pick(t.Context(), &scheduling.Request{
			Explain: true, Prompt: scheduling.Prompt{Text: make([]byte, 640)}, Header: func(name string) string { return map[string]string{"x-profile": profile}[name] },
		})
	}
	for _, row := range []struct {
		profile, endpoint, scorer string
		cached                    int
	}{{" p ", "p", "scorer.Prefix", 0}, {"p", "p", "scorer.Prefix", 160}, {"d", "d", "scorer.Linear(waiting)", 0}, {"", "d", "scorer.Linear(waiting)", 0}} {
		d, err := pick(row.profile)
		require.NoError(t, err)
		require.Equal(t, row.endpoint, d.Endpoint.ID)
		require.Equal(t, row.cached, d.CachedTokens, "only the profile that counts learns")
		for _, score := range d.Explanation.Candidates[0].Scores {
			require.Equal(t, score.Scorer != row.scorer, score.Abstained, score.Scorer)
		}
		d.Done()
	}
	_, err = pick("other")
	require.ErrorContains(t, err, "config.knownProfile left none")
	_, err = new(config.Loader).Load([]byte(header + "plugins: [{type: header-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]"))
	require.ErrorContains(t, err, `plugins[0].parameters.defaultProfile: "decode" is no profile`)
	plan = load(t, header+"plugins: [{type: header-profile-handler}, {type: random-picker}]\nschedulingProfiles: [{name: a}]")
	require.Equal(t, picker.Random{}, plan.Options.Profile.Picker, "a profile that is alone needs no header")
}

func TestSections(t *testing.T) {
	var got config.Section
	type bands struct {
		MaxBytes string `json:"maxBytes"`
		Bands    []struct {
			Priority int `json:"priority"`
		} `json:"priorityBands"`
	}
	loader := &config.Loader{Sections: map[string]func(config.Section) error{"flowControl": func(s config.Section) error {
		got = s
		return s.Decode(new(bands))
	}}}
	text := header + `featureGates: [flowControl]
plugins: [{type: utilization-detector, parameters: {queueDepthThreshold: 5}}, {type: token-producer, parameters: {modelName: m}}]
flowControl: {maxBytes: 1Gi, priorityBands: [{priority: 1}]}`
	plan, err := loader.Load([]byte(text))
	require.NoError(t, err)
	require.JSONEq(t, `{"maxBytes":"1Gi","priorityBands":[{"priority":1}]}`, string(got.Config))
	require.Equal(t, []config.Plugin{{Name: "utilization-detector", Type: "utilization-detector", Parameters: []byte(`{"queueDepthThreshold":5}`)}}, got.Plugins)
	require.Equal(t, map[string]bool{"flowControl": true, "populate-non-leader-datastore": true}, got.Gates)
	require.Equal(t, []config.Plugin{{Name: "token-producer", Type: "token-producer", Parameters: []byte(`{"modelName":"m"}`)}}, plan.External)

	_, err = loader.Load([]byte(strings.Replace(text, "priority: 1", "priority: high, weight: 2", 1)))
	require.ErrorContains(t, err, "line 5: flowControl.priorityBands[0].priority: want a whole number")
	require.ErrorContains(t, err, "line 5: flowControl.priorityBands[0].weight: unknown field")

	loader.Sections["flowControl"] = func(config.Section) error { return errors.New("not today") }
	_, err = loader.Load([]byte(text))
	require.ErrorContains(t, err, "line 5: flowControl: not today")
	got = config.Section{}
	_, err = loader.Load([]byte(header))
	require.NoError(t, err, "a section that is not there is not taken")
}

func FuzzLoad(f *testing.F) {
	for _, name := range config.Presets() {
		text, err := config.Preset(name)
		require.NoError(f, err)
		f.Add([]byte(text))
	}
	f.Add([]byte("preset: default\nmaxMetricAge: 1s"))
	f.Add([]byte("profile: {scorers: [{type: cost, terms: [{type: each, metric: waiting, cost: .nan}]}]}"))
	f.Add([]byte("a: &a [*a]\n? {b: c}\n: d"))
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 1 << 20, MaxEndpoints: 8}}
	f.Fuzz(func(t *testing.T, text []byte) {
		plan, err := loader.Load(text)
		if (plan == nil) == (err == nil) {
			t.Fatalf("%v, %v", plan, err)
		}
		if err != nil {
			return
		}
		if err := plan.Options.Validate(); err != nil {
			t.Fatal(err)
		}
		if _, err := loader.Reload(plan, text); err != nil {
			t.Fatal(err)
		}
	})
}

// What the guide shows can be loaded.
func TestGuideLoads(t *testing.T) {
	guide, err := os.ReadFile("../../docs/config.md")
	require.NoError(t, err)
	blocks := strings.Split(string(guide), "```yaml\n")[1:]
	require.Len(t, blocks, 3)
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		plan := load(t, text)
		require.Empty(t, plan.Notes)
		require.Empty(t, plan.External)
	}
	for _, name := range config.Presets() {
		if name != "llm-d-gpu-utilization" { // which needs to be told what the metric is
			load(t, "preset: "+name)
		}
	}
}
