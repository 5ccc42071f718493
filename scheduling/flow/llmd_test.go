package flow_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/stretchr/testify/require"
)

func TestLLMDSection(t *testing.T) {
	second, none := time.Second, time.Duration(0)
	zero := 0
	for name, row := range map[string]struct {
		section flow.LLMD
		plugins []flow.LLMDPlugin
		want    flow.Options
	}{
		"defaults": {flow.LLMD{}, nil, flow.Options{
			Gate: &flow.Gate{Limits: flow.Limits{MaxWaiting: 5, MaxKVUsage: .8}}, Discipline: flow.Strict{}, NoEndpointTTL: time.Minute,
		}},
		"all": {
			flow.LLMD{
				MaxBytes: 1 << 30, MaxRequests: 500, DefaultRequestTTL: &none, NoEndpointRequestTTL: &second, EnableEviction: true,
				PriorityBands: []flow.LLMDBand{
					{Priority: 10, MaxRequests: 7, FairnessPolicyRef: "fair", OrderingPolicyRef: "slo-deadline-ordering-policy", DefaultRequestTTL: &second},
					{Priority: -10, FairnessPolicyRef: "fair", OrderingPolicyRef: "slo-deadline-ordering-policy"},
				},
				SaturationDetector: flow.LLMDPluginRef{PluginRef: "detector"}, UsageLimitPolicyPluginRef: "holdback",
			},
			[]flow.LLMDPlugin{
				{Name: "fair", Type: "round-robin-fairness-policy"},
				{Name: "detector", Type: "concurrency-detector", Parameters: json.RawMessage(`{"maxConcurrency":20}`)},
				{Name: "holdback", Type: "priority-holdback-policy", Parameters: json.RawMessage(`{"minCeiling":0.5}`)},
			},
			flow.Options{
				Gate: &flow.Gate{Limits: flow.Limits{MaxRequests: 20}, Ceilings: []flow.Ceiling{{Below: 10, Share: .75}, {Below: 0, Share: .5}}},
				Bands: []flow.Band{
					{Priority: 10, MaxBytes: 1e9, MaxRequests: 7, TTL: time.Second}, {Priority: -10, MaxBytes: 1e9, MaxRequests: 5000},
				},
				Discipline: flow.RoundRobin{}, Order: flow.ObjectiveDeadline, MaxBytes: 1 << 30, MaxRequests: 500, TTL: -1, NoEndpointTTL: time.Second, EvictFor: &zero,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, notes, err := row.section.Options(row.plugins)
			require.NoError(t, err)
			require.Empty(t, notes)
			require.Equal(t, row.want, o)
			require.NoError(t, o.Validate())
			require.NoError(t, o.Gate.Validate())
		})
	}
	_, notes, err := flow.LLMD{
		PriorityBands:       []flow.LLMDBand{{FairnessPolicyRef: "nobody"}, {OrderingPolicyRef: "edf-ordering-policy"}},
		SaturationDetector:  flow.LLMDPluginRef{PluginRef: "nothing"},
		DefaultPriorityBand: &flow.LLMDBand{MaxRequests: 1, FairnessPolicyRef: "nobody"}, UsageLimitPolicyPluginRef: "soft-reflective-ceiling-policy",
	}.Options(nil)
	for _, want := range []string{
		`saturationDetector: "nothing" is no`, `fairnessPolicyRef: "nobody" is no`, "priorityBands[1]: global-strict", `usageLimitPolicyPluginRef: "soft`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.Len(t, notes, 1)
}

func TestQuantity(t *testing.T) {
	for text, want := range map[string]flow.Quantity{"0": 0, "5000": 5000, "2k": 2000, "1Gi": 1 << 30, "500M": 5e8} {
		var q flow.Quantity
		require.NoError(t, q.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, q, text)
	}
	for _, text := range []string{"", "x", "-1", "1.5G", "9999999999Ti", "Gi"} {
		require.ErrorContains(t, new(flow.Quantity).UnmarshalText([]byte(text)), "quantity", text)
	}
}

func TestLLMDFile(t *testing.T) {
	const file = `apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
  - type: queue-scorer
  - type: max-score-picker
  - name: detector
    type: utilization-detector
    parameters: {queueDepthThreshold: 3, kvCacheUtilThreshold: 0.9}
schedulingProfiles:
  - name: default
    plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]
flowControl:
  maxBytes: 2Gi
  defaultRequestTTL: 20s
  saturationDetector: {pluginRef: detector}
  priorityBands:
    - {priority: 1, maxRequests: 100, fairnessPolicyRef: round-robin-fairness-policy}
`
	var o flow.Options
	loader := config.Loader{Sections: map[string]func(config.Section) error{"flowControl": func(s config.Section) error {
		var section flow.LLMD
		if err := s.Decode(&section); err != nil {
			return err
		}
		var plugins []flow.LLMDPlugin
		for _, p := range s.Plugins {
			plugins = append(plugins, flow.LLMDPlugin(p))
		}
		var err error
		o, _, err = section.Options(plugins)
		return err
	}}}
	_, err := loader.Load([]byte(file))
	require.NoError(t, err)
	require.Equal(t, flow.Options{
		Gate: &flow.Gate{Limits: flow.Limits{MaxWaiting: 3, MaxKVUsage: .9}}, Discipline: flow.RoundRobin{}, MaxBytes: 2 << 30,
		TTL: 20 * time.Second, NoEndpointTTL: 20 * time.Second, Bands: []flow.Band{{Priority: 1, MaxBytes: 1e9, MaxRequests: 100}},
	}, o)
}
