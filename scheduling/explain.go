package scheduling

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Explanation is how a decision came about. Its JSON reads back into the same value; docs/explain.md describes it, and its names
// stay as they are.
type Explanation struct {
	Model        string `json:"model"`
	Adapter      string `json:"adapter,omitempty"`
	PromptTokens int    `json:"prompt_tokens"`
	// Stage is whose choice this is, where there are stages. That of the primary one has those of the others in Stages, and
	// names those that did not run.
	Stage   string         `json:"stage,omitempty"`
	Stages  []*Explanation `json:"stages,omitempty"`
	Skipped []string       `json:"skipped,omitempty"`
	// Attempts is more than 1 if others placed requests on the choice while it was being made.
	Attempts int `json:"attempts"`
	// Removed are the endpoints that filters took out.
	Removed []Removal `json:"removed,omitempty"`
	// Candidates are the others: by rank, then by total, then by name.
	Candidates []Candidate `json:"candidates"`

	slots []Slot // before a filter, while the pick runs
}

// Removal is an endpoint that a filter took out.
type Removal struct {
	Filter   string `json:"filter"`
	Endpoint string `json:"endpoint"`
}

// Candidate is an endpoint that was scored.
type Candidate struct {
	Endpoint string `json:"endpoint"`
	// Rank is 1 for the choice, more for fallbacks, 0 for the rest.
	Rank          int     `json:"rank,omitempty"`
	Total         float64 `json:"total"`
	Requests      int     `json:"requests"`
	PrefillTokens int     `json:"prefill_tokens"`
	KVTokens      int     `json:"kv_tokens"`
	CachedTokens  int     `json:"cached_tokens"`
	// TTFT and TPOT are the predictions in seconds, and Meets the probability that the objectives are met.
	TTFT   float64 `json:"ttft_seconds,omitempty"`
	TPOT   float64 `json:"tpot_seconds,omitempty"`
	Meets  float64 `json:"meets,omitempty"`
	Scores []Score `json:"scores,omitempty"`
}

// Score is one scorer's word on one endpoint.
type Score struct {
	Scorer    string  `json:"scorer"`
	Weight    float64 `json:"weight"`
	Score     float64 `json:"score"`
	Abstained bool    `json:"abstained,omitempty"`
}

// explanation returns one for a stage, to be filled in.
func (st *stage) explanation(c *Cycle, attempts int) *Explanation {
	r := c.Request
	return &Explanation{
		Model: r.Model, Adapter: r.Adapter, Stage: st.name, PromptTokens: c.PromptTokens, Attempts: attempts, Candidates: []Candidate{},
	}
}

// The methods below do nothing on a nil Explanation, which is what a pick has that was not asked for one.

func (x *Explanation) before(slots []Slot) {
	if x != nil {
		x.slots = slices.Clone(slots)
	}
}

func (x *Explanation) removed(c *Cycle, filter string, kept []Slot) {
	if x == nil {
		return
	}
	keeps := newBitset(c.Snapshot.Len())
	for _, slot := range kept {
		keeps.set(slot)
	}
	for _, slot := range x.slots {
		if keeps.bit(slot) == 0 {
			x.Removed = append(x.Removed, Removal{filter, c.Endpoint(slot).ID})
		}
	}
	x.slots = nil
}

// candidates takes in those that will have a word of so many scorers.
func (x *Explanation) candidates(c *Cycle, slots []Slot, scorers int) {
	if x == nil {
		return
	}
	x.Candidates = slices.Grow(x.Candidates, len(slots))
	var scores []Score
	if scorers > 0 {
		scores = make([]Score, scorers*len(slots))
	}
	for i, slot := range slots {
		candidate := Candidate{
			Endpoint:      c.Endpoint(slot).ID,
			Requests:      c.Requests(slot),
			PrefillTokens: c.PrefillTokens(slot),
			KVTokens:      c.KVTokens(slot),
			CachedTokens:  int(c.Match.Cached[slot]),
			Scores:        scores[i*scorers : i*scorers : (i+1)*scorers],
		}
		if p := c.Prediction(slot); p != nil {
			candidate.TTFT, candidate.TPOT, candidate.Meets = p.TTFT, p.TPOT, p.Meets
		}
		x.Candidates = append(x.Candidates, candidate)
	}
}

func (x *Explanation) scored(scorer string, weight float64, scores []float64) {
	if x == nil {
		return
	}
	for i, v := range scores {
		s := Score{Scorer: scorer, Weight: weight, Score: v}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			s.Score, s.Abstained = 0, true
		}
		x.Candidates[i].Scores = append(x.Candidates[i].Scores, s)
	}
}

func (x *Explanation) totals(totals []float64) {
	if x == nil {
		return
	}
	for i, v := range totals {
		x.Candidates[i].Total = v
	}
}

// rank marks the ranked candidates and puts them first.
func (x *Explanation) rank(ranked []int) {
	if x == nil {
		return
	}
	for rank, i := range ranked {
		x.Candidates[i].Rank = rank + 1
	}
	order := func(c *Candidate) int { return cmp.Or(c.Rank, MaxRanked+1) }
	slices.SortFunc(x.Candidates, func(a, b Candidate) int {
		return cmp.Or(order(&a)-order(&b), cmp.Compare(b.Total, a.Total), strings.Compare(a.Endpoint, b.Endpoint))
	})
}

// stages adds what the other stages chose, or that they did not run.
func (x *Explanation) stages(p *plan, legs []leg) {
	if x == nil {
		return
	}
	for i := range p.stages {
		st := &p.stages[i]
		at := slices.IndexFunc(legs, func(l leg) bool { return l.stage == st })
		switch {
		case at < 0:
			x.Skipped = append(x.Skipped, st.name)
		case !st.primary():
			x.Stages = append(x.Stages, legs[at].explanation)
		}
	}
}
