package accel

// Model is the shape of a language model: what decides its memory and its work, not its weights. Make one with [ParseModel]
// or [LookupModel], or fill it in and call [Model.Validate].
type Model struct {
	Name         string // Hugging Face id
	Architecture string // as in config.json, such as "DeepseekV3ForCausalLM"
	Hidden       int
	Vocab        int
	Tied         bool // output head and token embedding are one matrix
	Context      int  // tokens; 0 where the config does not say
	Kinds        []Layer
	Pattern      []uint8 // for each layer in order, an index of Kinds
	MTPLayers    int     // extra layers that predict further tokens: Kinds[MTPKind] and a projection each
	MTPKind      int
	Checkpoint   Precision // how its weights are published
	// Approximate says what about the shape is assumed, and is empty where nothing is.
	Approximate string
}

// Layers is the number of layers, those for multi-token prediction not counted.
func (m *Model) Layers() int { return len(m.Pattern) }

// Layer is one kind of layer: an attention and a feed-forward part.
type Layer struct {
	Attention Attention
	FFN       FFN
	// NormParams are parameters of norms and other vectors of the layer that are neither's.
	NormParams int
}

// AttentionKind decides what an attention layer keeps of the past.
type AttentionKind uint8

const (
	GQA    AttentionKind = iota // keys and values for each KV head: multi-head, grouped and multi-query
	MLA                         // one compressed latent for all heads
	Linear                      // a state of constant size: gated delta net and its like
)

// Attention is one layer's attention. Fields that its kind does not have are 0.
type Attention struct {
	Kind    AttentionKind
	Heads   int // query heads
	KVHeads int // GQA
	HeadDim int // GQA: of queries and keys
	Window  int // tokens that a query sees at most: sliding window, or chunk; 0 is all
	Chunked bool

	// MLA
	QRank, KVRank, NopeDim, RopeDim, ValueDim int

	// Sparse attention (DSA): an indexer chooses TopK tokens for each query.
	TopK, IndexHeads, IndexDim int

	// Linear: a state of ValueHeads x KeyDim x LinearValueDim and a convolution over the last tokens.
	KeyHeads, ValueHeads, KeyDim, LinearValueDim, Conv int

	OutputGate bool // the query projection also makes a gate of each head's output
	// Vectors are parameters of biases, norms and sinks inside attention.
	Vectors int
}

// FFN is a dense feed-forward part (Experts is 0) or a mixture of experts. All are gated: three matrices.
type FFN struct {
	Intermediate int // dense width, or 0
	Experts      int // routed
	TopK         int
	ExpertWidth  int // intermediate size of a routed expert
	Shared       int // experts that see each token
	SharedWidth  int // intermediate size of all shared experts together
	Groups       int // groups of experts, of which GroupTopK are eligible for a token; 1 where there is no such limit
	GroupTopK    int
	ExpertBias   bool // routed experts have bias vectors (gpt-oss)
	Vectors      int  // parameters of router and shared gate that are not matrices of experts
}
