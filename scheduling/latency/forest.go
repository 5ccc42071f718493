package latency

import (
	"math"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency/trees"
)

// Trees are boosted trees that predict times in milliseconds, by the features of llm-d's latency predictor, whose names they
// must have: kv_cache_percentage, input_token_length, num_request_waiting, num_request_running, num_tokens_generated,
// prefix_cache_score, pod_type, prefill_tokens_in_flight, decode_tokens_in_flight, is_queued, effective_input_tokens. A feature
// of another name is missing to them. One that is nil is not used.
type Trees struct {
	TTFT, TPOT *trees.Model
}

// forest is a class's trees and where their features come from.
type forest struct {
	models  [targets]*trees.Model
	sources [targets][]func(v *[counts]float32) float32
}

// maxTreeFeatures is how many features trees may have: more than there are names for.
const maxTreeFeatures = 32

var sources = map[string]func(v *[counts]float32) float32{
	"kv_cache_percentage":      func(v *[counts]float32) float32 { return v[kvUsage] },
	"input_token_length":       func(v *[counts]float32) float32 { return v[prompt] },
	"num_request_waiting":      func(v *[counts]float32) float32 { return v[waiting] },
	"num_request_running":      func(v *[counts]float32) float32 { return v[requests] },
	"num_tokens_generated":     func(*[counts]float32) float32 { return 0 },
	"prefix_cache_score":       func(v *[counts]float32) float32 { return 1 - v[uncached]/max(v[prompt], 1) },
	"prefill_tokens_in_flight": func(v *[counts]float32) float32 { return v[ahead] },
	"decode_tokens_in_flight":  func(v *[counts]float32) float32 { return max(0, v[kvTokens]-v[ahead]) },
	"effective_input_tokens":   func(v *[counts]float32) float32 { return v[uncached] },
	"is_queued": func(v *[counts]float32) float32 {
		if v[waiting] > 0 {
			return 1
		}
		return 0
	},
}

func missing(*[counts]float32) float32 { return float32(math.NaN()) }

// plant gives a class its trees, unless it has some. Those with too many features are left out.
func (k *class) plant(t *Trees, e *scheduling.Endpoint) {
	if t == nil {
		return
	}
	f := &forest{models: [targets]*trees.Model{t.TTFT, t.TPOT}}
	for target, model := range f.models {
		if model == nil {
			continue
		}
		if model.Count > maxTreeFeatures {
			f.models[target] = nil
			continue
		}
		for i := range model.Count {
			source := missing
			if i < len(model.Features) {
				if known, ok := sources[model.Features[i]]; ok {
					source = known
				} else if model.Features[i] == "pod_type" {
					role := map[scheduling.Role]string{scheduling.Prefill: "prefill", scheduling.Decode: "decode"}[e.Role]
					if v, ok := model.Category(i, role); ok {
						source = func(*[counts]float32) float32 { return v }
					}
				}
			}
			f.sources[target] = append(f.sources[target], source)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trees == nil {
		k.trees = f
		k.publish(ttft)
		k.publish(tpot)
	}
}

// seconds returns what the trees predict of a time; false where there are none for it.
func (f *forest) seconds(target int, v *[counts]float32) (seconds float64, ok bool) {
	model := f.models[target]
	if model == nil {
		return 0, false
	}
	var x [maxTreeFeatures]float32
	for i, source := range f.sources[target] {
		x[i] = source(v)
	}
	return model.Predict(x[:model.Count]) / 1000, true
}
