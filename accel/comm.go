package accel

import "math"

// path is what bytes cross between ranks: a bandwidth within a scale-up domain and one beyond it.
type path struct {
	up, out float64 // bytes a second, one way, of a rank
	domain  int     // ranks a domain
}

// between is the path of ranks of a system. Where one chip has several devices they share its links.
func between(s System) path {
	devices := max(s.Accelerator.Devices, 1)
	return path{
		up:     s.ScaleUp.Bandwidth.Value / float64(devices),
		out:    s.ScaleOut.Bandwidth.Value / float64(devices),
		domain: max(s.ScaleUp.Domain, 1) * devices,
	}
}

// reach is the bandwidth within a domain that a group of n ranks can use: a mesh has a link for each peer, and a torus
// a share of its ports that grows with the dimensions that the group extends in.
func (s System) reach(n int) float64 {
	up := between(s).up
	switch s.ScaleUp.Kind {
	case Mesh:
		if peers := s.ScaleUp.Domain - 1; peers > 0 && n-1 < peers {
			return up * float64(max(n-1, 1)) / float64(peers)
		}
	case Torus:
		if n <= 2 && s.ScaleUp.Links > 0 {
			return up / float64(s.ScaleUp.Links)
		}
	}
	return up
}

// reduceSeconds is the time of an all-reduce of one byte over n ranks, in the bandwidth-optimal algorithm: each byte goes in
// and out 2 (n-1)/n times; across domains first each domain reduces, then equal ranks of the domains exchange their shares.
func (s System) reduceSeconds(n int) float64 {
	if n <= 1 {
		return 0
	}
	l := between(s)
	inside := min(n, l.domain)
	t := 2 * float64(inside-1) / float64(inside) / s.reach(inside)
	if n > l.domain {
		domains := math.Ceil(float64(n) / float64(l.domain))
		t += 2 * (domains - 1) / domains / float64(inside) / l.out
	}
	return t
}

// gatherSeconds is the time of an all-gather (or reduce-scatter) in which each of n ranks contributes one byte.
func (s System) gatherSeconds(n int) float64 {
	if n <= 1 {
		return 0
	}
	l := between(s)
	inside := min(n, l.domain)
	t := float64(inside-1) / s.reach(inside)
	if n > l.domain {
		t = max(t, float64(n-inside)/l.out)
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
// each token of a rank. dispatch and combine are bytes that one token sends to all its experts together.
func (s System) exchange(kind AllToAll, ranks, topK, groups int, dispatch, combine float64) (call, token float64) {
	if ranks <= 1 {
		return 0, 0
	}
	l := between(s)
	inside := min(ranks, l.domain)
	domains := math.Ceil(float64(ranks) / float64(l.domain))
	out := (domains - 1) / domains
	up := s.reach(inside)
	call = dispatchCall + combineCall
	if domains > 1 {
		call += 2 * nodeCall * min(math.Log2(domains), maxCallDoublings)
	}
	beyond := out
	if kind == DeepEPHighThroughput && domains > 1 {
		// One copy for each domain that has a chosen expert, instead of one for each expert.
		beyond = (distinct(domains, float64(topK), float64(groups)) - 1) / float64(topK)
	}
	token = dispatch*((1-out)/(up*dispatchUp)+beyond/max(l.out*kernelOut, 1)) + combine*((1-out)/(up*combineUp)+beyond/max(l.out*kernelOut, 1))
	if domains == 1 {
		token = dispatch/(up*dispatchUp) + combine/(up*combineUp)
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

// communicate fills in what ranks exchange in a step. routed is how many layers have routed experts.
func (p *Prepared) communicate(d Deployment, par Parallelism, routed float64) {
	s, hidden := d.System, float64(d.Model.Hidden)
	const activation = 2 // bytes: BF16
	ranks := par.TP * par.DP
	spread := routed > 0 && (par.DP > 1 || par.EP > 1 && d.AllToAll != AllGather)
	reduces := 2 * p.layers
	if spread {
		reduces -= routed // the expert part ends in an exchange instead
	}
	if par.TP > 1 {
		p.reduceToken = reduces * hidden * activation * s.reduceSeconds(par.TP)
		p.reduceCalls = reduces
	}
	if spread && ranks > 1 {
		f := d.Model.experts()
		// With attention cut TP ways each rank of the TP group sends a part of its group's tokens.
		share := 1 / p.tp
		if d.AllToAll == AllGather {
			p.spreadToken = routed * hidden * (1 + activation) * s.gatherSeconds(ranks) * share
			p.spreadCalls = 2 * routed
		} else {
			k := float64(f.TopK)
			groups := 0
			if f.Groups > 1 {
				groups = f.GroupTopK
			}
			call, token := s.exchange(d.AllToAll, ranks, f.TopK, groups, k*(hidden+hidden/32), k*hidden*activation)
			p.kernelStep, p.kernelToken = routed*call, routed*token*share
		}
	}
	if par.PP > 1 {
		l := between(s)
		p.hops = p.pp - 1
		link := l.up
		if ranks*par.PP > l.domain && l.out > 0 {
			link = l.out
		}
		p.hopToken = p.hops * hidden * activation / p.tp / link
	}
	if par.TP > between(s).domain {
		p.reduceFar = reduces * s.ScaleOut.Latency.Seconds()
	}
	p.fabric = between(s).out
	if p.fabric == 0 {
		p.fabric = between(s).up
	}
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
