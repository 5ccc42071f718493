package accel

// Engine is whose rules of memory and scheduling hold.
type Engine uint8

const (
	VLLM Engine = iota
	SGLang
	TensorRTLLM
)

// AllToAll is the kernel that carries tokens to experts and back.
type AllToAll uint8

const (
	AllGather            AllToAll = iota // all-gather and reduce-scatter: every rank gets every token
	DeepEPHighThroughput                 // one copy a node, then over the scale-up fabric
	DeepEPLowLatency                     // every copy on its own, straight to its rank
	NVLinkAllToAll                       // one- or two-sided copies within one NVLink domain
)

// Deployment is a model on a system: one instance, cut as Parallelism says. The zero value of a field that is not needed
// means the engine's default, which the field's comment gives.
type Deployment struct {
	Model       *Model
	System      System
	Parallelism Parallelism
	Precision   Precision
	Engine      Engine

	// MemoryFraction is vLLM's gpu_memory_utilization (0.92), SGLang's mem_fraction_static (0.88) or TensorRT-LLM's
	// free_gpu_memory_fraction (0.9). Each means something else: see [Deployment.Memory].
	MemoryFraction float64
	// MaxBatchedTokens is the tokens of one step at most, of a DP rank: 8192.
	MaxBatchedTokens int
	// MaxSequences is the sequences that a DP rank runs at most: 256.
	MaxSequences int
	AllToAll     AllToAll
	// TwoBatchOverlap runs two half batches so that one computes while the other communicates (DBO, TBO).
	TwoBatchOverlap bool
	// MTPDepth is how many tokens are drafted a step by the model's own prediction layers; MTPAcceptance is the probability
	// that a drafted token is accepted given that those before it were, in [0, 1].
	MTPDepth      int
	MTPAcceptance float64
	// ExpertBalance is mean over greatest load of the ranks that hold experts, in (0, 1]; 0 is 1.
	ExpertBalance float64
}
