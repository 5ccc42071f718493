package accel

// DecodeFLOPs is the work of one more token after so many, on the whole model: two for each active weight, and attention
// over what it sees. The embedding is looked up, not multiplied.
func (m *Model) DecodeFLOPs(context int) float64 {
	p := m.ActiveParams()
	sum := 2 * float64(p.Total()-p.Embedding-p.Norms)
	if m.Tied {
		sum += 2 * float64(p.Embedding)
	}
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			sum += float64(n) * m.Kinds[i].Attention.ScoreFLOPs(float64(context), true)
		}
	}
	return sum
}

// PrefillFLOPs is the work of tokens new tokens after cached ones that need none, on the whole model. The output head works
// for the last token only.
func (m *Model) PrefillFLOPs(tokens, cached int) float64 {
	if tokens <= 0 {
		return 0
	}
	p := m.ActiveParams()
	head := 2 * float64(m.Vocab) * float64(m.Hidden)
	sum := head + float64(tokens)*2*float64(p.Total()-p.Embedding-p.Head-p.Norms)
	for i, n := range m.Count(0, m.Layers()) {
		if n > 0 {
			sum += float64(n) * m.Kinds[i].Attention.PrefillScoreFLOPs(tokens, cached)
		}
	}
	return sum
}

// ScoreFLOPs is the work of one query in one layer over seen tokens: scores and the sum of values, and for linear attention
// the update of its state. Sparse attention scores all tokens with its indexer and then only TopK. MLA works on the latent
// when it decodes (absorbed) and on expanded heads otherwise.
func (a Attention) ScoreFLOPs(seen float64, absorbed bool) float64 {
	if a.Kind == Linear {
		// Decay, recall, outer product and read of each value head's state.
		return 7 * float64(a.ValueHeads) * float64(a.KeyDim) * float64(a.ValueDim)
	}
	sum := 2 * seen * float64(a.IndexHeads) * float64(a.IndexDim)
	return sum + a.sees(seen)*a.pairFLOPs(absorbed)
}

// PrefillScoreFLOPs is the sum of ScoreFLOPs over tokens new tokens after cached ones, each seeing those before it and
// itself.
func (a Attention) PrefillScoreFLOPs(tokens, cached int) float64 {
	n, c := float64(tokens), float64(cached)
	if a.Kind == Linear {
		return n * a.ScoreFLOPs(0, false)
	}
	sum := 2 * pairs(n, c, 0) * float64(a.IndexHeads) * float64(a.IndexDim)
	return sum + pairs(n, c, a.limit())*a.pairFLOPs(false)
}

// pairFLOPs is the work of one query and one key, over all heads.
func (a Attention) pairFLOPs(absorbed bool) float64 {
	if a.Kind == MLA {
		if absorbed {
			return 2 * float64(a.Heads) * float64(2*a.KVRank+a.RopeDim)
		}
		return 2 * float64(a.Heads) * float64(a.NopeDim+a.RopeDim+a.ValueDim)
	}
	return 2 * float64(a.Heads) * float64(a.HeadDim+a.Value())
}

// limit is the tokens that a query attends to at most; 0 is all.
func (a Attention) limit() float64 {
	switch {
	case a.Window > 0 && a.TopK > 0:
		return float64(min(a.Window, a.TopK))
	case a.TopK > 0:
		return float64(a.TopK)
	}
	return float64(a.Window)
}

func (a Attention) sees(tokens float64) float64 {
	if l := a.limit(); l > 0 {
		return min(tokens, l)
	}
	return tokens
}

// pairs is the query-key pairs of n queries after c tokens, of which each sees at most limit.
func pairs(n, c, limit float64) float64 {
	if limit <= 0 || n+c <= limit {
		return n*c + n*(n+1)/2
	}
	if c >= limit {
		return n * limit
	}
	free := limit - c // queries that see all before them
	return free*c + free*(free+1)/2 + (n-free)*limit
}
