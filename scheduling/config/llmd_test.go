package config_test

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Each of llm-d's types becomes a plugin of ours with the parameters that make it the same.
func TestLLMDTypes(t *testing.T) {
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 4 << 20}, Attributes: map[string]scheduling.Metric{
		"heat": scheduling.Custom(1), "llm-d.ai/multicluster-queue-size": scheduling.Custom(2), "llm-d.ai/multicluster-kv-cache-utilization": scheduling.Custom(3),
	}}
	attribute := func(name, more string) string {
		return "{type: endpoint-attribute-filter, parameters: {attribute: " + name + ", algorithm: {type: threshold, threshold: {operator: LessThan, value: 2}}" + more + "}}"
	}
	for _, row := range []struct {
		text   string
		filter scheduling.Filter
		scorer scheduling.Scorer
	}{
		{text: "{type: label-selector-filter, parameters: {matchLabels: {a: b}}}", filter: &filter.Labels{Match: map[string]string{"a": "b"}}},
		{text: attribute("heat", ", onMissing: Fail"), filter: &filter.Limits{RemoveUnknown: true, Conditions: []filter.Condition{{Metric: scheduling.Custom(1), Operator: filter.LessThan, Value: 2}}}},
		{text: attribute("WaitingQueueSize", ""), filter: &filter.Limits{Conditions: []filter.Condition{{Metric: scheduling.Waiting, Operator: filter.LessThan, Value: 2}}}},
		{text: attribute("RunningRequestsSize", ""), filter: &filter.Limits{Conditions: []filter.Condition{{Metric: scheduling.Running, Operator: filter.LessThan, Value: 2}}}},
		{text: attribute("KVCacheUsagePercent", ", producer: core-metrics-extractor"), filter: &filter.Limits{Conditions: []filter.Condition{{Metric: scheduling.KVUsage, Operator: filter.LessThan, Value: 2}}}},
		{text: "{type: utilization-filter, parameters: {fallbackOnEmpty: true, conditions: [{metric: active-requests, maxValue: 8}, {metric: waiting-queue, maxValue: 0}]}}", filter: &filter.Limits{
			FallbackOnEmpty: true, Conditions: []filter.Condition{
				{Metric: scheduling.InFlightRequests, Operator: filter.LessThanOrEqual, Value: 8}, {Metric: scheduling.Waiting, Operator: filter.LessThanOrEqual, Value: 0},
			},
		}},
		{text: "{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0.5, maxTTFTPenaltyMs: 5000, inFlightLoadProducerName: x}}", filter: filter.PrefixAffinity{Threshold: .5, MaxPenaltyMs: 5000}},
		{text: "{type: topology-affinity-filter, parameters: {minAffinity: zone}}", filter: &filter.Topology{Min: scheduling.SameZone}},
		{text: "{type: running-requests-size-scorer}", scorer: scorer.Linear{Metric: scheduling.Running}},
		{text: "{type: multicluster-queue-scorer}", scorer: scorer.Linear{Metric: scheduling.Custom(2)}},
		{text: "{type: multicluster-kv-cache-utilization-scorer}", scorer: scorer.Linear{Metric: scheduling.Custom(3), Max: 1}},
		{text: "{type: active-request-scorer, parameters: {requestTimeout: 2m, idleThreshold: 3}}", scorer: scorer.ActiveRequests{Idle: 3, MaxBusy: 1}},
		{text: "{type: token-load-scorer, parameters: {queueThresholdTokens: 1000}}", scorer: scorer.TokenLoad{Tokens: 1000}},
		{text: "{type: prefix-cache-scorer, parameters: {matchLengthWeight: 0.5, matchLengthScaleTokens: 100}}", scorer: scorer.Prefix{LengthWeight: .5, LengthScale: 100}},
		{text: "{type: lora-affinity-scorer}", scorer: scorer.LoRA{}},
		{text: "{type: lmetric-scorer}", scorer: scorer.LMetric{}},
		{text: "{type: header-label-affinity-scorer, parameters: {headerName: h, labelKey: l}}", scorer: &scorer.HeaderLabel{Header: "h", Label: "l"}},
		{text: "{type: topology-affinity-scorer, parameters: {topologyProducerName: x}}", scorer: &scorer.Topology{}},
		{text: "{type: context-length-aware, parameters: {label: l}}", scorer: &scorer.ContextLength{Label: "l"}},
		{text: "{type: endpoint-attribute-scorer, parameters: {attributeKey: heat, algorithm: {type: linear_higher_is_better, normalization: {adaptiveRange: {}}}}}", scorer: scorer.Linear{Metric: scheduling.Custom(1), HigherIsBetter: true}},
		{text: "{type: endpoint-attribute-scorer, parameters: {attributeKey: heat, algorithm: {type: linear_lower_is_better, normalization: {fixedRange: {min: -1, max: 3}}}}}", scorer: scorer.Linear{Metric: scheduling.Custom(1), Min: -1, Max: 3}},
	} {
		plan, err := loader.Load([]byte(header + "plugins: [" + row.text + "]"))
		require.NoError(t, err, row.text)
		if row.filter != nil {
			require.Equal(t, []scheduling.Filter{row.filter}, plan.Options.Profile.Filters, row.text)
		}
		if row.scorer != nil {
			require.Equal(t, []scheduling.Weighted{{Scorer: row.scorer, Weight: 1}}, plan.Options.Profile.Scorers, row.text)
		}
	}

	for text, want := range map[string]*prefix.Producer{
		"{type: approx-prefix-cache-producer, parameters: {autoTune: false, blockSizeTokens: 32, maxPrefixTokensToMatch: 0, maxPrefixBlocksToMatch: 10}}": {BlockTokens: 32, CacheBlocks: 31250, Fixed: true, MaxTokens: 320},
		"{type: multicluster-approx-prefix-cache-producer, name: approx-prefix-cache-producer}":                                                           {BlockTokens: 16, CacheBlocks: 31250, MaxTokens: 131072},
	} {
		plan, err := loader.Load([]byte(header + "plugins: [" + text + ", {type: prefix-cache-scorer}]"))
		require.NoError(t, err)
		got := plan.Options.Profile.Producers[0].(*prefix.Producer)
		want.Index = got.Index
		require.Equal(t, want, got)
		require.Equal(t, got, plan.Plugin("approx-prefix-cache-producer"))
	}

	for text, want := range map[string]string{
		"{type: utilization-filter, parameters: {conditions: [{metric: heat, maxValue: 1}, {metric: waiting-queue}]}}":                                                  "conditions: [1]: want a metric",
		"{type: endpoint-attribute-filter, parameters: {attribute: heat, onMissing: Maybe, algorithm: {type: band}}}":                                                   `onMissing: "Maybe": want Pass or Fail`,
		"{type: endpoint-attribute-scorer, parameters: {attributeKey: heat, algorithm: {type: linear_lower_is_better, normalization: {fixedRange: {min: 2, max: 1}}}}}": "2 to 1: want the lower first",
		"{type: approx-prefix-cache-producer, parameters: {blockSize: 3}}":                                                                                              "blockSize: deprecated by llm-d",
		"{type: burst-prefix-cache-producer, parameters: {maxPerReplica: 2}}":                                                                                           "maxPerReplica: 2 is not supported",
		"{type: disagg-profile-handler, parameters: {stageOrder: encode-first}}":                                                                                        `"encode-first": want decode-first or prefill-first`,
		"{type: disaggregatedset-rollout-screener, parameters: {scope: {labelSelector: a=b}}}":                                                                          "scope.labelSelector: not supported",
		"{type: disaggregatedset-rollout-screener, parameters: {headerSelectors: [{headerName: h, mode: soft}]}}":                                                       `[0].mode "soft": want strict or prefer`,
		"{type: disaggregatedset-rollout-screener, parameters: {revisionGating: {mode: least, roleLabelKey: r}}}":                                                       `weight "least": want max-role or sum`,
		"{type: header-label-affinity-scorer}":                                                                                                                          "headerName: empty\nlabelKey: empty",
		"{type: context-length-aware, parameters: {label: 5, enableFiltering: 1}}":                                                                                      "enableFiltering: want true or false",
		"{type: precise-prefix-cache-producer, parameters: {indexerConfig: {a: .inf}}}":                                                                                 "indexerConfig: want numbers that are finite",
		"{type: p2p-source-producer, parameters: {minCachedTokenDelta: -1}}":                                                                                            "minCachedTokenDelta -1: negative",
	} {
		_, err := loader.Load([]byte(header + "plugins: [" + text + "]"))
		require.ErrorContains(t, err, want, text)
	}
}

