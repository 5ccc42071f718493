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
	Idle       int              // accelerators that are left over
	Context    int              // tokens of the longest sequence that it is planned for
	Layout     Layout           // of the ranks of one instance

	Memory   accel.Memory // of the fullest rank
	Workload accel.Workload
	Estimate accel.Estimate // of one instance under Workload

	// Tokens a second of all instances, output tokens or, for prefill, input tokens, and the same for each accelerator: of all
	// that the problem has if it has no rate, else of those used.
	Tokens, PerAccelerator accel.Interval[float64]
	// Cost of a million such tokens at the problem's price, or zero.
	Cost accel.Interval[float64]
	// Limit is what keeps the instance from more load: "TTFT", "TPOT", "KV cache", "batch", "all-to-all buffer", or, where
	// more load would only wait, "throughput"; "rate" where more is not asked for.
	Limit string
	// Bottleneck is the part of a token's time (of the first token's, for prefill) that takes most.
	Bottleneck accel.Term
	// Unmet says which targets the plan misses, and by how much; empty for a plan that meets all.
	Unmet []string

	devices int // ranks an accelerator
}

// String is how an instance is cut, such as "TP1 DP72 EP72+32": 32 experts are redundant.
func (p *Plan) String() string { return describe(p.Deployment.Parallelism) }

// Accelerators is how many the plan uses.
func (p *Plan) Accelerators() int {
	d := max(p.devices, 1)
	return (p.Replicas*p.Layout.Ranks + d - 1) / d
}
