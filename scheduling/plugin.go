package scheduling

import "math"

// Abstain is the score of an endpoint of which a scorer knows nothing. Any value that is not finite means the same.
var Abstain = math.NaN()

// Producer computes what several plugins need, once a pick and before any filter; above all Cycle.Match. The ledger has not
// been read yet then.
type Producer interface {
	Produce(c *Cycle)
}

// Validator is a plugin that can be given parameters that make no sense. New refuses those with Validate's error.
type Validator interface {
	Validate() error
}

// Committer is a plugin, of any kind, that learns from choices. Commit runs inside Pick, once the choice is on the ledger, so
// the next pick already sees what it changed; and inside Next, for the endpoint that the request moves to.
type Committer interface {
	Commit(c *Cycle, chosen Slot)
}

// Inheritor is a plugin that can go on with what another of its type has learned. A new configuration that only changes the
// parameters of a plugin calls Inherit on the new one before it is used; the old one may still be in use then, and for a while
// after.
type Inheritor interface {
	Inherit(old any)
}

// Filter keeps some of the slots: it returns a prefix of the slice that it was given, rearranged as it likes
// (slices.DeleteFunc does just that).
type Filter interface {
	Filter(c *Cycle, slots []Slot) []Slot
}

// Scorer writes scores[i], between 0 and 1 and higher is better, for every slots[i]; or Abstain. What is outside is
// clamped.
type Scorer interface {
	Score(c *Cycle, slots []Slot, scores []float64)
}

// Picker appends to ranked the positions in slots of its choice and of the fallbacks, best first and as many as ranked has
// room for. All of slots is eligible and never empty. Cycle.Rank orders by score.
type Picker interface {
	Pick(c *Cycle, slots []Slot, scores []float64, ranked []int) []int
}

// Weighted is a scorer and its weight relative to the others of its profile. Weight 0 means 1.
type Weighted struct {
	Scorer Scorer  `json:"scorer"`
	Weight float64 `json:"weight,omitempty"`
}

// Profile is a way to choose. All plugins must be safe for concurrent use. The zero Profile chooses the endpoint with
// the fewest requests in flight.
type Profile struct {
	Producers []Producer `json:"producers,omitempty"`
	Filters   []Filter   `json:"filters,omitempty"`
	Scorers   []Weighted `json:"scorers,omitempty"`
	// Picker nil orders by score, ties by the fewest requests in flight and then at random.
	Picker Picker `json:"picker,omitempty"`
}
