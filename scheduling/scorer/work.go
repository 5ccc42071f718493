package scorer

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
)

// TokenLoad is llm-d's token-load-scorer: 1 for an endpoint with nothing to prefill, falling to 0 at Tokens, what this
// process has there and this request would add. It reads the ledger and never abstains.
type TokenLoad struct {
	// Tokens is the load that scores 0; 0 means 4194304.
	Tokens float64 `json:"queueThresholdTokens,omitempty"`
}

// Score implements scheduling.Scorer.
func (s TokenLoad) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	share := 1 / cmp.Or(s.Tokens, 4194304)
	for i, slot := range slots {
		scores[i] = max(0, 1-float64(c.PrefillTokens(slot)+c.Uncached(slot))*share)
	}
}

// Validate implements scheduling.Validator.
func (s TokenLoad) Validate() error { return notNegative("queueThresholdTokens", s.Tokens) }

// ActiveRequests is llm-d's active-request-scorer: 1 up to Idle requests in flight, else MaxBusy·(most-n)/most, most being
// what the busiest candidate has. It reads the ledger and never abstains.
type ActiveRequests struct {
	// Idle is how many requests count as none.
	Idle int `json:"idleThreshold,omitempty"`
	// MaxBusy is what an endpoint that is not idle can score at most; 0 means 1.
	MaxBusy float64 `json:"maxBusyScore,omitempty"`
}

// Score implements scheduling.Scorer.
func (s ActiveRequests) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	most := 1
	for _, slot := range slots {
		most = max(most, c.Requests(slot))
	}
	scale := cmp.Or(s.MaxBusy, 1) / float64(most)
	for i, slot := range slots {
		if n := c.Requests(slot); n <= s.Idle {
			scores[i] = 1
		} else {
			scores[i] = float64(most-n) * scale
		}
	}
}

// Validate implements scheduling.Validator.
func (s ActiveRequests) Validate() error {
	var busy error
	if !(s.MaxBusy >= 0 && s.MaxBusy <= 1) {
		busy = fmt.Errorf("maxBusyScore %v: want a number from 0 to 1", s.MaxBusy)
	}
	return errors.Join(notNegative("idleThreshold", float64(s.Idle)), busy)
}

// LMetric prefers the endpoint where prompt tokens to prefill, what this process has there and this request would add, times
// requests in flight, this one included, is least. It rescales between the candidates, reads the ledger and never abstains.
// It is the lmetric of llm-d, SGLang and Dynamo, whose counts differ in what they take in.
type LMetric struct{}

// Score implements scheduling.Scorer.
func (LMetric) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		scores[i] = float64(c.PrefillTokens(slot)+c.Uncached(slot)) * float64(c.Requests(slot)+1)
	}
	rescale(scores)
}

// Dynamo is the cost of NVIDIA Dynamo's KV router, in blocks:
//
//	PrefillScale·max(0, prefill + incoming - OverlapCredit·cached) + decode + RequestWeight·requests
//
// prefill is what is in flight to be prefilled, incoming the prompt, cached its match, decode the KV memory that requests in
// flight take up. The lowest cost scores 1 and the highest 0, so that picker.Softmax with Dynamo's temperature gives
// Dynamo's probabilities. It reads the ledger and never abstains.
//
// Dynamo counts whole blocks and blocks that requests share once; here a block is a fraction of tokens, and requests share
// nothing. Its credits for host memory, disks and shared caches are left out.
type Dynamo struct {
	// PrefillScale is prefill_load_scale; 0 means 1.
	PrefillScale float64 `json:"prefillLoadScale,omitempty"`
	// OverlapCredit is kv_overlap_score_credit; 0 means 1.
	OverlapCredit float64 `json:"overlapScoreCredit,omitempty"`
	// RequestWeight is decode_active_request_weight.
	RequestWeight float64 `json:"activeRequestWeight,omitempty"`
	// BlockTokens stands in for endpoints that have not said their block size; 0 means 16.
	BlockTokens int `json:"blockTokens,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Dynamo) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	scale, credit, block := cmp.Or(s.PrefillScale, 1), cmp.Or(s.OverlapCredit, 1), cmp.Or(s.BlockTokens, 16)
	for i, slot := range slots {
		prefill := float64(c.PrefillTokens(slot) + c.PromptTokens)
		if c.Match.Known {
			prefill -= credit * float64(c.Match.Cached[slot])
		}
		tokens := scale*max(0, prefill) + float64(c.KVTokens(slot))
		scores[i] = tokens/float64(cmp.Or(c.Endpoint(slot).BlockTokens, block)) + s.RequestWeight*float64(c.Requests(slot))
	}
	rescale(scores)
}

// Validate implements scheduling.Validator.
func (s Dynamo) Validate() error {
	return errors.Join(notNegative("prefillLoadScale", s.PrefillScale), notNegative("overlapScoreCredit", s.OverlapCredit),
		notNegative("activeRequestWeight", s.RequestWeight), notNegative("blockTokens", float64(s.BlockTokens)))
}
