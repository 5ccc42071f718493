package accel

// Weights are the bytes of a rank's weights, by part.
type Weights struct {
	Embedding int64 // token embedding and output head, cut TP ways, where the stage has them
	Attention int64
	Dense     int64 // dense parts and shared experts
	Experts   int64 // routed, redundant ones included
	Other     int64 // routers and norms, in BF16
	MTP       int64 // layers for multi-token prediction, where they are used: on the last stage
}

// Total is their sum.
func (w Weights) Total() int64 {
	return w.Embedding + w.Attention + w.Dense + w.Experts + w.Other + w.MTP
}

// Resolve fills in what p leaves open: Attention and Experts as Weights where that is set, and all else as in the model's
// checkpoint. KV is BF16 if the checkpoint does not say.
func (m *Model) Resolve(p Precision) Precision {
	p.Attention = first(p.Attention, p.Weights, m.Checkpoint.Attention, m.Checkpoint.Weights, BF16)
	p.Experts = first(p.Experts, p.Weights, m.Checkpoint.Experts, m.Checkpoint.Weights, BF16)
	p.Weights = first(p.Weights, m.Checkpoint.Weights, BF16)
	p.Embed = first(p.Embed, m.Checkpoint.Embed, BF16)
	p.KV = first(p.KV, m.Checkpoint.KV, BF16)
	return p
}

func first(types ...DType) DType {
	for _, d := range types {
		if d != Unset {
			return d
		}
	}
	return Unset
}

// StageLayers are the layers [begin, end) of a pipeline stage. Layers are divided evenly; those left over go one each to
// the stages before the last, from the back, because the first stage has the embedding and the last the head. That is what
// vLLM does.
func (m *Model) StageLayers(p Parallelism, stage int) (begin, end int) {
	stages := max(p.PP, 1)
	base, rest := m.Layers()/stages, m.Layers()%stages
	for s := range stages {
		end = begin + base
		if s < stages-1 && s >= stages-1-rest {
			end++
		}
		if s == stage {
			return begin, end
		}
		begin = end
	}
	return begin, begin
}

// StageWeights are the bytes on a rank of a pipeline stage. Embedding, head, attention, dense parts and shared experts are
// cut TP ways (see [Attention.Params] for what cannot be), routed experts lie (experts + redundant) / EP on a rank and are
// cut MoETP ways; routers and norms are on every rank. With mtp the last stage holds the layers for multi-token prediction.
// Parallelism must be valid for the model.
func (m *Model) StageWeights(p Parallelism, prec Precision, stage int, mtp bool) Weights {
	p, prec = p.fill(m), m.Resolve(prec)
	var w Weights
	begin, end := m.StageLayers(p, stage)
	for i, n := range m.Count(begin, end) {
		if n > 0 {
			w.addLayers(m.Hidden, m.Kinds[i], n, p, prec)
		}
	}
	matrix := sizeOf(ceilDiv(int64(m.Vocab), int64(p.TP))*int64(m.Hidden), prec.Embed)
	head, tail := stage == 0, stage == p.PP-1
	if head {
		w.Embedding += matrix
	}
	if tail {
		if !m.Tied || !head {
			w.Embedding += matrix
		}
		w.Other += 2 * int64(m.Hidden)
	}
	if tail && mtp && m.MTPLayers > 0 {
		var extra Weights
		extra.addLayers(m.Hidden, m.Kinds[m.MTPKind], m.MTPLayers, p, prec)
		h := int64(m.Hidden)
		extra.Dense += sizeOf(int64(m.MTPLayers)*2*h*h, prec.Weights)
		extra.Other += int64(m.MTPLayers) * 3 * h * 2
		w.MTP = extra.Total()
	}
	return w
}

func (w *Weights) addLayers(hidden int, k Layer, layers int, p Parallelism, prec Precision) {
	n, f := int64(layers), k.FFN
	w.Attention += sizeOf(n*k.Attention.Params(hidden, p.TP), prec.Attention)
	w.Dense += sizeOf(n*f.DenseParams(hidden, p.TP), prec.Weights)
	if f.Experts > 0 {
		held := ceilDiv(int64(f.Experts+p.Redundant), int64(p.EP))
		w.Experts += sizeOf(n*held*ceilDiv(f.ExpertParams(hidden), int64(p.MoETP)), prec.Experts)
		w.Other += 2 * n * f.RouterParams(hidden)
	}
	w.Other += 2 * n * int64(k.Norms)
}

// WeightBytes are those of the rank that has the most, layers for multi-token prediction not counted.
func (m *Model) WeightBytes(p Parallelism, prec Precision) (Weights, error) {
	if err := p.Validate(m); err != nil {
		return Weights{}, err
	}
	var most Weights
	for s := range max(p.PP, 1) {
		if w := m.StageWeights(p, prec, s, false); w.Total() > most.Total() {
			most = w
		}
	}
	return most, nil
}

func sizeOf(params int64, d DType) int64 { return int64(float64(params)*d.Bytes() + .5) }
