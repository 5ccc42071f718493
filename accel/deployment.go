package accel

import (
	"fmt"
	"math"
)

// Engine is whose rules of memory and scheduling hold.
type Engine uint8

const (
	VLLM Engine = iota
	SGLang
	TensorRTLLM
	numEngines
)

var engines = [numEngines]string{"vllm", "sglang", "trtllm"}

func (e Engine) String() string {
	if e >= numEngines {
		return fmt.Sprintf("engine(%d)", uint8(e))
	}
	return engines[e]
}

// ParseEngine reads "vllm", "sglang" or "trtllm".
func ParseEngine(s string) (Engine, error) {
	for e, name := range engines {
		if name == s {
			return Engine(e), nil
		}
	}
	return 0, &FieldError{Field: "engine", Value: s, Want: "must be vllm, sglang or trtllm"}
}

// AllToAll is the kernel that carries tokens to experts and back.
type AllToAll uint8

const (
	AllGather            AllToAll = iota // all-gather and reduce-scatter: every rank gets every token
	DeepEPHighThroughput                 // one copy a node, then over the scale-up fabric
	DeepEPLowLatency                     // every copy on its own, straight to its rank
	NVLinkAllToAll                       // one- or two-sided copies within one NVLink domain
	numAllToAll
)

var allToAlls = [numAllToAll]string{"allgather", "deepep-high-throughput", "deepep-low-latency", "nvlink"}

func (a AllToAll) String() string {
	if a >= numAllToAll {
		return fmt.Sprintf("alltoall(%d)", uint8(a))
	}
	return allToAlls[a]
}

// Deployment is a model on a system: one instance, cut as Parallelism says. The zero value of a field that is not needed
// means the engine's default, which the field's comment gives.
type Deployment struct {
	Model       *Model
	System      System
	Parallelism Parallelism
	Precision   Precision
	Engine      Engine

	// MemoryFraction is vLLM's gpu_memory_utilization (0.92; 0.9 up to 0.19), SGLang's mem_fraction_static (0.88) or
	// TensorRT-LLM's free_gpu_memory_fraction (0.9). Each means something else: see [Deployment.Memory].
	MemoryFraction float64
	// MaxBatchedTokens is the tokens of one step at most, of a DP rank: 8192.
	MaxBatchedTokens int
	// MaxSequences is the sequences that a DP rank runs at most: 1024 in vLLM on devices of 70 GiB and more, otherwise 256.
	MaxSequences int
	// DispatchTokens is the tokens a rank that low-latency kernels have buffers for: 256 in vLLM, otherwise 128.
	DispatchTokens int
	AllToAll       AllToAll
	// TwoBatchOverlap runs two half batches so that one computes while the other communicates (DBO, TBO).
	TwoBatchOverlap bool
	// MTPDepth is how many tokens are drafted a step by the model's own prediction layers; MTPAcceptance is the probability
	// that a drafted token is accepted given that those before it were, in [0, 1].
	MTPDepth      int
	MTPAcceptance float64
	// ExpertBalance is mean over greatest load of the ranks that hold experts, in (0, 1]; 0 is 1.
	ExpertBalance float64
}

// Default is the deployment with every field that is left open filled in. The deployment must be valid.
func (d Deployment) Default() Deployment {
	if d.MemoryFraction == 0 {
		d.MemoryFraction = [numEngines]float64{VLLM: .92, SGLang: .88, TensorRTLLM: .9}[d.Engine]
	}
	if d.MaxBatchedTokens == 0 {
		d.MaxBatchedTokens = 8192
	}
	if d.MaxSequences == 0 {
		d.MaxSequences = 256
		if a := d.System.Accelerator; d.Engine == VLLM && a.Memory.Value/float64(max(a.Devices, 1)) >= 70<<30 {
			d.MaxSequences = 1024
		}
	}
	if d.DispatchTokens == 0 {
		d.DispatchTokens = 128
		if d.Engine == VLLM {
			d.DispatchTokens = 256
		}
	}
	if d.ExpertBalance == 0 {
		d.ExpertBalance = 1
	}
	d.Parallelism = d.Parallelism.fill(d.Model)
	d.Precision = d.Model.Resolve(d.Precision)
	return d
}

