package plan

import (
	"fmt"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// cut is everything about a plan but its load: how one instance is cut and what carries its tokens.
type cut struct {
	accel.Parallelism // every field set
	kernel            accel.AllToAll
	overlap           bool
	precision         accel.Precision
	layout            Layout
	system            accel.System // of ranks
	balance           float64      // of experts
	replicas          int          // that the accelerators hold

	number  int      // of legal cuts
	batches []int    // that fit
	cap     string   // why no more do
	loads   int      // see search.try
	tried   []*point // by load
}

func (c *cut) String() string { return describe(c.Parallelism) }

func describe(p accel.Parallelism) string {
	b := fmt.Appendf(nil, "TP%d", max(p.TP, 1))
	for _, f := range []struct {
		name string
		v    int
	}{{"DP", p.DP}, {"PP", p.PP}, {"EP", p.EP}} {
		if f.v > 1 {
			b = fmt.Appendf(b, " %s%d", f.name, f.v)
		}
	}
	if p.Redundant > 0 {
		b = fmt.Appendf(b, "+%d", p.Redundant)
	}
	if p.MoETP > 1 {
		b = fmt.Appendf(b, " MoETP%d", p.MoETP)
	}
	return string(b)
}

// sizes are the numbers of ranks an instance may have: parts of a node, or whole nodes within a domain or of whole domains.
func (s *search) sizes() []int {
	var out []int
	fabric := s.ranks
	for n := 1; n <= min(s.Accelerators*s.devices, maxRanks); n++ {
		if fabric.ScaleUp.Torus != nil {
			if _, ok := s.slice(n); ok {
				out = append(out, n)
			}
			continue
		}
		if n > fabric.PerNode && n%fabric.PerNode != 0 {
			continue
		}
		if d := fabric.ScaleUp.Domain; d > fabric.PerNode && n > d && n%d != 0 {
			continue
		}
		out = append(out, n)
	}
	return out
}

// maxRanks bounds an instance; the widest published has 320.
const maxRanks = 1024

// replicas is how many instances of n ranks the accelerators hold if none straddles nodes, or domains, without need.
func (s *search) replicas(n int) int {
	fill := func(total, unit int) int { return total/unit*(unit/n) + total%unit/n }
	fabric, total := s.ranks, s.Accelerators*s.devices
	whole := total - total%fabric.PerNode
	switch d := fabric.ScaleUp.Domain; {
	case fabric.ScaleUp.Torus != nil:
		return total / n
	case n <= fabric.PerNode:
		return fill(total, fabric.PerNode)
	case d > fabric.PerNode && n <= d:
		return fill(whole, d)
	}
	return whole / n
}

// cuts calls yield with each cut that a problem allows in principle, in a fixed order: which of them are legal, refusal says.
func (s *search) cuts(yield func(*cut)) {
	precisions := s.precisions()
	for _, n := range s.sizes() {
		replicas := s.replicas(n)
		if replicas == 0 {
			continue
		}
		for tp := 1; tp <= n; tp++ {
			if n%tp != 0 || s.Fixed.TP > 0 && tp != s.Fixed.TP {
				continue
			}
			for pp := 1; pp <= n/tp; pp++ {
				dp := n / tp / pp
				if n%(tp*pp) != 0 || s.Fixed.PP > 0 && pp != s.Fixed.PP || s.Fixed.DP > 0 && dp != s.Fixed.DP {
					continue
				}
				s.expertCuts(accel.Parallelism{TP: tp, DP: dp, PP: pp}, func(par accel.Parallelism) {
					for _, k := range kernels(par) {
						for _, precision := range precisions {
							c := cut{Parallelism: par, kernel: k.kernel, overlap: k.overlap, precision: precision, replicas: replicas, balance: 1}
							yield(&c)
						}
					}
				})
			}
		}
	}
}

// expertCuts adds how experts are spread, cut and repeated.
func (s *search) expertCuts(par accel.Parallelism, yield func(accel.Parallelism)) {
	e := experts(s.Model)
	if e == 0 {
		if par.DP > 1 {
			return // instances of their own
		}
		par.EP, par.MoETP = 1, 1
		if s.Fixed.EP <= 1 && s.Fixed.MoETP <= 1 && s.Fixed.Redundant == 0 {
			yield(par)
		}
		return
	}
	ranks := par.TP * par.DP
	for ep := ranks; ep >= 1; ep-- {
		if ranks%ep != 0 || s.Engine == accel.VLLM && ep > 1 && ep < ranks && s.Fixed.EP == 0 {
			continue // vLLM has no such mixtures, and there are many
		}
		par.EP, par.MoETP = ep, ranks/ep
		if s.Fixed.EP > 0 && ep != s.Fixed.EP || s.Fixed.MoETP > 0 && par.MoETP != s.Fixed.MoETP {
			continue
		}
		for _, par.Redundant = range s.redundant(par, e) {
			yield(par)
		}
	}
}

// redundant is how many experts to add so that they fill a slot more or less of each rank.
func (s *search) redundant(par accel.Parallelism, experts int) []int {
	ep := par.EP
	if r := s.Fixed.Redundant; r > 0 {
		return []int{r}
	}
	slots := (experts + ep - 1) / ep
	least := slots*ep - experts
	if ep == 1 {
		return []int{0}
	}
	out := []int{least}
	if s.Survive != moe.Nothing {
		nodes := min(ep, (par.TP*par.DP+s.ranks.PerNode-1)/s.ranks.PerNode)
		for more := slots + 1; more <= 2*slots; more++ {
			if (moe.Cluster{Nodes: nodes, GPUs: ep, SlotsPerGPU: more}).Cover(experts, s.Survive).Replicated {
				out = append(out, more*ep-experts)
				break
			}
		}
	}
	if s.Loads.Experts > 0 {
		for _, more := range []int{1, 2} {
			if r := least + more*ep; r <= experts && r != out[len(out)-1] {
				out = append(out, r)
			}
		}
	}
	return out
}

type kernel struct {
	kernel  accel.AllToAll
	overlap bool
}

// kernels are those that a spread of experts can use at all: only ranks with requests of their own exchange tokens.
func kernels(par accel.Parallelism) []kernel {
	if par.EP == 1 || par.DP == 1 {
		return []kernel{{accel.AllGather, false}}
	}
	return []kernel{
		{accel.AllGather, false}, {accel.DeepEPHighThroughput, false}, {accel.DeepEPHighThroughput, true},
		{accel.DeepEPLowLatency, false}, {accel.DeepEPLowLatency, true}, {accel.NVLinkAllToAll, false},
	}
}

func (s *search) precisions() []accel.Precision {
	if len(s.Precisions) > 0 {
		return s.Precisions
	}
	out := []accel.Precision{{KV: accel.BF16}}
	if _, ok := s.System.Accelerator.Peak(accel.FP8); ok {
		out = append(out, accel.Precision{KV: accel.FP8})
	}
	return out
}

// deployment is an instance that runs so many requests a data-parallel rank.
func (s *search) deployment(c *cut, sequences int) accel.Deployment {
	d := accel.Deployment{
		Model: s.Model, System: c.system, Parallelism: c.Parallelism, Precision: c.precision, Engine: s.Engine,
		MemoryFraction: s.MemoryFraction, MaxBatchedTokens: s.MaxBatchedTokens, MaxSequences: sequences,
		AllToAll: c.kernel, TwoBatchOverlap: c.overlap, ExpertBalance: c.balance,
	}
	if s.Role != Prefill {
		d.MTPDepth, d.MTPAcceptance = s.MTPDepth, s.MTPAcceptance
	}
	if c.kernel == accel.DeepEPLowLatency {
		d.DispatchTokens = sequences * (d.MTPDepth + 1)
	}
	return d
}
