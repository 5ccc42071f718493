package policy

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/latency/llmd"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// The profiles below are other projects' policies on our pool, ledger and prefix index, from their published formulas. All
// differ from the originals in the same four ways, which favour them: choosing and accounting are one step, so bursts do
// not herd between two reports; what is missing or stale is abstained from, not taken for 0; ties go to the fewest requests
// in flight; the prefix match is contiguous. docs/policies.md lists the formulas and the other differences.

// LLMD is llm-d's default: 2 for a short queue, 2 for a free KV cache, 3 for the cached fraction of the prompt, the highest
// sum wins. The queue is what the engines reported last, rescaled between the candidates.
func LLMD(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Scorers: []scheduling.Weighted{
			{Scorer: scorer.Linear{Metric: scheduling.Waiting}, Weight: 2},
			{Scorer: scorer.KVUtilization{}, Weight: 2},
			{Scorer: scorer.Prefix{}, Weight: 3},
		},
		Picker: picker.MaxScore{},
	}
}

// LLMDTokenLoad is the default of llm-d's guides since August 2026, "bottleneck-matched": endpoints that have most of the
// prompt cached, unless they would start much later than the others; of those the one with the fewest prompt tokens to
// prefill.
func LLMDTokenLoad(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.PrefixAffinity{}},
		Scorers:   []scheduling.Weighted{{Scorer: scorer.TokenLoad{}}},
		Picker:    picker.MaxScore{},
	}
}

// LLMDPredictedLatency is llm-d's predicted-latency policy: endpoints that have nearly all of the prompt cached; of those the
// ones with headroom to the objectives; of those again the ones that have most of the prompt cached, unless they start much
// later; a draw by how little headroom is left. Requests of a priority below 0 that would miss their objectives are refused.
// running must be told of what ends, as llmd.Running says. The predictions are the model's, not those of llm-d's own predictor.
func LLMDPredictedLatency(index *prefix.Index, model *latency.Model, running *llmd.Running) scheduling.Profile {
	slo := llmd.SLO{Running: running}
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}, &latency.Producer{Model: model}, running},
		Filters: []scheduling.Filter{
			llmd.Admitter{SLO: slo},
			filter.PrefixAffinity{Threshold: .99, MaxPenaltyMs: -1},
			llmd.HeadroomTier{SLO: slo},
			filter.PrefixAffinity{MaxPenaltyMs: 5000},
		},
		Scorers: []scheduling.Weighted{{Scorer: llmd.LatencyScorer{SLO: slo}}},
		Picker:  picker.WeightedRandom{},
	}
}

// Dynamo is NVIDIA Dynamo's KV router with its standard weights: the least sum of blocks to prefill and blocks in use, or at a
// temperature above 0 a draw by softmax.
func Dynamo(index *prefix.Index, temperature float64) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Scorers:   []scheduling.Weighted{{Scorer: scorer.Dynamo{}}},
		Picker:    picker.Softmax{Temperature: temperature},
	}
}

// SGLangCacheAware is cache_aware of SGLang's model gateway with the standard thresholds of its command line.
func SGLangCacheAware(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.CacheAware{}},
	}
}

// SGLangPrefixHash is prefix_hash of SGLang's model gateway: the first 256 tokens say where, within 1.25 times the mean load.
func SGLangPrefixHash() scheduling.Profile {
	return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.PrefixHash{}}}}
}

// AIBrixPrefixCache is prefix-cache of AIBrix with the standard values of its code.
func AIBrixPrefixCache(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.BalancedPrefix{}},
	}
}

// ProductionStackSession is session of the vLLM production stack: a hash ring of sessions. A request without a session goes
// where the fewest are in flight; the original looks at the rate of requests.
func ProductionStackSession() scheduling.Profile {
	return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: &scorer.Ring{}}}}
}

// ProductionStackPrefix is prefixaware of the vLLM production stack: any of the endpoints that have the longest part of the
// prompt. The original never forgets a prompt; the index here forgets as engines do.
func ProductionStackPrefix(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.LongestPrefix{}},
		Picker:    picker.Random{},
	}
}
