package accel

import (
	"errors"
	"fmt"
	"math"
)

// Memory is what the bytes of a device are for, on the pipeline stage that has the fewest left for the KV cache.
type Memory struct {
	Total       int64 // what software sees
	Budget      int64 // of Total, what the engine allows itself for all that follows but, in SGLang, not activations
	Weights     int64 // without routed experts
	Experts     int64 // routed, redundant ones included
	Activations int64 // at the largest step
	AllToAll    int64 // buffers of the expert kernels
	Reserve     int64 // context of driver and framework, collectives
	KVBudget    int64 // what remains for the KV cache; negative where the rest does not fit

	Sequence  KV  // what a sequence takes on a rank of the stage
	DP        int // ranks that each have a KV cache for their own requests
	Sequences int // that a DP rank runs at most, by configuration
}

// Limit is what keeps a deployment from running more, or at all.
type Limit uint8

const (
	BySequences   Limit = iota // the configured number of sequences
	ByKV                       // the KV cache
	ByWeights                  // weights exceed the budget
	ByActivations              // weights fit, but not with activations, buffers and reserve
)

var limits = [...]string{"sequences", "kv cache", "weights", "activations"}

func (l Limit) String() string {
	if int(l) >= len(limits) {
		return fmt.Sprintf("limit(%d)", uint8(l))
	}
	return limits[l]
}

// ErrDoesNotFit is wrapped by the error of [Memory.Fits].
var ErrDoesNotFit = errors.New("does not fit")

// MaxSequences is how many sequences of so many tokens the instance can run at once, on all its DP ranks together, and what
// limits them.
func (m Memory) MaxSequences(tokens int) (int, Limit) {
	if m.KVBudget <= 0 {
		if m.Weights+m.Experts >= m.Budget {
			return 0, ByWeights
		}
		return 0, ByActivations
	}
	n := m.Sequences
	if each := m.Sequence.Bytes(tokens); each > 0 {
		if fit := math.Floor(float64(m.KVBudget) / each); fit < float64(n) {
			return int(fit) * m.DP, ByKV
		}
	}
	return n * m.DP, BySequences
}

// MaxTokens is how many tokens of sequences of so many tokens each fit in the KV caches of all DP ranks, the configured
// number of sequences aside.
func (m Memory) MaxTokens(tokens int) int64 {
	each := m.Sequence.Bytes(max(tokens, 1))
	if m.KVBudget <= 0 || each <= 0 {
		return 0
	}
	return int64(float64(m.KVBudget)/each*float64(max(tokens, 1))) * int64(m.DP)
}

// Fits is nil if at least one sequence of so many tokens can run, and otherwise says what is too large and by how much. The
// error wraps [ErrDoesNotFit].
func (m Memory) Fits(tokens int) error {
	n, limit := m.MaxSequences(tokens)
	if n > 0 {
		return nil
	}
	const gib = 1 << 30
	have, need := float64(m.Budget), float64(m.Weights+m.Experts)
	switch limit {
	case ByKV:
		have, need = float64(m.KVBudget), m.Sequence.Bytes(tokens)
	case ByActivations:
		need = float64(m.Budget - m.KVBudget)
	}
	return fmt.Errorf("%w: %s need %.1f GiB of %.1f GiB a device", ErrDoesNotFit, limit, need/gib, have/gib)
}

// Reserves in bytes. The first is what a process takes beside its tensors, the second what collectives add, both read off
// public logs of vLLM and SGLang on H100 (docs/accelerators.md). samplingBytes is for each token of the vocabulary and
// sequence at the end of a step: logits, their sorted copy and indices, probabilities.
const (
	processReserve    = 600 << 20
	collectiveReserve = 1800 << 20
	samplingBytes     = 40
	// moeChunk is the tokens that fused expert kernels work on at a time.
	moeChunk = 32768
	// deepEPBuffer is each of the two buffers (scale-up, network) of the high-throughput kernels in engines' settings.
	deepEPBuffer = 1 << 30
)

// Memory works out what fits. The engines differ in what their fraction is of:
//
//   - vLLM takes a fraction of total memory, subtracts weights, the largest step's activations and what else the process
//     holds, and gives the rest to the KV cache.
//   - SGLang takes a fraction of what is free before loading, for weights and KV cache; activations and buffers must fit in
//     the rest.
//   - TensorRT-LLM takes a fraction of what is free after weights and the largest step.
//
// Weights and KV cache are exact for the layouts of [Model.StageWeights] and [Model.StageKV]; activations, buffers and
// reserves are estimates. The error is that of Validate; what does not fit is no error here but in [Memory.Fits].
func (d Deployment) Memory() (Memory, error) {
	if err := d.Validate(); err != nil {
		return Memory{}, err
	}
	d = d.Default()
	d.System = d.System.PerDevice()
	worst := Memory{}
	for stage := range d.Parallelism.PP {
		m := d.stageMemory(stage)
		if stage == 0 || m.room() < worst.room() {
			worst = m
		}
	}
	return worst, nil
}

