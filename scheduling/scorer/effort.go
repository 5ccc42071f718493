package scorer

import (
	"cmp"
	"errors"

	"github.com/inferloom/inferloom/scheduling"
)

// Effort prefers the endpoint where placing the request costs the least, in tokens of prefill, so that nobody needs to know how
// fast engines are:
//
//	ahead + (Uncached + crowding)·uncached + PerRequest·requests + adapter
//
// ahead is what is there to prefill, and uncached the part of the prompt that the endpoint does not have cached: together the
// time to the request's first token. uncached counts more than once because it also delays those who come next. Of these there
// are more the longer the queues are: crowding is the candidates' mean of ahead over Crowd, at most 3. That decides between
// waiting for a cached prefix and computing it anew. requests are those in flight, each of which slows a step down a little. An
// adapter costs AdapterTokens where it has to be loaded, and twice that where another has to go for it.
//
// What this process placed is known from the ledger. Requests that other processes placed show in the engines' reports only:
// they count among requests, and PerQueued tokens ahead for each that waits. It never abstains. The score is
// HalfAt/(HalfAt+cost), so alone it chooses the least cost exactly.
type Effort struct {
	// Uncached is how often a token counts that the request itself has to prefill, while nothing else has to be; 0 means 2.
	Uncached float64 `json:"uncached,omitempty"`
	// Crowd is how many tokens ahead, on average, make it count once more; 0 means 4096.
	Crowd float64 `json:"crowd,omitempty"`
	// PerRequest is how many tokens a request in flight counts as; 0 means 64.
	PerRequest float64 `json:"perRequest,omitempty"`
	// PerQueued is how many tokens a request of another process that waits in the engine counts as; 0 means 2048.
	PerQueued float64 `json:"perQueued,omitempty"`
	// AdapterTokens is how many tokens loading a LoRA adapter counts as; 0 means 8192.
	AdapterTokens float64 `json:"adapterTokens,omitempty"`
	// HalfAt is the cost that scores 0.5; 0 means 16384.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// mostCrowding bounds how much more often an uncached token can count: under overload it is as well to prefill what is nearest.
const mostCrowding = 3

// Score implements scheduling.Scorer.
func (s Effort) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	perRequest, perQueued := cmp.Or(s.PerRequest, 64), cmp.Or(s.PerQueued, 2048)
	others := c.Others()
	total := 0.0
	for i, slot := range slots {
		requests, queued := others.At(slot)
		ahead := float64(c.PrefillTokens(slot)) + perQueued*queued
		total += ahead
		scores[i] = ahead + perRequest*(float64(c.Requests(slot))+requests)
	}
	if c.Request.Adapter != "" {
		s.addAdapter(c, slots, scores)
	}
	crowding := min(mostCrowding, total/(float64(len(slots))*cmp.Or(s.Crowd, 4096)))
	each, half := cmp.Or(s.Uncached, 2)+crowding, halfOr(s.HalfAt, 16384)
	for i, slot := range slots {
		scores[i] = falling(scores[i]+each*float64(c.Uncached(slot)), half)
	}
}

func (s Effort) addAdapter(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	load := cmp.Or(s.AdapterTokens, 8192)
	loads := [...]float64{
		scheduling.ResidencyUnknown: load,
		scheduling.NotResident:      2 * load,
		scheduling.AdapterWaiting:   load,
		scheduling.AdapterFree:      load,
		scheduling.AdapterActive:    0,
	}
	adapter := c.Adapter()
	for i, slot := range slots {
		costs[i] += loads[adapter.At(slot)]
	}
}

// Validate implements scheduling.Validator.
func (s Effort) Validate() error {
	return errors.Join(notNegative("uncached", s.Uncached), notNegative("crowd", s.Crowd), notNegative("perRequest", s.PerRequest),
		notNegative("perQueued", s.PerQueued), notNegative("adapterTokens", s.AdapterTokens), notNegative("halfAt", s.HalfAt))
}
