package plan

import "github.com/inferloom/inferloom/accel"

// Layout is where the ranks of one instance are. Its nodes, and the accelerators of each, are numbered in the order of their
// links: accelerators of equal number on different nodes share a rail.
type Layout struct {
	Ranks   int
	Nodes   int // that the instance has ranks on
	PerNode int // ranks on each
	Domains int // of the scale-up fabric that it spans
	// Shape is the slice of a torus that the instance fills, and Inner how many of its axes, from the last, an attention group
	// (TP) fills. Both are zero elsewhere.
	Shape accel.Shape
	Inner int

	order order
	domain,
	tp, dp, pp, ep int
}

// order is how an engine numbers ranks.
type order uint8

const (
	stagesInside  order = iota // vLLM: a data-parallel rank has all its pipeline stages, then the next has
	stagesOutside              // SGLang, TensorRT-LLM: a stage has all its data-parallel ranks, then the next has
)

// Place is where one rank is and what it does.
type Place struct {
	Rank, Node, Slot, Domain int // Slot is the accelerator in the node, and its rail
	TP, DP, PP, EP           int // its index in each group
	Coordinates              [3]int
}

// Place says where a rank is, from 0 to Ranks-1.
func (l Layout) Place(rank int) Place {
	p := Place{Rank: rank, Node: rank / l.PerNode, Slot: rank % l.PerNode, Domain: rank / l.domain, TP: rank % l.tp}
	group := rank / l.tp
	if l.order == stagesInside {
		p.PP, p.DP = group%l.pp, group/l.pp
	} else {
		p.DP, p.PP = group%l.dp, group/l.dp
	}
	p.EP = (p.DP*l.tp + p.TP) * l.ep / (l.tp * l.dp)
	chip := rank
	if size := l.Shape.Size(); size > 1 {
		chip /= max(l.Ranks/size, 1)
	}
	for i := 2; i >= 0; i-- {
		if n := l.Shape.Dims[i]; n > 0 {
			p.Coordinates[i], chip = chip%n, chip/n
		}
	}
	return p
}
