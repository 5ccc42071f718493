package config

import (
	"cmp"
	"math"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
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
