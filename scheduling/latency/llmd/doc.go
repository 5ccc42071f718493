// Package llmd is what llm-d makes of predicted latencies, by its formulas: the headers that carry objectives, the headroom to
// them, the filter, scorer and admission that go by it. The predictions are whoever's are in the profile: of latency.Producer,
// or of llm-d's own predictor through package sidecar.
//
//	r.TTFT, r.TPOT = llmd.Objectives(header)
//	running := llmd.NewRunning()
//	slo := llmd.SLO{Running: running}
//	profile := scheduling.Profile{
//		Producers: []scheduling.Producer{&latency.Producer{Model: model}, running},
//		Filters:   []scheduling.Filter{llmd.Admitter{SLO: slo}, llmd.HeadroomTier{SLO: slo}},
//		Scorers:   []scheduling.Weighted{{Scorer: llmd.LatencyScorer{SLO: slo}}},
//		Picker:    picker.WeightedRandom{},
//	}
//
// Headroom is the objective less the prediction. An objective that is not given is 0, so that all headroom is negative and the
// least latency wins, as in llm-d. The rules are those of llm-d-router in August 2026 (plugins predicted-latency-producer,
// slo-headroom-tier-filter, latency-scorer and latency-slo-admitter), except that a refusal is one for which a gateway answers
// 429, where llm-d's answers 500. Package latency has rules that use more of what is predicted.
package llmd
