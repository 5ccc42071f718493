package plan

import (
	"fmt"

	"github.com/inferloom/inferloom/accel"
)

// Role is the part of a request that an instance does.
type Role uint8

const (
	Both Role = iota // prefill and decode
	Prefill
	Decode
)

func (r Role) String() string {
	if r > Decode {
		return fmt.Sprintf("role(%d)", uint8(r))
	}
	return [...]string{"both", "prefill", "decode"}[r]
}

// MarshalText writes "both", "prefill" or "decode".
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads them.
func (r *Role) UnmarshalText(text []byte) error {
	for known := Both; known <= Decode; known++ {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return &accel.FieldError{Field: "role", Value: string(text), Want: "must be both, prefill or decode"}
}

// Plan is a way to deploy a model: instances that are all cut alike.
type Plan struct {
	Role       Role
	Deployment accel.Deployment // of one instance
	Replicas   int              // instances
	Context    int              // tokens of the longest sequence that it is planned for
	Layout     Layout           // of the ranks of one instance
}

// Accelerators is how many the plan uses.
func (p *Plan) Accelerators() int { return p.Replicas * p.Layout.Ranks }
