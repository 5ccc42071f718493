package prefix

import (
	"cmp"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
)

// Source finds, once an endpoint is chosen, another one that its engine can fetch KV blocks of the prompt from
// (Decision.Source): of those that have within one block of the most that any endpoint has cached, one drawn with a weight of
// 1/(1+waiting), or of 1/(1+requests in flight) where the engine has not reported its queue lately. There is none unless it
// saves MinGain tokens. Put it among a profile's producers, beside one that fills Match.
//
// It is llm-d's p2p-source-producer, which draws by a hash of the request's ID.
type Source struct {
	// MinGain is how many more tokens of the prompt a source must have than the chosen endpoint; 0 means 1.
	MinGain int `json:"minCachedTokenDelta,omitempty"`
}

// Produce implements scheduling.Producer.
func (Source) Produce(*scheduling.Cycle) {}

// Commit implements scheduling.Committer.
func (s Source) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	c.Source = scheduling.Source{}
	if !c.Match.Known {
		return
	}
	most := 0
	for _, slot := range c.Snapshot.Live() {
		most = max(most, int(c.Match.Cached[slot]))
	}
	least := int(c.Match.Cached[chosen]) + cmp.Or(s.MinGain, 1)
	if most < least {
		return
	}
	waiting, total := c.Metric(scheduling.Waiting), 0.0
	for _, slot := range c.Snapshot.Live() {
		e, cached := c.Endpoint(slot), int(c.Match.Cached[slot])
		if slot == chosen || cached < least || cached < most-cmp.Or(e.BlockTokens, DefaultBlockTokens) {
			continue
		}
		queue, known := waiting.At(slot)
		if !known {
			queue = float64(c.Requests(slot))
		}
		weight := 1 / (1 + queue)
		total += weight
		if c.Float64()*total < weight { // the i-th replaces the one held with the probability of its share so far
			c.Source = scheduling.Source{Endpoint: e, CachedTokens: cached}
		}
	}
}

// Validate implements scheduling.Validator.
func (s Source) Validate() error {
	if s.MinGain < 0 {
		return fmt.Errorf("minCachedTokenDelta %d: negative", s.MinGain)
	}
	return nil
}
