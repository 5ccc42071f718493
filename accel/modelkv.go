package accel

// KV is what a rank keeps of the past for each sequence.
type KV struct {
	// TokenBytes are kept for each token, in layers that see all of the past.
	TokenBytes float64
	// Windows are what layers with a window keep, by kind of layer.
	Windows [MaxKinds]Window
	// StateBytes are kept for a sequence whatever its length, by linear attention.
	StateBytes float64
}

// Window is what layers of one kind keep of the last Tokens tokens.
type Window struct {
	Tokens     int
	TokenBytes float64
}

// Bytes is what a sequence of so many tokens takes.
func (k KV) Bytes(tokens int) float64 {
	sum := k.StateBytes + float64(tokens)*k.TokenBytes
	for _, w := range k.Windows {
		sum += float64(min(tokens, w.Tokens)) * w.TokenBytes
	}
	return sum
}

// KVElements is how many numbers all attention layers together store for a token, those with a window included and index
// keys of sparse attention not: what tables of models call KV cache a token.
func (m *Model) KVElements() int {
	sum := 0
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			sum += n * m.Kinds[i].Attention.kvElements(1)
		}
	}
	return sum
}

// KVBytesPerToken is KVElements in bytes of a type, index keys included.
func (m *Model) KVBytesPerToken(d DType) float64 {
	sum := 0.
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			sum += float64(n) * m.Kinds[i].Attention.tokenBytes(1, d)
		}
	}
	return sum
}

// StageKV is what a rank of a pipeline stage keeps for each sequence of its DP rank. KV heads are divided as far as they
// go: with more TP ranks than heads each rank has one. The latent of MLA and index keys are on every rank.
func (m *Model) StageKV(p Parallelism, d DType, stage int) KV {
	p = p.fill(m)
	var kv KV
	begin, end := m.StageLayers(p, stage)
	for i, n := range m.Count(begin, end) {
		if n == 0 {
			continue
		}
		a := m.Kinds[i].Attention
		perToken := float64(n) * a.tokenBytes(p.TP, d)
		if a.Window > 0 {
			kv.Windows[i] = Window{Tokens: a.Window, TokenBytes: perToken}
		} else {
			kv.TokenBytes += perToken
		}
		kv.StateBytes += float64(n) * a.stateBytes(p.TP)
	}
	return kv
}

// kvElements is what one layer stores for a token on a rank.
func (a Attention) kvElements(tp int) int {
	switch a.Kind {
	case GQA:
		return max(a.KVHeads/max(tp, 1), 1) * (a.HeadDim + a.Value())
	case MLA:
		return a.KVRank + a.RopeDim
	}
	return 0
}

// tokenBytes is what one layer stores for a token on a rank. Kernels of sparse attention read the latent in a layout of their
// own in FP8: a 4-byte scale for each 128 numbers, and the rotary part in BF16.
func (a Attention) tokenBytes(tp int, d DType) float64 {
	n := float64(a.kvElements(tp)) * d.Bytes()
	if a.TopK > 0 && a.Kind == MLA && d == FP8 {
		n = float64(a.KVRank) + 4*float64(ceilDiv(int64(a.KVRank), 128)) + 2*float64(a.RopeDim)
	}
	if a.IndexHeads > 0 {
		n += float64(a.IndexDim) + 4*float64(ceilDiv(int64(a.IndexDim), 128)) // FP8 and its scales
	}
	return n
}

// stateBytes is what one linear layer stores for a sequence: FP32 states and the last inputs of its convolution in BF16.
func (a Attention) stateBytes(tp int) float64 {
	if a.Kind != Linear {
		return 0
	}
	t := int64(max(tp, 1))
	keys, values := ceilDiv(int64(a.KeyHeads), t), ceilDiv(int64(a.ValueHeads), t)
	state := values * int64(a.KeyDim) * int64(a.ValueDim) * 4
	conv := (2*keys*int64(a.KeyDim) + values*int64(a.ValueDim)) * int64(max(a.Conv-1, 0)) * 2
	return float64(state + conv)
}
