package plan

import (
	"fmt"

	"github.com/inferloom/inferloom/accel"
)

// Reason is why a cut was refused.
type Reason uint8

const (
	Indivisible Reason = iota // the model cannot be cut so
	NotInEngine               // the engine does not do it
	NotInFabric               // the fabric does not carry it
	NotInKernel               // the kernel does not carry it
	NotCovered                // experts do not survive what they should
	NoMemory                  // weights, buffers and one request do not fit
	NoEstimate                // the estimator refuses
	MissesTTFT                // even at the least load
	MissesTPOT
	MissesRate // even with all accelerators
	numReasons
)

var reasonNames = [numReasons]string{"indivisible", "not in the engine", "not in the fabric", "not in the kernel", "experts not covered",
	"no memory", "no estimate", "misses TTFT", "misses TPOT", "misses rate"}

func (r Reason) String() string {
	if r >= numReasons {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// MarshalText writes the reason's name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads it.
func (r *Reason) UnmarshalText(text []byte) error {
	for i, name := range reasonNames {
		if name == string(text) {
			*r = Reason(i)
			return nil
		}
	}
	return &accel.FieldError{Field: "reason", Value: string(text), Want: "must be the name of a Reason"}
}

// Refusal counts cuts that were refused for one reason.
type Refusal struct {
	Reason Reason `json:"reason"`
	Cuts   int    `json:"cuts"`
	// Nearest is what the cut that came nearest lacks; where nearness means nothing, the first one.
	Nearest string `json:"nearest"`
	miss    float64
}

// refusal is one cut's: miss orders them, the least first.
type refusal struct {
	reason Reason
	miss   float64
	why    string
}

func refuse(reason Reason, format string, args ...any) *refusal {
	return &refusal{reason: reason, why: fmt.Sprintf(format, args...)}
}

func (r *Result) refused(c *cut, f *refusal) {
	i := 0
	for i < len(r.Refused) && r.Refused[i].Reason != f.reason {
		i++
	}
	if i == len(r.Refused) {
		r.Refused = append(r.Refused, Refusal{Reason: f.reason, miss: f.miss, Nearest: c.String() + ": " + f.why})
	} else if f.miss < r.Refused[i].miss {
		r.Refused[i].miss, r.Refused[i].Nearest = f.miss, c.String()+": "+f.why
	}
	r.Refused[i].Cuts++
}
