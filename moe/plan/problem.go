package plan

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// Estimator says how fast one instance is; *accel.Calibration is one. More load must not make it more
// than twice as fast.
type Estimator interface {
	Estimate(accel.Deployment, accel.Workload) (accel.Estimate, error)
}

// Problem is what to plan for. Zero values of optional fields are explained at each.
type Problem struct {
	Model        *accel.Model
	System       accel.System
	Accelerators int
	Engine       accel.Engine
	Role         Role

	// Input, Cached and Output are tokens of a request: of its prompt, of the prompt found in the KV cache, of its answer.
	Input, Cached, Output int
	// Rate is requests a second that all instances are to serve, with as few accelerators as do; 0 fills all accelerators with
	// as many requests as meet the targets.
	Rate float64
	// TTFT and TPOT are targets of the mean; 0 is none. Instances for prefill have no TPOT, those for decode no TTFT.
	TTFT, TPOT time.Duration
	// Price of an accelerator and hour, in any currency; 0 is not known.
	Price float64

	// Precisions to try; empty tries the checkpoint's with a KV cache in BF16 and, where the chip has it, in FP8.
	Precisions []accel.Precision
	// MTPDepth is how many tokens are drafted a step and MTPAcceptance the chance of each to be accepted after those before it.
	MTPDepth      int
	MTPAcceptance float64
	// MaxBatchedTokens of a step; 0 is the engine's default.
	MaxBatchedTokens int
	// MemoryFraction as in accel.Deployment; 0 is the engine's default.
	MemoryFraction float64

	// Loads of experts, where known: how well each cut balances them then follows from a placement, and redundant experts
	// pay. Else experts count as balanced, and are redundant only where that makes them divide or survive.
	Loads moe.Loads
	// Survive asks for experts redundant enough to lose an accelerator or a node.
	Survive moe.Survive

	// Fixed keeps cuts whose non-zero fields it has.
	Fixed accel.Parallelism
	// Keep is how many of the best plans are returned; 0 is 10.
	Keep int
}

// ErrNoPlan is wrapped by the error of a Search that found no legal plan at all.
var ErrNoPlan = errors.New("no legal plan")

const (
	maxAccelerators = 1 << 16
	maxTokens       = 1 << 24
)

func (p *Problem) check() error {
	var bad []error
	add := func(field string, value any, want string) {
		bad = append(bad, &accel.FieldError{Field: "Problem." + field, Value: value, Want: want})
	}
	within := func(field string, v, low, high int) {
		if v < low || v > high {
			add(field, v, fmt.Sprintf("must be from %d to %d", low, high))
		}
	}
	number := func(field string, v, high float64) {
		if !(v >= 0 && v <= high) {
			add(field, v, fmt.Sprintf("must be from 0 to %g", high))
		}
	}
	if p.Model == nil {
		add("Model", nil, "must be set")
	}
	within("Accelerators", p.Accelerators, 1, maxAccelerators)
	within("System.PerNode", p.System.PerNode, 1, maxAccelerators)
	within("System.ScaleUp.Domain", p.System.ScaleUp.Domain, 0, 1<<20)
	within("Engine", int(p.Engine), 0, int(accel.TensorRTLLM))
	within("Role", int(p.Role), 0, int(Decode))
	within("Input", p.Input, 1, maxTokens)
	within("Cached", p.Cached, 0, max(p.Input-1, 0))
	within("Output", p.Output, 1, maxTokens)
	number("Rate", p.Rate, 1e9)
	number("Price", p.Price, 1e9)
	number("MTPAcceptance", p.MTPAcceptance, 1)
	number("MemoryFraction", p.MemoryFraction, 1)
	within("MTPDepth", p.MTPDepth, 0, 16)
	within("MaxBatchedTokens", p.MaxBatchedTokens, 0, maxTokens)
	within("Keep", p.Keep, 0, math.MaxInt)
	within("Survive", int(p.Survive), 0, int(moe.AnyNode))
	if p.TTFT < 0 {
		add("TTFT", p.TTFT, "must not be negative")
	}
	if p.TPOT < 0 {
		add("TPOT", p.TPOT, "must not be negative")
	}
	for _, f := range []struct {
		name string
		v    int
	}{{"TP", p.Fixed.TP}, {"DP", p.Fixed.DP}, {"PP", p.Fixed.PP}, {"EP", p.Fixed.EP}, {"MoETP", p.Fixed.MoETP}, {"Redundant", p.Fixed.Redundant}} {
		within("Fixed."+f.name, f.v, 0, maxAccelerators)
	}
	if m := p.Model; m != nil {
		if c := m.Context; c > 0 && p.Input+p.Output > c {
			add("Input + Output", p.Input+p.Output, fmt.Sprintf("must not exceed the model's context: %d tokens", c))
		}
		if p.MTPDepth > 0 && m.MTPLayers == 0 {
			add("MTPDepth", p.MTPDepth, "must be 0: the model has no layers for multi-token prediction")
		}
		if p.Loads.Experts > 0 {
			if e := experts(m); p.Loads.Experts != e {
				add("Loads.Experts", p.Loads.Experts, fmt.Sprintf("must be the model's %d", e))
			}
		}
		if p.Survive != moe.Nothing && experts(m) == 0 {
			add("Survive", p.Survive, "must be Nothing for a model without experts")
		}
	}
	return errors.Join(bad...)
}

// experts is the routed experts of a layer that has most, or 0.
func experts(m *accel.Model) int {
	n := 0
	for _, k := range m.Kinds {
		n = max(n, k.FFN.Experts)
	}
	return n
}

func topK(m *accel.Model) int {
	n := 0
	for _, k := range m.Kinds {
		n = max(n, k.FFN.TopK)
	}
	return n
}

// context is how many tokens a request holds in the KV cache at most.
func (p *Problem) context() int {
	if p.Role == Prefill {
		return p.Input + 1
	}
	return p.Input + p.Output
}
