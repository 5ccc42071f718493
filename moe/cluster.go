package moe

import (
	"fmt"
	"math"
)

// Cluster is a set of GPUs, each with the same number of expert slots a layer. GPUs are numbered node by node, as evenly
// as they go: 8 GPUs on 3 nodes are 3, 3 and 2.
type Cluster struct {
	Nodes       int // 0 means 1
	GPUs        int // on all nodes
	SlotsPerGPU int
	// Dead are GPUs that are lost. They keep their numbers; their slots stay empty.
	Dead []int
}

// Slots is the number of slots a layer, those of dead GPUs included.
func (c Cluster) Slots() int { return c.GPUs * c.SlotsPerGPU }

// Node is the node of a GPU.
func (c Cluster) Node(gpu int) int { return gpu * c.nodes() / c.GPUs }

// GPU is the GPU of a slot.
func (c Cluster) GPU(slot int) int { return slot / c.SlotsPerGPU }

func (c Cluster) nodes() int { return max(c.Nodes, 1) }

func (c Cluster) live() int { return c.GPUs - len(c.Dead) }

func (c Cluster) isDead(gpu int) bool {
	for _, d := range c.Dead {
		if d == gpu {
			return true
		}
	}
	return false
}

func (c Cluster) check(p *problems) {
	if c.Nodes < 0 {
		p.add("Cluster.Nodes", c.Nodes, "must not be negative")
	}
	if c.GPUs < 1 {
		p.add("Cluster.GPUs", c.GPUs, "must be at least 1")
	} else if c.Nodes > c.GPUs {
		p.add("Cluster.Nodes", c.Nodes, fmt.Sprintf("must not exceed Cluster.GPUs: %d", c.GPUs))
	}
	if c.SlotsPerGPU < 1 {
		p.add("Cluster.SlotsPerGPU", c.SlotsPerGPU, "must be at least 1")
	} else if c.GPUs > math.MaxInt32/c.SlotsPerGPU {
		p.add("Cluster.GPUs", c.GPUs, "has too many slots in all")
	}
	for i, d := range c.Dead {
		if d < 0 || d >= c.GPUs {
			p.add(fmt.Sprintf("Cluster.Dead[%d]", i), d, fmt.Sprintf("must be a GPU from 0 to %d", c.GPUs-1))
		} else if (Cluster{Dead: c.Dead[:i]}).isDead(d) {
			p.add(fmt.Sprintf("Cluster.Dead[%d]", i), d, "must not be listed twice")
		}
	}
}

// checkFit also refuses a cluster without a slot for each expert.
func checkFit(l Loads, c Cluster, p *problems) {
	before := len(p.errs)
	shaped := l.checkShape(p)
	c.check(p)
	if !shaped || len(p.errs) > before {
		return
	}
	if l.Layers > math.MaxInt32/c.Slots() {
		p.add("Loads.Layers", l.Layers, "has too many slots in all")
	}
	if live := c.live() * c.SlotsPerGPU; live < l.Experts {
		p.add("Loads.Experts", l.Experts,
			fmt.Sprintf("must not exceed the slots of live GPUs: %d x %d = %d", c.live(), c.SlotsPerGPU, live))
	}
}

func checkBoth(l Loads, c Cluster, p *problems) {
	checkFit(l, c, p)
	if l.Layers > 0 && l.Experts > 0 && l.Layers <= math.MaxInt32/l.Experts {
		l.check(p)
	}
}