// room orders stages: by the tokens that they have place for, and where they have none by what is missing.
func (m Memory) room() float64 {
	if m.KVBudget <= 0 {
		return float64(m.KVBudget)
	}
	return float64(m.KVBudget) / max(m.Sequence.Bytes(4096), 1)
}

func (d Deployment) stageMemory(stage int) Memory {
	p := d.Parallelism
	w := d.Model.StageWeights(p, d.Precision, stage, d.MTPDepth > 0)
	m := Memory{
		Total: int64(d.System.Accelerator.Memory.Value), Weights: w.Total() - w.Experts, Experts: w.Experts,
		Activations: d.activations(stage), AllToAll: d.allToAllBuffers(), Reserve: processReserve,
		Sequence: d.Model.StageKV(p, d.Precision.KV, stage), DP: p.DP, Sequences: d.MaxSequences,
	}
	if d.MTPDepth > 0 && stage == p.PP-1 {
		a := d.Model.Kinds[d.Model.MTPKind].Attention
		m.Sequence.TokenBytes += float64(d.Model.MTPLayers) * a.tokenBytes(p.TP, d.Precision.KV)
	}
	if p.Ranks() > 1 {
		m.Reserve += collectiveReserve
	}
	weights, steps := m.Weights+m.Experts, m.Activations+m.AllToAll
	part := func(of int64) int64 { return int64(d.MemoryFraction * float64(of)) }
	switch d.Engine {
	case SGLang:
		free := m.Total - m.Reserve
		m.Budget = part(free)
		m.KVBudget = m.Budget - weights
		if short := steps - (free - m.Budget); short > 0 {
			m.KVBudget -= short
		}
	case TensorRTLLM:
		m.Budget = m.Total
		free := m.Total - weights - steps - m.Reserve
		m.KVBudget = min(free, part(free))
	default:
		m.Budget = part(m.Total)
		m.KVBudget = m.Budget - weights - steps - m.Reserve
	}
	return m
}

// activations are the bytes of tensors that live at once in the largest step of a rank: those of its widest layer, or
// those of sampling on the last stage, whichever is more.
func (d Deployment) activations(stage int) int64 {
	p, m := d.Parallelism, d.Model
	tokens, hidden := float64(d.MaxBatchedTokens), float64(m.Hidden)
	widest := 0.
	begin, end := m.StageLayers(p, stage)
	for i, n := range m.Count(begin, end) {
		if n > 0 {
			widest = max(widest, d.layerActivations(m.Kinds[i], tokens))
		}
	}
	step := 2 * (4*tokens*hidden + widest) // residual, its norm, attention's output, and the layer's
	if stage == p.PP-1 {
		step = max(step, samplingBytes*float64(d.MaxSequences)*float64(m.Vocab))
	}
	return int64(step)
}

// layerActivations are the numbers in a layer's inner tensors: projections of attention, or both halves of a feed-forward
// part and their product.
func (d Deployment) layerActivations(k Layer, tokens float64) float64 {
	p := d.Parallelism
	a, f, tp := k.Attention, k.FFN, float64(p.TP)
	attention := float64(a.Heads)*float64(a.HeadDim+a.NopeDim+a.RopeDim+a.Value()) + 2*float64(a.KVHeads)*float64(a.HeadDim) +
		float64(a.ValueHeads)*float64(a.ValueDim)*2 + 2*float64(a.KeyHeads)*float64(a.KeyDim)
	inner := max(tokens*attention/tp, tokens*3*float64(f.Intermediate+f.SharedWidth)/tp)
	if f.Experts > 0 {
		group := min(tokens*float64(p.DP), moeChunk)
		copies := group * float64(f.TopK) / float64(p.EP) / d.ExpertBalance
		inner = max(inner, copies*(3*float64(f.ExpertWidth)/float64(p.MoETP)+float64(d.Model.Hidden)))
		if p.DP > 1 && d.AllToAll == AllGather {
			inner += 2 * group * float64(d.Model.Hidden)
		}
	}
	return inner
}

// allToAllBuffers are what expert kernels allocate up front. Those of DeepEP's low-latency kernels are two sets of send and
// receive buffers of a BF16 token and its header for each expert, which is within 12 % of what its tests print for 128 tokens.
func (d Deployment) allToAllBuffers() int64 {
	p := d.Parallelism
	if !d.Model.MoE() || p.EP == 1 {
		return 0
	}
	hidden := int64(d.Model.Hidden)
	switch d.AllToAll {
	case DeepEPLowLatency:
		return int64(d.Model.Experts()+p.Redundant) * int64(d.DispatchTokens) * (2*hidden + 16) * 4
	case DeepEPHighThroughput:
		if p.TP*p.DP > d.System.domain() {
			return 2 * deepEPBuffer
		}
		return deepEPBuffer
	case NVLinkAllToAll:
		topK := int64(0)
		for _, k := range d.Model.Kinds {
			topK = max(topK, int64(k.FFN.TopK))
		}
		return int64(d.MaxBatchedTokens) * min(topK, int64(p.EP)) * hidden * 2 * 2
	}
	return 0
}
