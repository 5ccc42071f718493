package filter

import (
	"cmp"
	"errors"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Overload removes endpoints that have far more to do than the others: more than Slack + Factor·mean requests of this
// process in flight, the mean being over the candidates. It never removes all. Whatever attracts requests to an endpoint,
// a popular prefix above all, this is where it ends: the requests go elsewhere, and the prefix spreads.
type Overload struct {
	// Slack is how many requests an endpoint may have in flight whatever the others have; 0 means 8.
	Slack float64 `json:"slack,omitempty"`
	// Factor is how far above the mean it may be, at least 1; 0 means 1.25.
	Factor float64 `json:"factor,omitempty"`
}

// Filter implements scheduling.Filter.
func (f Overload) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	bound := f.bound(c, slots)
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return float64(c.Requests(slot)) > bound })
}

func (f Overload) bound(c *scheduling.Cycle, slots []scheduling.Slot) float64 {
	total := 0
	for _, slot := range slots {
		total += c.Requests(slot)
	}
	return cmp.Or(f.Slack, 8) + max(1, cmp.Or(f.Factor, 1.25))*float64(total)/float64(len(slots))
}

// Validate implements scheduling.Validator.
func (f Overload) Validate() error {
	return errors.Join(notNegative("slack", f.Slack), notNegative("factor", f.Factor))
}
