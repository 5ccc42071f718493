package filter

import (
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Role keeps the endpoints that take a phase of a request. An endpoint without a role takes all.
type Role struct {
	Phase scheduling.Role
}

// Filter implements scheduling.Filter.
func (f Role) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
		return !c.Endpoint(slot).Role.Takes(f.Phase)
	})
}
