package accel

import "fmt"

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
	// Approximate says what about the shape is assumed or left out, and is empty where nothing is.
	Approximate string
}

// Layers is the number of layers, those for multi-token prediction not counted.
func (m *Model) Layers() int { return len(m.Pattern) }

// MoE is whether any layer has routed experts.
func (m *Model) MoE() bool { return m.Experts() > 0 }

// Experts is the most routed experts that a layer has.
func (m *Model) Experts() int {
	n := 0
	for _, k := range m.Kinds {
		n = max(n, k.FFN.Experts)
	}
	return n
}

// Count is how many of the layers from first to before end are of each kind.
func (m *Model) Count(first, end int) (n [MaxKinds]int) {
	for _, k := range m.Pattern[first:end] {
		n[k]++
	}
	return n
}

// MaxKinds is the number of kinds of layers that a model can have.
const MaxKinds = 8

// Layer is one kind of layer: an attention and a feed-forward part.
type Layer struct {
	Attention Attention
	FFN       FFN
	Norms     int // parameters of the layer's norms
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
	Kind     AttentionKind
	Heads    int // GQA, MLA: query heads
	KVHeads  int // GQA
	HeadDim  int // GQA: of queries and keys
	ValueDim int // of values; in GQA 0 means HeadDim
	Window   int // tokens that a query sees at most: a sliding window or a chunk; 0 is all

	QRank, KVRank, NopeDim, RopeDim int // MLA

	// Sparse attention (DSA): an indexer chooses TopK tokens for each query. A layer without index heads takes the choice of
	// the layer before it.
	TopK, IndexHeads, IndexDim int

	// Linear: each value head has a state of KeyDim x ValueDim, and a convolution runs over the last Conv tokens.
	KeyHeads, ValueHeads, KeyDim, Conv int

	OutputGate bool // GQA: the query projection makes a gate of each head's output too
	Vectors    int  // parameters of biases, norms and sinks inside attention
}

// FFN is a feed-forward part: dense, or a mixture of experts. All are gated: three matrices.
type FFN struct {
	Intermediate int // width of a dense part; 0 in a mixture of experts
	Experts      int // routed
	TopK         int // routed experts that a token is sent to
	ExpertWidth  int // intermediate size of a routed expert
	Shared       int // experts that see each token
	SharedWidth  int // intermediate size of all shared experts together
	Groups       int // groups of experts, of which GroupTopK are eligible for a token; 0 or 1 is no such limit
	GroupTopK    int
	ExpertBias   bool // routed experts have bias vectors
	Vectors      int  // parameters of the router's bias and of the gate of shared experts
}

const (
	maxLayers = 4096
	maxDim    = 1 << 24
	maxParams = 1e15
)

// Validate says what is wrong with a model that was filled in by hand, naming each field.
func (m *Model) Validate() error {
	var bad problems
	within := func(field string, v, low, high int) {
		if v < low || v > high {
			bad.add(field, v, fmt.Sprintf("must be from %d to %d", low, high))
		}
	}
	within("Model.Hidden", m.Hidden, 1, 1<<20)
	within("Model.Vocab", m.Vocab, 1, 1<<26)
	within("Model.Context", m.Context, 0, 1<<40)
	within("len(Model.Kinds)", len(m.Kinds), 1, MaxKinds)
	within("len(Model.Pattern)", len(m.Pattern), 1, maxLayers)
	within("Model.MTPLayers", m.MTPLayers, 0, 64)
	if m.MTPLayers > 0 {
		within("Model.MTPKind", m.MTPKind, 0, len(m.Kinds)-1)
	}
	for i, k := range m.Pattern {
		if int(k) >= len(m.Kinds) {
			bad.add(fmt.Sprintf("Model.Pattern[%d]", i), k, "must be an index of Model.Kinds")
			break
		}
	}
	for i, k := range m.Kinds {
		k.validate(fmt.Sprintf("Model.Kinds[%d]", i), within)
		if f := k.FFN; f.Experts > 0 && f.TopK > f.Experts {
			bad.add(fmt.Sprintf("Model.Kinds[%d].FFN.TopK", i), f.TopK, "must not exceed Experts")
		}
	}
	if len(bad) == 0 {
		if total := m.roughParams(); total > maxParams {
			bad.add("Model", fmt.Sprintf("%.3g parameters", total), "is beyond any model")
		}
	}
	return bad.err()
}

