package scorer

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
)

// Prefix prefers endpoints that have the prompt's prefix cached: the score is the cached fraction of the prompt. Use it
// with filter.Overload, or a popular prefix piles up on the endpoint that saw it first. It abstains if no producer has
// looked the prompt up.
//
// With a LengthWeight w it is llm-d's prefix-cache-scorer of the same matchLengthWeight: (1-w)·fraction +
// w·min(1, cached/LengthScale)².
type Prefix struct {
	// LengthWeight is how much the length counts that is cached, whatever the prompt's, from 0 to 1.
	LengthWeight float64 `json:"matchLengthWeight,omitempty"`
	// LengthScale is the length in tokens that counts in full; 0 means 8192.
	LengthScale float64 `json:"matchLengthScaleTokens,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Prefix) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if !c.Match.Known || c.PromptTokens == 0 {
		abstain(scores)
		return
	}
	share := (1 - s.LengthWeight) / float64(c.PromptTokens)
	if s.LengthWeight == 0 {
		for i, slot := range slots {
			scores[i] = float64(c.Match.Cached[slot]) * share
		}
		return
	}
	scale := 1 / cmp.Or(s.LengthScale, 8192)
	for i, slot := range slots {
		cached := float64(c.Match.Cached[slot])
		length := min(1, cached*scale)
		scores[i] = cached*share + s.LengthWeight*length*length
	}
}

// Validate implements scheduling.Validator.
func (s Prefix) Validate() error {
	var weight error
	if !(s.LengthWeight >= 0 && s.LengthWeight <= 1) {
		weight = fmt.Errorf("matchLengthWeight %v: want a number from 0 to 1", s.LengthWeight)
	}
	return errors.Join(weight, notNegative("matchLengthScaleTokens", s.LengthScale))
}

// Media prefers endpoints that have encoded the request's images, sounds and films before: the score is their share by size. It is
// llm-d's mm-embeddings-cache-scorer. It abstains for requests without any, and if no producer has looked them up.
type Media struct{}

// Score implements scheduling.Scorer.
func (Media) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	total := 0.0
	for i := range c.Request.Media {
		total += float64(max(c.Request.Media[i].Size, 0))
	}
	if len(c.Match.Media) == 0 || total == 0 {
		abstain(scores)
		return
	}
	share := 1 / total
	for i, slot := range slots {
		scores[i] = float64(c.Match.Media[slot]) * share
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

// Pinned prefers the endpoint that the client asks to come back to (Request.Pinned): it scores 1 and the others 0. It abstains
// for requests that ask for none, and where that endpoint is not a candidate. It is the soft form of session affinity:
// its weight says against how much load it holds.
type Pinned struct{}

// Score implements scheduling.Scorer.
func (Pinned) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	found := false
	if id := c.Request.Pinned; id != "" {
		for i, slot := range slots {
			scores[i] = 0
			if c.Endpoint(slot).ID == id {
				scores[i], found = 1, true
			}
		}
	}
	if !found {
		abstain(scores)
	}
}

// HeaderLabel is llm-d's header-label-affinity-scorer: 1 for endpoints whose label has the value of a request header, else 0.
// It abstains for requests without the header. Use it by pointer.
type HeaderLabel struct {
	Header string `json:"headerName"`
	Label  string `json:"labelKey"`

	values scheduling.PerLayout[[]string]
}

// Score implements scheduling.Scorer.
func (s *HeaderLabel) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	want := ""
	if c.Request.Header != nil {
		want = c.Request.Header(s.Header)
	}
	if want == "" {
		abstain(scores)
		return
	}
	values := s.values.Of(c.Snapshot, func(snap *scheduling.Snapshot) []string {
		return scheduling.BySlot(snap, func(e *scheduling.Endpoint) string { return e.Labels[s.Label] })
	})
	for i, slot := range slots {
		scores[i] = 0
		if values[slot] == want {
			scores[i] = 1
		}
	}
}

// Validate implements scheduling.Validator.
func (s *HeaderLabel) Validate() error {
	var problems []error
	if s.Header == "" {
		problems = append(problems, errors.New("headerName: empty"))
	}
	if s.Label == "" {
		problems = append(problems, errors.New("labelKey: empty"))
	}
	return errors.Join(problems...)
}

// Topology prefers endpoints close to the request's peer, by llm-d's steps: the same host scores 1, rack 0.2, zone 0.05,
// region 0.02, none of them 0. It abstains for requests without a peer. Use it by pointer.
type Topology struct {
	// Labels say where endpoints are.
	Labels scheduling.Topology `json:"labels,omitzero"`

	places scheduling.PerLayout[*scheduling.Places]
}

// Score implements scheduling.Scorer.
func (s *Topology) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Peer == nil {
		abstain(scores)
		return
	}
	around := s.places.Of(c.Snapshot, s.Labels.Places).Around(c.Peer)
	for i, slot := range slots {
		scores[i] = proximityScores[around.At(slot)]
	}
}

var proximityScores = [...]float64{
	scheduling.Anywhere:   0,
	scheduling.SameRegion: 0.02,
	scheduling.SameZone:   0.05,
	scheduling.SameRack:   0.2,
	scheduling.SameHost:   1,
}
