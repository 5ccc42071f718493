package moe

// Cover says what a cluster can do about a loss.
type Cover struct {
	// Replicated: every expert can have replicas enough to stay alive without interruption.
	Replicated bool
	// Refit: the slots left after the loss of any one hold every expert, once those that were lost are loaded again.
	Refit bool
	// Experts is how many can have replicas enough.
	Experts int
	// Missing is how many slots more, on further GPUs or nodes, Replicated takes.
	Missing int
}

// Cover says if so many experts can survive a loss on the cluster's live GPUs.
func (c Cluster) Cover(experts int, s Survive) Cover {
	var p problems
	c.check(&p)
	if len(p.errs) > 0 || experts < 1 {
		return Cover{}
	}
	// A GPU or node serves at most one replica of each expert, so with two replicas each on different ones, slots beyond
	// that do not count; what is left suffices (Gale 1957, Ryser 1957).
	slots, useful, most := 0, 0, 0
	add := func(n int) {
		slots += n
		useful += min(n, experts)
		most = max(most, n)
	}
	if s == AnyNode {
		for n := range c.nodes() {
			add(c.liveOn(n) * c.SlotsPerGPU)
		}
	} else {
		for range c.live() {
			add(c.SlotsPerGPU)
		}
	}
	if s == Nothing {
		return Cover{Replicated: slots >= experts, Refit: slots >= experts, Experts: min(slots, experts), Missing: max(experts-slots, 0)}
	}
	return Cover{
		Replicated: useful >= 2*experts,
		Refit:      slots-most >= experts,
		Experts:    min(max(useful-experts, 0), experts),
		Missing:    max(2*experts-useful, 0),
	}
}

func (c Cluster) liveOn(node int) int {
	n := 0
	for g := range c.GPUs {
		if c.Node(g) == node && !c.isDead(g) {
			n++
		}
	}
	return n
}

// Exposed appends the experts of a layer that a single loss would leave without a replica: those on one GPU only or, with
// AnyNode, on one node only.
func (p *Placement) Exposed(into []int32, layer int, s Survive) []int32 {
	if s == Nothing {
		return into
	}
	for e := range p.Experts {
		slots := p.Slots(layer, e)
		where := func(slot int32) int {
			if s == AnyNode {
				return p.Cluster.Node(p.Cluster.GPU(int(slot)))
			}
			return p.Cluster.GPU(int(slot))
		}
		alone := true
		for _, slot := range slots {
			alone = alone && where(slot) == where(slots[0])
		}
		if alone {
			into = append(into, int32(e))
		}
	}
	return into
}
