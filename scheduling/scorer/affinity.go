package scorer

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/zeebo/xxh3"
)

// Prefix prefers endpoints that have the prompt's prefix cached: the score is the cached fraction of the prompt. Use it
// with filter.Overload, or a popular prefix piles up on the endpoint that saw it first. It abstains if no producer has
// looked the prompt up.
type Prefix struct{}

// Score implements scheduling.Scorer.
func (Prefix) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if !c.Match.Known || c.PromptTokens == 0 {
		abstain(scores)
		return
	}
	share := 1 / float64(c.PromptTokens)
	for i, slot := range slots {
		scores[i] = float64(c.Match.Cached[slot]) * share
	}
}

// LoRA prefers endpoints that can run the request's adapter soon: 1 where it is running, 0.8 where a slot is free for it,
// 0.6 where requests for it wait already, else 0. These are the steps of llm-d's lora-affinity-scorer. It abstains for
// requests without an adapter, and where the engine has not said what it runs or the word is stale.
type LoRA struct{}

// Score implements scheduling.Scorer.
func (LoRA) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.Adapter == "" {
		abstain(scores)
		return
	}
	adapter := c.Adapter()
	for i, slot := range slots {
		scores[i] = residencyScores[adapter.At(slot)]
	}
}

var residencyScores = [...]float64{
	scheduling.ResidencyUnknown: scheduling.Abstain,
	scheduling.NotResident:      0,
	scheduling.AdapterWaiting:   0.6,
	scheduling.AdapterFree:      0.8,
	scheduling.AdapterActive:    1,
}

// Session keeps the requests of a session together without remembering it: rendezvous hashing of the session and the
// endpoint's ID, highest wins (Thaler and Ravishankar, 1998). The winner scores 1 and the others 0; when an endpoint
// comes or goes, only the sessions that it wins or won move. It abstains for requests without a session.
type Session struct{}

// Score implements scheduling.Scorer.
func (Session) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.Session == "" {
		abstain(scores)
		return
	}
	key := xxh3.HashString(c.Request.Session)
	best, highest := 0, uint64(0)
	for i, slot := range slots {
		scores[i] = 0
		if h := xxh3.HashStringSeed(c.Endpoint(slot).ID, key); h >= highest {
			best, highest = i, h
		}
	}
	scores[best] = 1
}