// A client comes back to the endpoint that its token names: llm-d's is the name in base64.
func TestSessionTokensOfLLMD(t *testing.T) {
	pool := newPool(t, 3)
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "default/vllm-1", Address: "10.9.9.9:80", Model: "m"}))
	token := base64.StdEncoding.EncodeToString([]byte("default/vllm-1"))
	for text, hard := range map[string]bool{
		"{type: session-affinity-filter}": true, "{type: session-affinity-scorer, parameters: {strategy: encoded_endpoint_header, encodedEndpointHeaderConfig: {header: x-session-token}}}": false,
	} {
		plan := load(t, header+"plugins: ["+text+"]")
		s, err := scheduling.New(pool, plan.Options)
		require.NoError(t, err)
		pick := func(token, pinned string) *scheduling.Explanation {
			t.Helper()
			r := &scheduling.Request{Model: "m", Explain: true, Pinned: pinned}
			if token != "" {
				r.Header = func(name string) string { return map[string]string{"x-session-token": token}[name] }
			}
			d, err := s.Pick(context.Background(), r)
			require.NoError(t, err)
			d.Done()
			return d.Explanation
		}
		for _, x := range []*scheduling.Explanation{pick(token, ""), pick("", "default/vllm-1"), pick("garbage", "default/vllm-1")} {
			require.Equal(t, "default/vllm-1", x.Candidates[0].Endpoint)
			if hard {
				require.Len(t, x.Candidates, 1)
			} else {
				require.InDelta(t, 1, x.Candidates[0].Scores[0].Score, 0)
				require.InDelta(t, 0, x.Candidates[1].Scores[0].Score, 0)
			}
		}
		long := base64.StdEncoding.EncodeToString(make([]byte, 600))
		for _, x := range []*scheduling.Explanation{pick("", ""), pick("%", ""), pick(long, ""), pick(base64.StdEncoding.EncodeToString([]byte("gone")), ""), pick("", "gone")} {
			require.Len(t, x.Candidates, 4, "all, where it is none of them")
			if !hard {
				require.True(t, x.Candidates[0].Scores[0].Abstained)
			}
		}
	}
}
