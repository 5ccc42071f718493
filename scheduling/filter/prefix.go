package filter

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// PrefixAffinity keeps the endpoints that have most of the prompt cached, while that costs no more time than it may: llm-d's
// prefix-cache-affinity-filter. Sticky are those with at least Threshold of the prompt. It keeps all where none or all are
// sticky, with probability Explore, and where the best sticky endpoint would start so much later than the best other one;
// else the sticky ones. An endpoint starts when what this process has there to prefill is done, at TokensPerSecond.
//
// llm-d counts whole blocks of its index, a partial last one included; here it is tokens.
type PrefixAffinity struct {
	// Threshold is the cached fraction that makes an endpoint sticky; 0 means 0.8.
	Threshold float64 `json:"affinityThreshold,omitempty"`
	// Explore is the probability with which affinity does not matter.
	Explore float64 `json:"explorationProbability,omitempty"`
	// MaxPenaltyMs is how much later the best sticky endpoint may start, in milliseconds; 0 means 18000, a negative number
	// that it does not matter.
	MaxPenaltyMs float64 `json:"maxTTFTPenaltyMs,omitempty"`
	// TokensPerSecond is the prefill throughput of one endpoint; 0 means 15928, of two H100 with Qwen3-32B on vLLM.
	TokensPerSecond float64 `json:"peakPrefillThroughput,omitempty"`
}

// Filter implements scheduling.Filter.
func (f PrefixAffinity) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if !c.Match.Known || c.PromptTokens == 0 {
		return slots
	}
	least := cmp.Or(f.Threshold, .8) * float64(c.PromptTokens)
	stickies, soonest, soonestOther := 0, math.MaxInt, math.MaxInt // tokens to prefill first
	for _, slot := range slots {
		if tokens := c.PrefillTokens(slot); float64(c.Match.Cached[slot]) >= least {
			stickies++
			soonest = min(soonest, tokens)
		} else {
			soonestOther = min(soonestOther, tokens)
		}
	}
	if stickies == 0 || stickies == len(slots) || f.Explore > 0 && c.Float64() < f.Explore {
		return slots
	}
	penalty := 1000 * float64(soonest-soonestOther) / cmp.Or(f.TokensPerSecond, 15928)
	if allowed := cmp.Or(f.MaxPenaltyMs, 18000); allowed >= 0 && penalty > allowed {
		return slots
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return float64(c.Match.Cached[slot]) < least })
}

// Validate implements scheduling.Validator.
func (f PrefixAffinity) Validate() error {
	return errors.Join(fraction("affinityThreshold", f.Threshold), fraction("explorationProbability", f.Explore),
		notNegative("maxTTFTPenaltyMs", max(0, f.MaxPenaltyMs)), notNegative("peakPrefillThroughput", f.TokensPerSecond))
}

// CacheAware is SGLang's cache_aware policy. Where the requests in flight differ by more than BalanceAbs and the most are
// more than BalanceRel times the fewest, it keeps the endpoints with the fewest. Else, if the best match is more than
// Threshold of the prompt, it keeps those with that match, and if not, those with the fewest requests.
//
// SGLang matches characters in a tree that forgets on a timer, ours is whatever the producer says; older versions of SGLang
// send a prompt without a match to the endpoint with the smallest tree.
type CacheAware struct {
	// Threshold is the matched fraction from which affinity matters; 0 means 0.3.
	Threshold float64 `json:"cacheThreshold,omitempty"`
	// BalanceAbs is in requests; 0 means 64.
	BalanceAbs float64 `json:"balanceAbsThreshold,omitempty"`
	// BalanceRel is a factor; 0 means 1.5.
	BalanceRel float64 `json:"balanceRelThreshold,omitempty"`
}

// Filter implements scheduling.Filter.
func (f CacheAware) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	fewest, most, longest := math.MaxInt, 0, int32(0)
	for _, slot := range slots {
		n := c.Requests(slot)
		fewest, most = min(fewest, n), max(most, n)
		if c.Match.Known {
			longest = max(longest, c.Match.Cached[slot])
		}
	}
	imbalanced := float64(most-fewest) > cmp.Or(f.BalanceAbs, 64) && float64(most) > cmp.Or(f.BalanceRel, 1.5)*float64(fewest)
	if !imbalanced && float64(longest) > cmp.Or(f.Threshold, .3)*float64(c.PromptTokens) {
		return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return c.Match.Cached[slot] != longest })
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return c.Requests(slot) != fewest })
}

// Validate implements scheduling.Validator.
func (f CacheAware) Validate() error {
	return errors.Join(fraction("cacheThreshold", f.Threshold), notNegative("balanceAbsThreshold", f.BalanceAbs),
		notNegative("balanceRelThreshold", f.BalanceRel))
}

// BalancedPrefix is AIBrix' prefix-cache strategy. Where the requests in flight differ by more than MaxImbalance, it keeps the
// endpoints with the fewest. Else it keeps, of those with a match and at most mean + Deviations·σ requests, the ones with the
// longest match, and of these the fewest requests. If there are none such, it keeps the endpoints with the fewest requests.
type BalancedPrefix struct {
	// MaxImbalance is in requests; 0 means 8.
	MaxImbalance float64 `json:"maxImbalance,omitempty"`
	// Deviations is how many standard deviations above the mean an endpoint may be; 0 means 1.
	Deviations float64 `json:"deviations,omitempty"`
}

// Filter implements scheduling.Filter.
func (f BalancedPrefix) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	fewest, most, sum, squares := math.MaxInt, 0, 0.0, 0.0
	for _, slot := range slots {
		n := c.Requests(slot)
		fewest, most = min(fewest, n), max(most, n)
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	longest, requests := int32(0), 0 // of the best that have a match and are not too busy
	if c.Match.Known && float64(most-fewest) <= cmp.Or(f.MaxImbalance, 8) {
		mean := sum / float64(len(slots))
		bound := mean + cmp.Or(f.Deviations, 1)*math.Sqrt(max(0, squares/float64(len(slots))-mean*mean))
		for _, slot := range slots {
			cached, n := c.Match.Cached[slot], c.Requests(slot)
			if float64(n) <= bound && (cached > longest || cached > 0 && cached == longest && n < requests) {
				longest, requests = cached, n
			}
		}
	}
	if longest > 0 {
		return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
			return c.Match.Cached[slot] != longest || c.Requests(slot) != requests
		})
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return c.Requests(slot) != fewest })
}

// Validate implements scheduling.Validator.
func (f BalancedPrefix) Validate() error {
	return errors.Join(notNegative("maxImbalance", f.MaxImbalance), notNegative("deviations", f.Deviations))
}

// LongestPrefix keeps the endpoints with the longest match if it is at least MinTokens, else all: the production stack's
// prefixaware, whose MinTokens is 0. Nothing in it looks at load.
type LongestPrefix struct {
	MinTokens int `json:"minTokens,omitempty"`
}

// Filter implements scheduling.Filter.
func (f LongestPrefix) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if !c.Match.Known {
		return slots
	}
	longest := int32(0)
	for _, slot := range slots {
		longest = max(longest, c.Match.Cached[slot])
	}
	if int(longest) < f.MinTokens {
		return slots
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return c.Match.Cached[slot] != longest })
}

// Validate implements scheduling.Validator.
func (f LongestPrefix) Validate() error { return notNegative("minTokens", float64(f.MinTokens)) }
