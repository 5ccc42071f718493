package filter

import (
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Role keeps the endpoints that take a phase of a request. An endpoint without a role takes all.
type Role struct {
	Phase scheduling.Role `json:"phase"`
	// Explicit leaves out endpoints without a role, as llm-d does for prefill and encode.
	Explicit bool `json:"explicit,omitempty"`
}

// Filter implements scheduling.Filter.
func (f Role) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
		role := c.Endpoint(slot).Role
		return !role.Takes(f.Phase) || f.Explicit && role == 0
	})
}

// Validate implements scheduling.Validator.
func (f Role) Validate() error {
	if all := scheduling.Prefill | scheduling.Decode | scheduling.Encode; f.Phase == 0 || f.Phase&^all != 0 {
		return fmt.Errorf("phase %#x: want prefill, decode or encode", uint8(f.Phase))
	}
	return nil
}
