package plan

import (
	"fmt"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// Cluster is where an instance's experts are, as package moe plans them: its GPUs are the expert-parallel ranks. It has no
// GPUs if the plan does not spread experts.
func (p *Plan) Cluster() moe.Cluster {
	c := cut{Parallelism: p.Deployment.Parallelism, layout: p.Layout}
	if c.EP <= 1 {
		return moe.Cluster{}
	}
	return c.cluster(p.Deployment.Model)
}

// Survivor is an instance that has lost one accelerator or one node.
type Survivor struct {
	Lost  int   `json:"lost"`  // the expert-parallel rank, or the node
	Ranks []int `json:"ranks"` // expert-parallel ranks that are gone
	// Orphans is how many experts, over all layers, have no replica left, and so have to be loaded before it can go on.
	Orphans int `json:"orphans"`
	// Refits says if the slots that are left hold every expert. Copies is then how many experts are loaded or moved at
	// least, and Balance that of the placement after it.
	Refits  bool    `json:"refits"`
	Copies  int     `json:"copies"`
	Balance float64 `json:"balance"`
}

// Survivors says what each single loss means for a placement of the plan's experts: of any accelerator or, with moe.AnyNode, any
// node. Loads may be uniform.
func (p *Plan) Survivors(placement *moe.Placement, loads moe.Loads, s moe.Survive) ([]Survivor, error) {
	want, got := p.Cluster(), placement.Cluster
	if want.GPUs != got.GPUs || want.Nodes != got.Nodes || len(got.Dead) > 0 {
		return nil, &accel.FieldError{Field: "Placement.Cluster", Value: fmt.Sprintf("%d GPUs on %d nodes", got.GPUs, got.Nodes),
			Want: fmt.Sprintf("must be the plan's %d on %d, all alive", want.GPUs, want.Nodes)}
	}
	units, unit := got.GPUs, func(gpu int) int { return gpu }
	if s == moe.AnyNode {
		units, unit = max(got.Nodes, 1), got.Node
	}
	out := make([]Survivor, units)
	for i := range out {
		out[i].Lost = i
	}
	for gpu := range got.GPUs {
		u := unit(gpu)
		out[u].Ranks = append(out[u].Ranks, gpu)
	}
	repair := moe.Rebalancer{Copies: -1, Effort: -1}
	var after moe.Placement
	for i := range out {
		u := &out[i]
		for l := range placement.Layers {
			for e := range placement.Experts {
				alive := false
				for _, slot := range placement.Slots(l, e) {
					alive = alive || unit(got.GPU(int(slot))) != i
				}
				if !alive {
					u.Orphans++
				}
			}
		}
		left := got
		left.Dead = u.Ranks
		u.Refits = (got.GPUs-len(u.Ranks))*got.SlotsPerGPU >= placement.Experts
		if !u.Refits {
			continue
		}
		m, err := repair.Plan(&after, placement, loads, left)
		if err != nil {
			return nil, err
		}
		u.Copies, u.Balance = m.Transfers, m.Balance
	}
	return out, nil
}
