package config

import (
	"cmp"
	"encoding/json"
	"math"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// part is what one plugin of an llm-d file comes to.
type part struct {
	filter    scheduling.Filter
	scorer    scheduling.Scorer
	picker    scheduling.Picker
	producer  scheduling.Producer
	screeners []scheduling.Filter // for every profile
	// decider makes the condition of a stage; it is told the stage that decodes, or nil means always.
	decider func(earlier string) scheduling.Condition
	handler *handler

	matches, embeds, source bool   // what the producer is: of prefixes, of embeddings, of KV sources
	match, media            bool   // what it goes by
	producerName            string // whose match
	own                     bool   // of a type that llm-d does not have
	failed                  bool   // a problem is reported already
	notes                   []string
}

func (p *part) inProfile() bool { return p.filter != nil || p.scorer != nil || p.picker != nil }

func (p *part) all() []any {
	var list []any
	if p.producer != nil {
		list = append(list, p.producer)
	}
	if p.filter != nil {
		list = append(list, p.filter)
	}
	if p.scorer != nil {
		list = append(list, p.scorer)
	}
	if p.picker != nil {
		list = append(list, p.picker)
	}
	for _, f := range p.screeners {
		list = append(list, f)
	}
	return list
}

// plugin returns the part's first plugin, or nil.
func (p *part) plugin() any {
	if all := p.all(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// handler is what llm-d's profile handlers say.
type handler struct {
	path                          string
	disagg, prefillFirst          bool
	decode, prefill, encode       string
	prefillDecider, encodeDecider string
	byHeader                      *profileSwitch
}

// parameters are those of one plugin.
type parameters struct {
	*llmd
	node  *yaml.Node
	path  string
	name  string // the plugin's
	notes []string
}

func (p *parameters) into(v any) { p.d.into(p.node, reflect.ValueOf(v).Elem(), p.path) }

func (p *parameters) none() { p.into(new(struct{})) }

// note says where the part is not quite what was asked for.
func (p *parameters) note(text string) { p.notes = append(p.notes, p.name+": "+text) }

func (p *parameters) problem(field, format string, args ...any) {
	p.d.problem(p.node, p.path+"."+field, format, args...)
}

// metric says which metric an attribute is.
func (p *parameters) metric(field, attribute string) scheduling.Metric {
	if m, ok := p.loader.Attributes[attribute]; ok {
		return m
	}
	switch attribute {
	case "WaitingQueueSize":
		return scheduling.Waiting
	case "RunningRequestsSize":
		return scheduling.Running
	case "KVCacheUsagePercent":
		return scheduling.KVUsage
	}
	p.problem(field, "attribute %q is unknown: say which metric it is in Loader.Attributes", attribute)
	return scheduling.Waiting
}

// matched is a part that goes by a prefix match.
func matched(p part, producer string) *part {
	p.match, p.producerName = true, producer
	return &p
}

// byMatch is the parameter that names a prefix producer.
type byMatch struct {
	Producer string `json:"prefixMatchInfoProducerName"`
}

// byLoad is the parameter that names the producer of loads: the ledger, here.
type byLoad struct {
	Load string `json:"inFlightLoadProducerName"`
}

const (
	multiclusterQueue = "llm-d.ai/multicluster-queue-size"
	multiclusterKV    = "llm-d.ai/multicluster-kv-cache-utilization"
)

// llmdTypes are llm-d's plugin types, each as a plugin of ours of the same formula.
var llmdTypes = map[string]func(*parameters) *part{
	// Filters.
	"decode-filter":                        roleFilter(scheduling.Decode, false),
	"prefill-filter":                       roleFilter(scheduling.Prefill, true),
	"encode-filter":                        roleFilter(scheduling.Encode, true),
	"label-selector-filter":                selector,
	"session-affinity-filter":              func(p *parameters) *part { return &part{filter: p.affinity()} },
	"multicluster-session-affinity-filter": func(p *parameters) *part { return &part{filter: p.affinity()} },
	"endpoint-attribute-filter":            attributeFilter,
	"utilization-filter":                   utilization,
	"prefix-cache-affinity-filter":         prefixAffinity,
	"topology-affinity-filter": func(p *parameters) *part {
		v := struct {
			Min      scheduling.Proximity `json:"minAffinity"`
			Producer string               `json:"topologyProducerName"`
		}{}
		p.into(&v)
		return &part{filter: &filter.Topology{Min: v.Min}}
	},
	"context-length-aware": func(p *parameters) *part {
		v := struct {
			Label  string `json:"label"`
			Filter bool   `json:"enableFiltering"`
		}{Label: "llm-d.ai/context-length-range"}
		p.into(&v)
		plugin := &scorer.ContextLength{Label: v.Label}
		if v.Filter {
			return &part{filter: plugin, scorer: plugin}
		}
		return &part{scorer: plugin}
	},
	"disaggregatedset-rollout-screener": rollout,

	// Scorers.
	"queue-scorer":                             linear(scorer.Linear{Metric: scheduling.Waiting}),
	"running-requests-size-scorer":             linear(scorer.Linear{Metric: scheduling.Running}),
	"kv-cache-utilization-scorer":              func(p *parameters) *part { p.none(); return &part{scorer: scorer.KVUtilization{}} },
	"multicluster-queue-scorer":                attributeLinear(multiclusterQueue, 0),
	"multicluster-kv-cache-utilization-scorer": attributeLinear(multiclusterKV, 1),
	"load-aware-scorer": func(p *parameters) *part {
		v := struct {
			Threshold float64 `json:"threshold"`
		}{128}
		p.into(&v)
		if v.Threshold <= 0 {
			p.problem("threshold", "%v: want a number above 0", v.Threshold)
			v.Threshold = 128
		}
		return &part{scorer: halved{scorer.Linear{Metric: scheduling.Waiting, Max: v.Threshold}}}
	},
	"active-request-scorer": func(p *parameters) *part {
		v := struct {
			Timeout string  `json:"requestTimeout"` // reservations end by themselves here
			Idle    int     `json:"idleThreshold"`
			MaxBusy float64 `json:"maxBusyScore"`
			byLoad
		}{MaxBusy: 1}
		p.into(&v)
		return &part{scorer: scorer.ActiveRequests{Idle: v.Idle, MaxBusy: cmp.Or(v.MaxBusy, math.SmallestNonzeroFloat64)}}
	},
	"token-load-scorer": func(p *parameters) *part {
		v := struct {
			scorer.TokenLoad
			byLoad
		}{}
		p.into(&v)
		return matched(part{scorer: v.TokenLoad}, "")
	},
	"lora-affinity-scorer": func(p *parameters) *part {
		p.none()
		return &part{scorer: scorer.LoRA{}}
	},
	"prefix-cache-scorer":              prefixScorer,
	"multicluster-prefix-cache-scorer": prefixScorer,
	"no-hit-lru-scorer": func(p *parameters) *part {
		v := struct {
			Size int    `json:"lruSize"` // as many as there are endpoints, here
			Type string `json:"prefixPluginType"`
			Name string `json:"prefixPluginName"`
			byMatch
		}{}
		p.into(&v)
		return matched(part{scorer: new(scorer.ColdLRU)}, cmp.Or(v.Producer, v.Name))
	},
	"session-affinity-scorer": func(p *parameters) *part { return &part{scorer: p.affinity()} },
	"header-label-affinity-scorer": func(p *parameters) *part {
		s := new(scorer.HeaderLabel)
		p.into(s)
		return &part{scorer: s}
	},
	"endpoint-attribute-scorer": attributeScorer,
	"topology-affinity-scorer": func(p *parameters) *part {
		p.into(&struct {
			Producer string `json:"topologyProducerName"`
		}{})
		return &part{scorer: new(scorer.Topology)}
	},
	"mm-embeddings-cache-scorer": func(p *parameters) *part {
		p.into(&struct {
			Producer string `json:"producerName"`
		}{})
		return &part{scorer: scorer.Media{}, media: true}
	},
	"lmetric-scorer": func(p *parameters) *part {
		p.into(new(byLoad))
		return matched(part{scorer: scorer.LMetric{}}, "")
	},

	// Pickers.
	"max-score-picker":       pickerOf(picker.MaxScore{}),
	"random-picker":          pickerOf(picker.Random{}),
	"weighted-random-picker": pickerOf(picker.WeightedRandom{}),

	// Producers.
	"approx-prefix-cache-producer":              approximate,
	"multicluster-approx-prefix-cache-producer": approximate,
	"precise-prefix-cache-producer":             precise,
	"burst-prefix-cache-producer":               burst,
	"mm-embeddings-cache-producer": func(p *parameters) *part {
		v := struct {
			PerServer int `json:"cacheSizeInMBPerServer"`
			Size      int `json:"cacheSizeInMB"`
		}{}
		p.into(&v)
		return &part{producer: &prefix.Media{Items: cmp.Or(v.PerServer, v.Size) / 2}, embeds: true}
	},
	"p2p-source-producer": func(p *parameters) *part {
		v := struct {
			prefix.Source
			byMatch
			Prefill string `json:"prefillProfileName"` // every stage that can fetch has a source, here
		}{}
		p.into(&v)
		return &part{producer: v.Source, source: true, producerName: v.Producer}
	},
	"inflight-load-producer": func(p *parameters) *part {
		v := struct {
			Output    bool     `json:"addEstimatedOutputTokens"`
			Ratio     *float64 `json:"outputRatio"`
			MaxOutput *int     `json:"maxEstimatedOutputTokens"`
			Sync      *bool    `json:"syncCrossReplicaState"`
			byMatch
		}{}
		p.into(&v)
		if v.Output {
			p.problem("addEstimatedOutputTokens", "true: the ledger counts output tokens once there are any, and estimates none")
		}
		return &part{}
	},

	// Profile handlers and deciders.
	"single-profile-handler": func(p *parameters) *part {
		p.none()
		return &part{handler: &handler{}}
	},
	"data-parallel-profile-handler": func(p *parameters) *part {
		p.into(&struct {
			Port int `json:"primaryPort"`
		}{})
		p.note("a data-parallel rank is an endpoint of its own here (Endpoint.Rank); nobody rewrites its port")
		return &part{handler: &handler{}}
	},
	"header-profile-handler": func(p *parameters) *part {
		v := struct {
			Header  string `json:"headerName"`
			Profile string `json:"defaultProfile"`
		}{"EPP-Profile", "decode"}
		p.into(&v)
		return &part{handler: &handler{path: p.path, byHeader: &profileSwitch{header: v.Header, standard: v.Profile}}}
	},
	"disagg-profile-handler": disaggregation,
	"always-disagg-pd-decider": func(p *parameters) *part {
		p.none()
		return &part{decider: func(string) scheduling.Condition { return nil }}
	},
	"always-disagg-multimodal-decider": func(p *parameters) *part {
		p.none()
		return &part{decider: func(string) scheduling.Condition { return condition.Media{} }}
	},
	"prefix-based-pd-decider": func(p *parameters) *part {
		var c struct {
			Tokens int `json:"nonCachedTokens"`
			Prompt int `json:"promptTokens"`
		}
		p.into(&c)
		if err := (condition.Uncached{Tokens: c.Tokens, PromptTokens: c.Prompt}).Validate(); err != nil {
			p.d.problem(p.node, p.path, "%w", err)
		}
		return &part{decider: func(earlier string) scheduling.Condition {
			if c.Tokens == 0 {
				return condition.Never{}
			}
			return condition.Uncached{Tokens: c.Tokens, PromptTokens: c.Prompt, Stage: earlier}
		}}
	},
}

// externalTypes are types that are not scheduling's. Those with a section belong to that; what the others do is done by
// parts of a program that are set up in code: scrapers, tokenizers, parsers.
var externalTypes = map[string]string{
	"token-producer": "", "tokenizer": "", "session-id-producer": "", "agent-identity": "", "request-attribute-reporter": "",
	"metrics-data-source": "", "core-metrics-extractor": "", "multicluster-metrics-data-source": "", "multicluster-metrics-extractor": "",
	"models-data-source": "", "models-data-extractor": "", "dcgm-data-source": "", "dcgm-extractor": "", "topology-extractor": "",
	"k8s-notification-source": "", "endpoint-notification-source": "", "disaggregatedset-rollout-pod-extractor": "",
	"openai-parser": "", "anthropic-parser": "", "vllmhttp-parser": "", "sglanghttp-parser": "", "vllmgrpc-parser": "",
	"vertexai-parser": "", "passthrough-parser": "",

	"file-discovery": "dataLayer", "multicluster-file-discovery": "dataLayer", "local-syncer": "dataLayer",

	"probabilistic-admitter": "flowControl", "latency-slo-admitter": "flowControl",
	"utilization-detector": "flowControl", "concurrency-detector": "flowControl",
	"global-strict-fairness-policy": "flowControl", "round-robin-fairness-policy": "flowControl", "program-aware-fairness": "flowControl",
	"fcfs-ordering-policy": "flowControl", "edf-ordering-policy": "flowControl", "slo-deadline-ordering-policy": "flowControl",
	"static-usage-limit-policy": "flowControl", "priority-holdback-policy": "flowControl", "soft-reflective-ceiling-policy": "flowControl",
	"sheddable-eviction-filter": "flowControl", "priority-then-time-eviction-order-policy": "flowControl",
}

var deprecated = map[string]string{
	"by-label":                    "use label-selector-filter",
	"by-label-selector":           "use label-selector-filter",
	"precise-prefix-cache-scorer": "use precise-prefix-cache-producer and prefix-cache-scorer",
	"pd-profile-handler":          "use disagg-profile-handler",
	"prefill-header-handler":      "use disagg-profile-handler",
	"disagg-headers-handler":      "use disagg-profile-handler",
}

const needsPrediction = "it needs predicted latencies; a type of one's own in Loader.Types can have them"

var unsupported = map[string]string{
	"predicted-latency-producer": needsPrediction,
	"slo-headroom-tier-filter":   needsPrediction,
	"latency-scorer":             needsPrediction,
	"lora-load-state-scorer":     "engines do not report yet where adapters are that no request uses",
}

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
