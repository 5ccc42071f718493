package accel

import "math"

// reduceSeconds is the time of an all-reduce of one byte in the bandwidth-optimal algorithm: each byte goes out and in
// 2 (n-1)/n times; across domains first each domain reduces, then equal ranks of the domains exchange their shares.
func (g Group) reduceSeconds() float64 {
	if g.Ranks <= 1 {
		return 0
	}
	inside, domains := float64(g.PerDomain), float64(g.Domains)
	t := 0.
	if inside > 1 {
		t = 2 * (inside - 1) / inside / g.Up.Ring
	}
	if domains > 1 {
		t += 2 * (domains - 1) / domains / inside / g.Out.Ring
	}
	return t
}

// gatherSeconds is the time of an all-gather, or a reduce-scatter, to which each rank contributes one byte.
func (g Group) gatherSeconds() float64 {
	if g.Ranks <= 1 {
		return 0
	}
	t := 0.
	if g.PerDomain > 1 {
		t = float64(g.PerDomain-1) / g.Up.Ring
	}
	if g.Domains > 1 {
		t = max(t, float64(g.Ranks-g.PerDomain)/g.Out.Ring)
	}
	return t
}

// Efficiencies and latencies of the low-latency kernels of DeepEP, fitted to latencies that the aiconfigurator project has
// measured on H100, B200, B300, GB200 and GB300 (Apache-2.0): of a link's rate they reach so much, and a call takes at least
// so long. More nodes add a little.
const (
	dispatchUp, combineUp = .63, .62 // of the scale-up rate
	kernelOut             = .95      // of the scale-out rate
	dispatchCall          = 15e-6
	combineCall           = 14e-6
	nodeCall              = 5e-6 // for each doubling of domains
	maxCallDoublings      = 3
)

// exchange is the time of dispatch and combine of one MoE layer with a DeepEP-like kernel: a fixed part, and a part for
// each token of a rank. dispatch and combine are bytes that one token sends to all its topK experts together; groups is how
// many groups of experts, as many as domains, it can choose from, or 0.
func (g Group) exchange(kind AllToAll, topK, groups int, dispatch, combine float64) (call, token float64) {
	if g.Ranks <= 1 {
		return 0, 0
	}
	call = dispatchCall + combineCall
	out := g.OutShare
	sent := 1 - out // over the scale-up fabric
	if g.Domains > 1 {
		domains := float64(g.Domains)
		call += 2 * nodeCall * min(math.Log2(domains), maxCallDoublings)
		if kind == DeepEPHighThroughput {
			// One copy for each other domain that has a chosen expert, and the rest within it.
			out = (distinct(domains, float64(topK), float64(groups)) - 1) / float64(topK)
			sent = 1
		}
	}
	if sent > 0 && g.PerDomain > 1 {
		token = sent * (dispatch/(g.Up.AllToAll*dispatchUp) + combine/(g.Up.AllToAll*combineUp))
	}
	if out > 0 {
		token += out * (dispatch + combine) / (g.Out.Ring * kernelOut)
	}
	return call, token
}

// distinct is the expected number of domains that k experts chosen at random lie in, of which groups limits how many there
// are at most; 0 is no limit.
func distinct(domains, k, groups float64) float64 {
	d := domains * (1 - math.Pow(1-1/domains, k))
	if groups > 0 {
		d = min(d, groups)
	}
	return max(d, 1)
}

// ranks is a group of ranks. Between devices of one chip, of which no rate is known, it takes that of all links of the chip.
func (s System) ranks(n int) (Group, error) {
	g, err := s.Group(n)
	if g.Up.Ring == 0 {
		g.Up.Ring = s.ScaleUp.Bandwidth.Value
	}
	if g.Up.AllToAll == 0 {
		g.Up.AllToAll = s.ScaleUp.Bandwidth.Value
	}
	return g, err
}

// communicate fills in what ranks exchange in a step. routed is how many layers have routed experts.
func (p *Prepared) communicate(d Deployment, par Parallelism, routed float64) error {
	s, hidden := d.System, float64(d.Model.Hidden)
	const activation = 2 // bytes: BF16
	ranks := par.TP * par.DP
	spread := routed > 0 && (par.DP > 1 || par.EP > 1 && d.AllToAll != AllGather)
	reduces := 2 * p.layers
	if spread {
		reduces -= routed // the expert part ends in an exchange instead
	}
	if par.TP > 1 {
		g, err := s.ranks(par.TP)
		if err != nil {
			return err
		}
		p.reduceToken = reduces * hidden * activation * g.reduceSeconds()
		p.reduceCalls = reduces
		if g.Domains > 1 {
			p.reduceFar = reduces * g.Out.Latency.Seconds()
		}
	}
	if spread && ranks > 1 {
		g, err := s.ranks(ranks)
		if err != nil {
			return err
		}
		f := d.Model.experts()
		// With attention cut TP ways each rank of a TP group sends a part of the group's tokens.
		share := 1 / p.tp
		if d.AllToAll == AllGather {
			p.spreadToken = routed * hidden * (1 + activation) * g.gatherSeconds() * share
			p.spreadCalls = 2 * routed
		} else {
			k, groups := float64(f.TopK), 0
			if f.Groups > 1 {
				groups = f.GroupTopK
			}
			call, token := g.exchange(d.AllToAll, f.TopK, groups, k*(hidden+hidden/32), k*hidden*activation)
			p.kernelStep, p.kernelToken = routed*call, routed*token*share
		}
	}
	p.fabric = s.ScaleOut.Bandwidth.Value
	if p.fabric == 0 {
		p.fabric = s.ScaleUp.Bandwidth.Value
	}
	if par.PP > 1 {
		p.hops = p.pp - 1
		link := s.ScaleUp.Bandwidth.Value
		if par.Ranks() > s.domain() {
			link = s.ScaleOut.Bandwidth.Value
		}
		p.hopToken = p.hops * hidden * activation / p.tp / link
	}
	return nil
}

// experts is the feed-forward part of the first kind of layer that has routed experts.
func (m *Model) experts() FFN {
	for _, k := range m.Kinds {
		if k.FFN.Experts > 0 {
			return k.FFN
		}
	}
	return FFN{}
}