// Validate says what is impossible, by field: besides the parallelism, kernels that the fabric cannot serve, and options
// that are out of range.
func (d Deployment) Validate() error {
	var bad problems
	if d.Model == nil || len(d.Model.Pattern) == 0 || len(d.Model.Kinds) == 0 {
		bad.add("Deployment.Model", "absent", "is needed")
	}
	if d.System.PerNode < 1 || !d.System.Accelerator.Memory.Known() || !d.System.Accelerator.Bandwidth.Known() {
		bad.add("Deployment.System", d.System.Name, "needs accelerators a node, and their memory and bandwidth")
	}
	if d.Engine >= numEngines {
		bad.add("Deployment.Engine", uint8(d.Engine), "is not known")
	}
	if d.AllToAll >= numAllToAll {
		bad.add("Deployment.AllToAll", uint8(d.AllToAll), "is not known")
	}
	if len(bad) > 0 {
		return bad.err()
	}
	for _, f := range [...]struct {
		name string
		v    float64
	}{{"MemoryFraction", d.MemoryFraction}, {"MTPAcceptance", d.MTPAcceptance}, {"ExpertBalance", d.ExpertBalance}} {
		if math.IsNaN(f.v) || f.v < 0 || f.v > 1 {
			bad.add("Deployment."+f.name, f.v, "must be from 0 to 1")
		}
	}
	for _, f := range [...]struct {
		name    string
		v, most int
	}{
		{"MaxBatchedTokens", d.MaxBatchedTokens, 1 << 24}, {"MaxSequences", d.MaxSequences, 1 << 20},
		{"DispatchTokens", d.DispatchTokens, 1 << 16}, {"MTPDepth", d.MTPDepth, 16},
	} {
		if f.v < 0 || f.v > f.most {
			bad.add("Deployment."+f.name, f.v, fmt.Sprintf("must be from 0 to %d", f.most))
		}
	}
	if d.MTPDepth > 0 && d.Model.MTPLayers == 0 {
		bad.add("Deployment.MTPDepth", d.MTPDepth, "must be 0: "+d.Model.Name+" has no layers for it")
	}
	for _, t := range [...]DType{d.Precision.Weights, d.Precision.Attention, d.Precision.Experts, d.Precision.Embed, d.Precision.KV} {
		if t >= numDTypes {
			bad.add("Deployment.Precision", uint8(t), "has an unknown type")
		}
	}
	if err := d.Parallelism.Validate(d.Model); err != nil {
		bad = append(bad, err)
	} else {
		d.validateFabric(&bad)
	}
	return bad.err()
}

// validateFabric refuses kernels that the fabric cannot serve.
func (d Deployment) validateFabric(bad *problems) {
	if d.AllToAll == AllGather {
		return
	}
	p := d.Parallelism.fill(d.Model)
	if p.EP == 1 {
		bad.add("Deployment.AllToAll", d.AllToAll, "needs Parallelism.EP above 1")
		return
	}
	s := d.System.PerDevice()
	spans := p.TP*p.DP > s.domain()
	switch {
	case p.MoETP > 1:
		bad.add("Deployment.AllToAll", d.AllToAll, "needs whole experts: Parallelism.MoETP must be 1")
	case d.AllToAll == NVLinkAllToAll && (s.ScaleUp.Kind != Switch || spans):
		bad.add("Deployment.AllToAll", d.AllToAll, fmt.Sprintf("needs all %d ranks in one switched domain; that of %s has %d",
			p.TP*p.DP, s.Name, s.domain()))
	case d.AllToAll != NVLinkAllToAll && spans && s.ScaleOut.RailOnly:
		bad.add("Deployment.AllToAll", d.AllToAll, "needs every NIC to reach every other, and "+s.Name+" is rail-only")
	case d.AllToAll != NVLinkAllToAll && s.ScaleUp.Kind != Switch && s.ScaleUp.Kind != Mesh:
		bad.add("Deployment.AllToAll", d.AllToAll, "needs direct memory access between all accelerators of a node; "+s.Name+" is "+s.ScaleUp.Kind.String())
	}
}