func (k Layer) validate(at string, within func(field string, v, low, high int)) {
	a, f := k.Attention, k.FFN
	within(at+".Norms", k.Norms, 0, maxDim)
	within(at+".Attention.Vectors", a.Vectors, 0, maxDim)
	within(at+".Attention.Window", a.Window, 0, 1<<40)
	switch a.Kind {
	case GQA:
		within(at+".Attention.Heads", a.Heads, 1, 1<<16)
		within(at+".Attention.KVHeads", a.KVHeads, 1, max(a.Heads, 1))
		within(at+".Attention.HeadDim", a.HeadDim, 1, 1<<16)
		within(at+".Attention.ValueDim", a.ValueDim, 0, 1<<16)
	case MLA:
		within(at+".Attention.Heads", a.Heads, 1, 1<<16)
		within(at+".Attention.QRank", a.QRank, 0, 1<<20)
		within(at+".Attention.KVRank", a.KVRank, 1, 1<<20)
		within(at+".Attention.NopeDim", a.NopeDim, 1, 1<<16)
		within(at+".Attention.RopeDim", a.RopeDim, 1, 1<<16)
		within(at+".Attention.ValueDim", a.ValueDim, 1, 1<<16)
	case Linear:
		within(at+".Attention.KeyHeads", a.KeyHeads, 1, 1<<16)
		within(at+".Attention.ValueHeads", a.ValueHeads, 1, 1<<16)
		within(at+".Attention.KeyDim", a.KeyDim, 1, 1<<16)
		within(at+".Attention.ValueDim", a.ValueDim, 1, 1<<16)
		within(at+".Attention.Conv", a.Conv, 0, 1<<10)
	default:
		within(at+".Attention.Kind", int(a.Kind), int(GQA), int(Linear))
	}
	within(at+".Attention.TopK", a.TopK, 0, 1<<30)
	within(at+".Attention.IndexHeads", a.IndexHeads, 0, 1<<16)
	within(at+".Attention.IndexDim", a.IndexDim, 0, 1<<16)
	within(at+".FFN.Experts", f.Experts, 0, 1<<16)
	if f.Experts > 0 {
		within(at+".FFN.Intermediate", f.Intermediate, 0, 0)
		within(at+".FFN.TopK", f.TopK, 1, 1<<16)
		within(at+".FFN.ExpertWidth", f.ExpertWidth, 1, maxDim)
		within(at+".FFN.Shared", f.Shared, 0, 1<<10)
		within(at+".FFN.SharedWidth", f.SharedWidth, 0, maxDim)
		within(at+".FFN.Groups", f.Groups, 0, f.Experts)
		within(at+".FFN.GroupTopK", f.GroupTopK, 0, max(f.Groups, 0))
	} else {
		within(at+".FFN.Intermediate", f.Intermediate, 1, maxDim)
	}
	within(at+".FFN.Vectors", f.Vectors, 0, maxDim)
}

// roughParams is the parameters in floating point, which does not overflow.
func (m *Model) roughParams() float64 {
	sum := float64(m.Vocab) * float64(m.Hidden) * 2
	for _, k := range m.Pattern {
		a, f := m.Kinds[k].Attention, m.Kinds[k].FFN
		heads := float64(a.Heads+a.KVHeads) * float64(a.HeadDim+a.ValueDim+a.NopeDim+a.RopeDim)
		linear := float64(a.KeyHeads)*float64(a.KeyDim) + float64(a.ValueHeads)*float64(a.ValueDim)
		sum += float64(m.Hidden+a.QRank+a.KVRank)*(heads+linear+float64(a.IndexHeads)*float64(a.IndexDim))*4 +
			3*float64(m.Hidden)*(float64(f.Intermediate)+float64(f.Experts)*float64(f.ExpertWidth)+float64(f.SharedWidth))
	}
	return sum
}
