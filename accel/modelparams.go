package accel

// Params is a number of parameters, by part.
type Params struct {
	Embedding int64 // of tokens
	Head      int64 // output; 0 where it is the embedding
	Attention int64 // projections, biases and norms inside attention, the indexer of sparse attention included
	Dense     int64 // feed-forward parts that each token goes through, shared experts included
	Routed    int64 // routed experts
	Router    int64
	Norms     int64
}

// Total is their sum.
func (p Params) Total() int64 {
	return p.Embedding + p.Head + p.Attention + p.Dense + p.Routed + p.Router + p.Norms
}

// Params are all parameters of the text model, layers for multi-token prediction not counted.
func (m *Model) Params() Params {
	p := m.outer()
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			p.add(m.Kinds[i].params(m.Hidden, false), n)
		}
	}
	p.Norms += int64(m.Hidden)
	return p
}

// ActiveParams are those that take part in computing one token: of routed experts TopK in each layer. Embedding and head are
// counted, as most published figures do.
func (m *Model) ActiveParams() Params {
	p := m.outer()
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			p.add(m.Kinds[i].params(m.Hidden, true), n)
		}
	}
	p.Norms += int64(m.Hidden)
	return p
}

// MTPParams are those of the layers for multi-token prediction: each a layer, a projection of two hidden states to one and
// three norms. Embedding and head are the model's own.
func (m *Model) MTPParams() Params {
	var p Params
	if m.MTPLayers > 0 {
		p.add(m.Kinds[m.MTPKind].params(m.Hidden, false), m.MTPLayers)
		h := int64(m.Hidden)
		p.Dense += int64(m.MTPLayers) * 2 * h * h
		p.Norms += int64(m.MTPLayers) * 3 * h
	}
	return p
}

func (m *Model) outer() Params {
	p := Params{Embedding: int64(m.Vocab) * int64(m.Hidden)}
	if !m.Tied {
		p.Head = p.Embedding
	}
	return p
}

func (p *Params) add(q Params, times int) {
	n := int64(times)
	p.Embedding += n * q.Embedding
	p.Head += n * q.Head
	p.Attention += n * q.Attention
	p.Dense += n * q.Dense
	p.Routed += n * q.Routed
	p.Router += n * q.Router
	p.Norms += n * q.Norms
}

func (k Layer) params(hidden int, active bool) Params {
	f := k.FFN
	routed := f.Experts
	if active {
		routed = f.TopK
	}
	if f.Experts == 0 {
		routed = 0
	}
	return Params{
		Attention: k.Attention.Params(hidden, 1),
		Dense:     f.DenseParams(hidden, 1),
		Routed:    int64(routed) * f.ExpertParams(hidden),
		Router:    f.RouterParams(hidden),
		Norms:     int64(k.Norms),
	}
}

// Params are a rank's parameters of one attention layer, cut tp ways. Query heads are divided; KV heads too as far as there
// are enough, then each rank has one; the down-projections of MLA and the indexer are on every rank.
func (a Attention) Params(hidden, tp int) int64 {
	h, t := int64(hidden), int64(max(tp, 1))
	n := int64(a.Vectors)
	switch a.Kind {
	case GQA:
		heads, kv := ceilDiv(int64(a.Heads), t), max(int64(a.KVHeads)/t, 1)
		query := heads * int64(a.HeadDim)
		if a.OutputGate {
			query *= 2
		}
		n += h * (query + kv*int64(a.HeadDim+a.Value()) + heads*int64(a.Value()))
	case MLA:
		heads := ceilDiv(int64(a.Heads), t)
		query := heads * int64(a.NopeDim+a.RopeDim)
		if a.QRank > 0 {
			n += h*int64(a.QRank) + int64(a.QRank)*query
		} else {
			n += h * query
		}
		n += h*int64(a.KVRank+a.RopeDim) + int64(a.KVRank)*heads*int64(a.NopeDim+a.ValueDim) + heads*int64(a.ValueDim)*h
	case Linear:
		keys, values := ceilDiv(int64(a.KeyHeads), t), ceilDiv(int64(a.ValueHeads), t)
		k, v := keys*int64(a.KeyDim), values*int64(a.ValueDim)
		n += h*(2*k+2*v+2*values) + int64(a.Conv)*(2*k+v) + v*h
	}
	if a.IndexHeads > 0 {
		from := int64(a.QRank)
		if from == 0 {
			from = h
		}
		n += from*int64(a.IndexHeads)*int64(a.IndexDim) + h*int64(a.IndexDim+a.IndexHeads) + 2*int64(a.IndexDim)
	}
	return n
}

// Value is the width of a head's values.
func (a Attention) Value() int {
	if a.Kind == GQA && a.ValueDim == 0 {
		return a.HeadDim
	}
	return a.ValueDim
}

// DenseParams are a rank's parameters that every token goes through, cut tp ways: the dense part or the shared experts.
func (f FFN) DenseParams(hidden, tp int) int64 {
	return 3 * int64(hidden) * ceilDiv(int64(f.Intermediate+f.SharedWidth), int64(max(tp, 1)))
}

// ExpertParams are those of one routed expert.
func (f FFN) ExpertParams(hidden int) int64 {
	n := 3 * int64(hidden) * int64(f.ExpertWidth)
	if f.ExpertBias {
		n += 2*int64(f.ExpertWidth) + int64(hidden)
	}
	return n
}

// RouterParams are those that choose experts; every rank has them.
func (f FFN) RouterParams(hidden int) int64 { return int64(hidden)*int64(f.Experts) + int64(f.Vectors) }

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
