package moe

import "fmt"

// rules are what a plan must keep.
type rules struct {
	groups  int
	rule    GroupRule
	survive Survive
}

func (r rules) check(loads Loads, owner string, p *problems) {
	if r.groups < 0 {
		p.add(owner+".Groups", r.groups, "must not be negative")
	} else if g := max(r.groups, 1); loads.Experts > 0 && loads.Experts%g != 0 {
		p.add("Loads.Experts", loads.Experts, fmt.Sprintf("must be a multiple of %s.Groups: %d", owner, g))
	}
	if r.rule < Anywhere || r.rule > Confined {
		p.add(owner+".Rule", int(r.rule), "must be Anywhere, Homed or Confined")
	}
	if r.survive < Nothing || r.survive > AnyNode {
		p.add(owner+".Survive", int(r.survive), "must be Nothing, AnyGPU or AnyNode")
	}
}

func (b *planner) lack(layer int, what string) {
	b.unmet = append(b.unmet, fmt.Sprintf("layer %d: %s", layer, what))
}

// prepare sets the rules of a layer whose weights are set, and the replicas that experts must have and should have. It
// returns the least greatest GPU load that is possible.
func (b *planner) prepare(r rules, layer int) float64 {
	y := &b.layout
	y.rule, y.twoNodes = r.rule, false
	for e := range y.least {
		y.least[e] = 1
	}
	bound := b.assign(r, layer)
	// Other nodes for groups could have a lower greatest share, and other experts could be covered, so only the share that
	// needs neither is proven.
	rule := y.rule
	y.rule = Anywhere
	bound = max(bound, b.builder.counts(y), sum(y.weight)/float64(y.cluster.live()))
	y.rule = rule
	if r.survive != Nothing {
		b.cover(r.survive, layer)
	}
	if y.rule == Confined || r.survive != Nothing {
		b.builder.counts(y)
	}
	return bound
}

// assign finds nodes for groups. It returns the least greatest GPU load if they are confined to nodes.
func (b *planner) assign(r rules, layer int) float64 {
	y := &b.layout
	if r.rule == Anywhere {
		return 0
	}
	groups := max(r.groups, 1)
	if r.rule == Confined && r.survive == AnyGPU {
		if top, ok := b.assigner.assign(y, groups, 2); ok {
			return top
		}
	}
	top, ok := b.assigner.assign(y, groups, 1)
	if !ok {
		b.lack(layer, fmt.Sprintf("groups of %d experts do not fit the nodes and are not kept %s", y.experts/groups, r.rule))
		y.rule = Anywhere
		return 0
	}
	if r.rule == Confined {
		return top
	}
	return 0
}

// cover asks for two replicas of as many experts as can have them, the most loaded first.
func (b *planner) cover(s Survive, layer int) {
	y := &b.layout
	if y.rule == Confined && s == AnyNode {
		b.lack(layer, "groups confined to a node do not survive its loss")
		return
	}
	y.twoNodes = s == AnyNode
	covered, missing := 0, 0
	if y.rule == Confined {
		for n := range y.cluster.nodes() {
			experts := 0
			for _, home := range y.home {
				if int(home) == n {
					experts++
				}
			}
			useful := y.liveOn(n) * min(y.cluster.SlotsPerGPU, experts)
			here := min(max(useful-experts, 0), experts)
			b.coverHeaviest(here, n)
			covered += here
			missing += max(2*experts-useful, 0)
		}
	} else {
		c := y.cluster.Cover(y.experts, s)
		b.coverHeaviest(c.Experts, -1)
		covered, missing = c.Experts, c.Missing
	}
	if covered < y.experts {
		b.lack(layer, fmt.Sprintf("%d of %d experts have one replica: %d slots more would let all survive the loss of %s",
			y.experts-covered, y.experts, missing, s))
	}
}

// coverHeaviest asks for two replicas of the n most loaded experts, of one node's groups or, at -1, of all.
func (b *planner) coverHeaviest(n, node int) {
	y := &b.layout
	for range n {
		best := -1
		for e, w := range y.weight {
			if y.least[e] == 1 && (node < 0 || int(y.home[e]) == node) && (best < 0 || w > y.weight[best]) {
				best = e
			}
		}
		y.least[best] = 2
	}
}
