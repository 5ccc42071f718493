package accel

import "fmt"

// Parallelism is how one instance of a model is cut over ranks, a rank being one device. A field that is 0 is 1, except that
// EP and MoETP of a mixture of experts follow from each other: TP x DP = EP x MoETP, and with neither set EP is 1, so that
// every rank has a part of each expert.
type Parallelism struct {
	TP int // attention and dense layers are cut in TP parts
	DP int // attention is replicated DP times, each with its own requests
	PP int // layers are cut in PP stages
	EP int // experts are spread over EP groups of ranks
	// MoETP is in how many parts each expert is cut.
	MoETP int
	// Redundant experts in each layer, in addition to the model's own, over all ranks.
	Redundant int
}

// Ranks is the devices of an instance: TP x DP x PP.
func (p Parallelism) Ranks() int { return max(p.TP, 1) * max(p.DP, 1) * max(p.PP, 1) }

// fill sets what is left open.
func (p Parallelism) fill(m *Model) Parallelism {
	p.TP, p.DP, p.PP = max(p.TP, 1), max(p.DP, 1), max(p.PP, 1)
	switch {
	case !m.MoE():
		p.EP, p.MoETP = 1, 1
	case p.EP == 0 && p.MoETP == 0:
		p.EP, p.MoETP = 1, p.TP*p.DP
	case p.EP == 0:
		p.EP = max(p.TP*p.DP/p.MoETP, 1)
	case p.MoETP == 0:
		p.MoETP = max(p.TP*p.DP/p.EP, 1)
	}
	return p
}

// Fill returns p with every field set, or what is wrong with it for a model: see [Parallelism.Validate].
func (p Parallelism) Fill(m *Model) (Parallelism, error) {
	if err := p.Validate(m); err != nil {
		return Parallelism{}, err
	}
	return p.fill(m), nil
}

const maxWays = 1 << 20

// Validate says what of p is impossible for a model, by field: heads that do not divide, experts that do not spread, more
// stages than layers.
func (p Parallelism) Validate(m *Model) error {
	var bad problems
	for _, f := range []struct {
		name string
		v    int
	}{{"TP", p.TP}, {"DP", p.DP}, {"PP", p.PP}, {"EP", p.EP}, {"MoETP", p.MoETP}, {"Redundant", p.Redundant}} {
		if f.v < 0 || f.v > maxWays {
			bad.add("Parallelism."+f.name, f.v, fmt.Sprintf("must be from 0 to %d", maxWays))
		}
	}
	if len(bad) > 0 {
		return bad.err()
	}
	if p.PP > m.Layers() {
		bad.add("Parallelism.PP", p.PP, fmt.Sprintf("must not exceed the model's layers: %d", m.Layers()))
	}
	tp := max(p.TP, 1)
	for i, n := range m.Count(0, m.Layers()) {
		if n == 0 {
			continue
		}
		if why := m.Kinds[i].Attention.divides(tp); why != "" {
			bad.add("Parallelism.TP", p.TP, why)
			break
		}
	}
	p.validateExperts(m, &bad)
	return bad.err()
}

// divides is why attention cannot be cut tp ways, or empty.
func (a Attention) divides(tp int) string {
	switch a.Kind {
	case GQA:
		if a.Heads%tp != 0 {
			return fmt.Sprintf("must divide the %d query heads", a.Heads)
		}
		if a.KVHeads%tp != 0 && tp%a.KVHeads != 0 {
			return fmt.Sprintf("must divide the %d KV heads or be a multiple of them", a.KVHeads)
		}
	case MLA:
		if a.Heads%tp != 0 {
			return fmt.Sprintf("must divide the %d query heads", a.Heads)
		}
	case Linear:
		if a.KeyHeads%tp != 0 || a.ValueHeads%tp != 0 {
			return fmt.Sprintf("must divide the %d key and %d value heads of linear attention", a.KeyHeads, a.ValueHeads)
		}
	}
	return ""
}

func (p Parallelism) validateExperts(m *Model, bad *problems) {
	ranks := max(p.TP, 1) * max(p.DP, 1)
	if !m.MoE() {
		for _, f := range []struct {
			name string
			v    int
		}{{"EP", p.EP}, {"MoETP", p.MoETP}} {
			if f.v > 1 {
				bad.add("Parallelism."+f.name, f.v, "must be 0 or 1 for a model without experts")
			}
		}
		if p.Redundant > 0 {
			bad.add("Parallelism.Redundant", p.Redundant, "must be 0 for a model without experts")
		}
		return
	}
	ways := max(p.EP, 1) * max(p.MoETP, 1)
	switch {
	case ranks%ways != 0 && p.MoETP > 1:
		bad.add("Parallelism.MoETP", p.MoETP, fmt.Sprintf("EP x MoETP must be TP x DP: %d", ranks))
		return
	case ranks%ways != 0, p.EP > 0 && p.MoETP > 0 && ways != ranks:
		bad.add("Parallelism.EP", p.EP, fmt.Sprintf("EP x MoETP must be TP x DP: %d", ranks))
		return
	}
	full := p.fill(m)
	for _, k := range m.Kinds {
		f := k.FFN
		if f.Experts == 0 {
			continue
		}
		if (f.Experts+p.Redundant)%full.EP != 0 {
			bad.add("Parallelism.EP", full.EP, fmt.Sprintf("must divide %d experts + %d redundant", f.Experts, p.Redundant))
			return
		}
		if f.ExpertWidth%full.MoETP != 0 {
			bad.add("Parallelism.MoETP", full.MoETP, fmt.Sprintf("must divide the experts' width: %d", f.ExpertWidth))
			return
		}
		if p.Redundant > 0 && full.EP == 1 {
			bad.add("Parallelism.Redundant", p.Redundant, "needs EP above 1")
			return
		}
		if p.Redundant > f.Experts*(full.EP-1) {
			bad.add("Parallelism.Redundant", p.Redundant, "exceeds a copy of each expert on every rank")
			return
		}
	}
}
