package config

import (
	"cmp"
	"encoding/json"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func roleFilter(phase scheduling.Role, explicit bool) func(*parameters) *part {
	return func(p *parameters) *part {
		p.none()
		return &part{filter: &labelledRole{phase: phase, explicit: explicit}}
	}
}

func selector(p *parameters) *part {
	f := new(filter.Labels)
	p.into(f)
	return &part{filter: f}
}

// affinity is what both of llm-d's plugins for sessions do: by the token that a client brings, or by what the server remembers.
func (p *parameters) affinity() interface {
	scheduling.Filter
	scheduling.Scorer
} {
	var v struct {
		Strategy string `json:"strategy"`
		Encoded  struct {
			Header string `json:"header"`
		} `json:"encodedEndpointHeaderConfig"`
		Session struct {
			Sources []struct {
				Header    string `json:"header"`
				Attribute string `json:"attribute"`
				Producer  string `json:"producer"`
			} `json:"sources"`
			TTL   float64 `json:"evictionTtlSeconds"`
			Sweep float64 `json:"evictionSweepSeconds"` // nothing sweeps here
		} `json:"sessionIdConfig"`
		Profile string `json:"profileName"` // the profile that the plugin is in, here
	}
	p.into(&v)
	switch v.Strategy {
	case "", "encoded_endpoint_header":
		return &pinned{header: cmp.Or(v.Encoded.Header, "x-session-token")}
	case "session_id":
	default:
		p.problem("strategy", "%q: want encoded_endpoint_header or session_id", v.Strategy)
	}
	s := &scorer.SessionBinding{TTLSeconds: v.Session.TTL}
	for i, source := range v.Session.Sources {
		if source.Header == "" {
			p.problem("sessionIdConfig.sources", "[%d]: want a header: requests have no attributes here", i)
		}
		s.Headers = append(s.Headers, source.Header)
	}
	if len(s.Headers) == 0 {
		s.Headers = []string{"x-session-id"}
	}
	return s
}

type threshold struct {
	Type      string `json:"type"`
	Threshold *struct {
		Operator filter.Operator `json:"operator"`
		Value    float64         `json:"value"`
	} `json:"threshold"`
}

func attributeFilter(p *parameters) *part {
	v := struct {
		Attribute string    `json:"attribute"`
		Producer  *string   `json:"producer"`
		OnMissing string    `json:"onMissing"`
		Fallback  bool      `json:"fallbackOnEmpty"`
		Algorithm threshold `json:"algorithm"`
	}{OnMissing: "Pass"}
	p.into(&v)
	if v.OnMissing != "Pass" && v.OnMissing != "Fail" {
		p.problem("onMissing", "%q: want Pass or Fail", v.OnMissing)
	}
	if v.Algorithm.Type != "threshold" || v.Algorithm.Threshold == nil {
		p.problem("algorithm", "want the type threshold, and a threshold")
		return &part{}
	}
	return &part{filter: &filter.Limits{
		RemoveUnknown: v.OnMissing == "Fail", FallbackOnEmpty: v.Fallback, Conditions: []filter.Condition{
			{Metric: p.metric("attribute", v.Attribute), Operator: v.Algorithm.Threshold.Operator, Value: v.Algorithm.Threshold.Value},
		},
	}}
}

func utilization(p *parameters) *part {
	var v struct {
		Conditions []struct {
			Metric string   `json:"metric"`
			Max    *float64 `json:"maxValue"`
		} `json:"conditions"`
		Fallback bool `json:"fallbackOnEmpty"`
		byLoad
	}
	p.into(&v)
	f := &filter.Limits{FallbackOnEmpty: v.Fallback}
	for i, c := range v.Conditions {
		metric, ok := map[string]scheduling.Metric{
			"active-requests": scheduling.InFlightRequests, "running-requests": scheduling.Running,
			"waiting-queue": scheduling.Waiting, "kv-cache-utilization": scheduling.KVUsage,
		}[c.Metric]
		if !ok || c.Max == nil {
			p.problem("conditions", "[%d]: want a metric, of active-requests, running-requests, waiting-queue or kv-cache-utilization, and a maxValue", i)
			continue
		}
		f.Conditions = append(f.Conditions, filter.Condition{Metric: metric, Operator: filter.LessThanOrEqual, Value: *c.Max})
	}
	return &part{filter: f}
}

func prefixAffinity(p *parameters) *part {
	v := struct {
		filter.PrefixAffinity
		MaxPenalty float64 `json:"maxTTFTPenaltyMs"`
		Source     string  `json:"ttftSource"`
		Prediction string  `json:"latencyPredictionInfoProducerName"`
		byMatch
		byLoad
	}{MaxPenalty: 18000, Source: "prefillThroughput"}
	p.into(&v)
	if v.Source != "prefillThroughput" {
		p.problem("ttftSource", "%q is not supported: %s", v.Source, needsPrediction)
	}
	f := v.PrefixAffinity
	f.MaxPenaltyMs = v.MaxPenalty
	if v.MaxPenalty == 0 {
		f.MaxPenaltyMs = -1 // it does not matter
	}
	return matched(part{filter: f}, v.Producer)
}

func prefixScorer(p *parameters) *part {
	var v struct {
		scorer.Prefix
		byMatch
	}
	p.into(&v)
	return matched(part{scorer: v.Prefix}, v.Producer)
}

func linear(s scorer.Linear) func(*parameters) *part {
	return func(p *parameters) *part {
		p.none()
		return &part{scorer: s}
	}
}

func attributeLinear(attribute string, highest float64) func(*parameters) *part {
	return func(p *parameters) *part {
		p.none()
		return &part{scorer: scorer.Linear{Metric: p.metric("attribute", attribute), Max: highest}}
	}
}

func attributeScorer(p *parameters) *part {
	var v struct {
		Attribute string  `json:"attributeKey"`
		Producer  *string `json:"producer"`
		Algorithm struct {
			Type          string `json:"type"`
			Normalization struct {
				Fixed *struct {
					Min float64 `json:"min"`
					Max float64 `json:"max"`
				} `json:"fixedRange"`
				Adaptive *struct{} `json:"adaptiveRange"`
			} `json:"normalization"`
		} `json:"algorithm"`
	}
	p.into(&v)
	s := scorer.Linear{Metric: p.metric("attributeKey", v.Attribute)}
	switch v.Algorithm.Type {
	case "linear_higher_is_better":
		s.HigherIsBetter = true
	case "linear_lower_is_better":
	default:
		p.problem("algorithm.type", "%q: want linear_lower_is_better or linear_higher_is_better", v.Algorithm.Type)
	}
	switch n := v.Algorithm.Normalization; {
	case n.Fixed != nil && n.Adaptive == nil:
		if s.Min, s.Max = n.Fixed.Min, n.Fixed.Max; s.Min >= s.Max {
			p.problem("algorithm.normalization.fixedRange", "%v to %v: want the lower first", s.Min, s.Max)
		}
	case n.Fixed != nil || n.Adaptive == nil:
		p.problem("algorithm.normalization", "want either a fixedRange or an adaptiveRange")
	}
	return &part{scorer: s}
}

func pickerOf(plugin scheduling.Picker) func(*parameters) *part {
	return func(p *parameters) *part {
		v := struct {
			Max int `json:"maxNumOfEndpoints"`
		}{1}
		p.into(&v)
		if v.Max < 1 || v.Max > scheduling.MaxRanked {
			p.problem("maxNumOfEndpoints", "%d: want 1 to %d", v.Max, scheduling.MaxRanked)
		}
		return &part{picker: plugin}
	}
}

func approximate(p *parameters) *part {
	v := struct {
		AutoTune  bool `json:"autoTune"`
		Block     int  `json:"blockSizeTokens"`
		OldBlock  int  `json:"blockSize"`
		MaxBlocks int  `json:"maxPrefixBlocksToMatch"`
		MaxTokens int  `json:"maxPrefixTokensToMatch"`
		Blocks    int  `json:"lruCapacityPerServer"`
	}{AutoTune: true, Block: 16, MaxBlocks: 2048, MaxTokens: 131072, Blocks: 31250}
	p.into(&v)
	if v.OldBlock != 0 {
		p.problem("blockSize", "deprecated by llm-d and not supported: use blockSizeTokens")
	}
	producer := &prefix.Producer{BlockTokens: v.Block, CacheBlocks: v.Blocks, Fixed: !v.AutoTune, MaxTokens: v.MaxTokens}
	if v.MaxTokens == 0 {
		producer.MaxTokens = v.MaxBlocks * v.Block
	}
	return &part{producer: producer, matches: true}
}

func precise(p *parameters) *part {
	v := struct {
		Tokens struct {
			Block     int    `json:"blockSize"`
			BlockSize int    `json:"blockSizeTokens"`
			Seed      string `json:"hashSeed"`
			Algorithm string `json:"hashAlgorithm"`
		} `json:"tokenProcessorConfig"`
		Indexer     json.RawMessage `json:"indexerConfig"`
		Events      json.RawMessage `json:"kvEventsConfig"`
		Speculative bool            `json:"speculativeIndexing"`
		TTL         string          `json:"speculativeTTL"`
	}{}
	p.into(&v)
	p.note("an index of what was sent where stands in for one that engines' KV events feed; give the type in Loader.Types if the program has one")
	return &part{producer: &prefix.Producer{BlockTokens: cmp.Or(v.Tokens.BlockSize, v.Tokens.Block)}, matches: true}
}

func burst(p *parameters) *part {
	v := struct {
		Window    int    `json:"windowDurationMs"`
		Max       int    `json:"maxPerReplica"`
		Block     int    `json:"blockSizeTokens"`
		MaxTokens int    `json:"maxPrefixTokensToMatch"`
		Colocate  int    `json:"minColocateBlocks"`
		Batch     int    `json:"maxBatchSize"`
		Balance   string `json:"balanceBy"`
	}{Block: 64, Max: -1}
	p.into(&v)
	p.note("no window is waited for; a pick is in the prefix index at once, so equal prompts meet without one")
	if v.Max >= 0 {
		p.problem("maxPerReplica", "%d is not supported: use overload or prefix-cache-affinity-filter to spread a burst", v.Max)
	}
	return &part{producer: &prefix.Producer{BlockTokens: v.Block, MaxTokens: v.MaxTokens}, matches: true}
}

func disaggregation(p *parameters) *part {
	var v struct {
		Order    string `json:"stageOrder"`
		Profiles struct {
			Decode  string `json:"decode"`
			Prefill string `json:"prefill"`
			Encode  string `json:"encode"`
		} `json:"profiles"`
		Deciders struct {
			Prefill string `json:"prefill"`
			Encode  string `json:"encode"`
		} `json:"deciders"`
		// What older files say.
		Decode         string `json:"decodeProfile"`
		Prefill        string `json:"prefillProfile"`
		Encode         string `json:"encodeProfile"`
		PrefillDecider string `json:"prefillDeciderPluginName"`
		EncodeDecider  string `json:"encodeDeciderPluginName"`
	}
	p.into(&v)
	if v.Order != "" && v.Order != "decode-first" && v.Order != "prefill-first" {
		p.problem("stageOrder", "%q: want decode-first or prefill-first", v.Order)
	}
	return &part{handler: &handler{
		path: p.path, disagg: true, prefillFirst: v.Order == "prefill-first",
		decode:         cmp.Or(v.Profiles.Decode, v.Decode, "decode"),
		prefill:        cmp.Or(v.Profiles.Prefill, v.Prefill, "prefill"),
		encode:         cmp.Or(v.Profiles.Encode, v.Encode, "encode"),
		prefillDecider: cmp.Or(v.Deciders.Prefill, v.PrefillDecider),
		encodeDecider:  cmp.Or(v.Deciders.Encode, v.EncodeDecider),
	}}
}

func rollout(p *parameters) *part {
	const revision, role = "disaggregatedset.x-k8s.io/revision", "disaggregatedset.x-k8s.io/role"
	var v struct {
		Scope struct {
			Selector string `json:"labelSelector"`
		} `json:"scope"`
		Headers []struct {
			Name   string `json:"name"`
			Header string `json:"headerName"`
			Label  string `json:"labelKey"`
			Mode   string `json:"mode"`
		} `json:"headerSelectors"`
		Gating *struct {
			Label   string `json:"revisionLabelKey"`
			Role    string `json:"roleLabelKey"`
			Mode    string `json:"mode"`
			Require *struct {
				Values []scheduling.Role `json:"values"`
			} `json:"requireRoles"`
		} `json:"revisionGating"`
	}
	p.into(&v)
	if v.Scope.Selector != "" {
		p.problem("scope.labelSelector", "not supported: what the pool holds is in scope here")
	}
	made := &part{}
	for i, h := range v.Headers {
		if h.Mode != "" && h.Mode != "strict" && h.Mode != "prefer" {
			p.problem("headerSelectors", "[%d].mode %q: want strict or prefer", i, h.Mode)
		}
		made.screeners = append(made.screeners, &filter.HeaderLabel{Header: h.Header, Label: cmp.Or(h.Label, revision), Prefer: h.Mode == "prefer"})
	}
	if g := v.Gating; g != nil && g.Mode != "disabled" {
		if g.Role != "" && g.Role != role {
			p.problem("revisionGating.roleLabelKey", "%q is not supported: an endpoint's role is Endpoint.Role here", g.Role)
		}
		f := &filter.Rollout{Label: cmp.Or(g.Label, revision), Weight: filter.RolloutWeight(g.Mode)}
		if g.Require != nil {
			f.Require = g.Require.Values
		}
		made.screeners = append(made.screeners, f)
	}
	return made
}
