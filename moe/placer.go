package moe

import (
	"fmt"
	"math"
)

// Survive says what loss must leave a replica of every expert.
type Survive int

const (
	Nothing Survive = iota
	// AnyGPU keeps two replicas of each expert, on two GPUs.
	AnyGPU
	// AnyNode keeps two replicas of each expert, on two nodes.
	AnyNode
)

func (s Survive) String() string {
	if s < Nothing || s > AnyNode {
		return "unknown"
	}
	return [...]string{"nothing", "any GPU", "any node"}[s]
}

// Defaults of Placer.
const (
	DefaultTolerance = 1e-4
	DefaultEffort    = 200
)

// Placer chooses replica counts and GPUs of experts jointly, so that the greatest GPU load of each layer is small. The zero
// value works. A layer is planned in three steps:
//
//  1. Counts by water-filling: the next replica goes to the expert with the greatest load a replica. That minimises the
//     greatest share, a proven bound. Groups get nodes by branch and bound.
//  2. Longest processing time first (Graham 1969): shares in descending order, each on the lightest GPU that has room and
//     may hold it.
//  3. Iterated local search (Lourenço, Martin and Stützle 2003) on the heaviest GPU: of all moves that relieve it, make the
//     one after which the GPUs it touches are least loaded. A move swaps two experts of two GPUs, gives an expert of the
//     heaviest GPU another replica in the slot of one that can spare it, or gives a slot of the heaviest GPU to another
//     expert; so counts and packing change together. Where no move helps, shake a few slots and descend again; keep what
//     is not worse.
//
// It stops within Tolerance of the bound. With 32 GPUs of 9 slots most layers do so without shaking.
type Placer struct {
	// Groups of consecutive experts, for Rule; 0 means 1.
	Groups int
	Rule   GroupRule
	// Survive asks for replicas enough to lose a GPU or a node. Where slots do not suffice, the most loaded experts are
	// covered and the report says so.
	Survive Survive
	// FillSlots leaves no slot empty that an expert could fill. Else a slot of a small cluster can stay empty where any
	// expert in it would take load to a GPU that is full.
	FillSlots bool
	// Tolerance is the relative distance to the proven bound at which search stops; 0 means DefaultTolerance.
	Tolerance float64
	// Effort is how often a layer is shaken at most, in layers of 256 slots; smaller layers are shaken more often, in
	// proportion. 0 means DefaultEffort, less than 0 never. Each takes some 10 µs to 100 µs.
	Effort int

	planner
	eplb  EPLB
	other Placement
}

// Report is what a plan achieves. Its slices are valid until the next plan.
type Report struct {
	// Balance and Worst are the mean and the least over layers of mean over greatest GPU load.
	Balance, Worst float64
	// Bound is the mean over layers of what no placement under the same rules can exceed.
	Bound float64
	// Layers is the balance of each, Bounds its bound.
	Layers, Bounds []float64
	// Unmet says what was asked for and could not be met. The plan is legal otherwise.
	Unmet []string
}

// planner is what Placer and Rebalancer share.
type planner struct {
	layout   layout
	builder  builder
	assigner assigner
	shaker   shaker
	balances []float64
	bounds   []float64
	unmet    []string
}

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

// Plan fills a placement. Errors are joined FieldErrors.
func (b *Placer) Plan(into *Placement, loads Loads, cluster Cluster) (Report, error) {
	r := rules{b.Groups, b.Rule, b.Survive}
	var p problems
	checkBoth(loads, cluster, &p)
	r.check(loads, "Placer", &p)
	if !(b.Tolerance >= 0 && b.Tolerance < 1) {
		p.add("Placer.Tolerance", b.Tolerance, "must be from 0 to below 1")
	}
	if err := p.err(); err != nil {
		return Report{}, err
	}
	tolerance := b.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	into.reset(loads.Layers, loads.Experts, cluster)
	b.begin(loads.Layers, loads.Experts, cluster)
	for l := range loads.Layers {
		loads.row(l, b.layout.weight)
		bound := b.prepare(r, l)
		b.layout.empty()
		if missing := b.builder.build(&b.layout); missing > 0 {
			b.lack(l, fmt.Sprintf("%d replicas found no slot under the rules", missing))
		}
		goal, effort := bound*(1+tolerance), shakes(b.Effort, cluster.Slots())
		b.layout.sparse = false
		b.shaker.search(&b.layout, goal, effort, math.MaxInt32, uint64(l))
		if !b.FillSlots && b.layout.top() > goal {
			b.layout.sparse = true
			b.shaker.search(&b.layout, goal, effort, math.MaxInt32, uint64(l))
			b.layout.refill()
		}
		if r.rule == Anywhere && r.survive == Nothing && b.layout.top() > goal {
			b.challenge(goal)
		}
		b.finish(into, l, bound)
	}
	return b.report(), nil
}

// challenge takes EPLB's plan of the layer as another start, without what it has twice on a GPU, and keeps the better plan.
func (b *Placer) challenge(goal float64) {
	y := &b.layout
	if b.eplb.Plan(&b.other, Loads{Layers: 1, Experts: y.experts, Tokens: y.weight}, y.cluster) != nil {
		return
	}
	top := y.top()
	b.shaker.save(y)
	y.empty()
	for s, e := range b.other.Row(0) {
		if e != Empty && y.canPut(e, y.cluster.GPU(s)) {
			y.put(e, s)
		}
	}
	if b.FillSlots {
		b.builder.prepare(y)
		b.builder.complete(y)
	}
	y.weigh()
	y.descend(goal, math.MaxInt32)
	y.weigh()
	if y.top() >= top {
		b.shaker.restore(y)
	}
}

func shakes(effort, slots int) int {
	if effort == 0 {
		effort = DefaultEffort
	}
	return max(effort, 0) * max(256/slots, 1)
}

func (b *planner) begin(layers, experts int, cluster Cluster) {
	b.layout.reset(cluster, experts)
	b.balances, b.bounds, b.unmet = resize(b.balances, layers), resize(b.bounds, layers), b.unmet[:0]
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
	copies := int32(1) // of each expert on its group's node
	if cover := y.cluster.Cover(y.experts, r.survive); r.survive != Nothing {
		y.twoNodes = r.survive == AnyNode
		if r.rule == Confined && r.survive == AnyNode {
			b.lack(layer, "groups confined to a node do not survive its loss")
			y.twoNodes = false
		} else if cover.Replicated {
			for e := range y.least {
				y.least[e] = 2
			}
			if r.rule == Confined {
				copies = 2
			}
		} else {
			b.lack(layer, fmt.Sprintf("%d of %d experts have one replica: %d slots more would let all survive the loss of %s",
				y.experts-cover.Experts, y.experts, cover.Missing, r.survive))
			b.coverHeaviest(cover.Experts)
		}
	}
	bound := 0.0
	if y.rule != Anywhere {
		top, ok := b.assigner.assign(y, max(r.groups, 1), copies)
		if !ok {
			b.lack(layer, fmt.Sprintf("groups of %d experts do not fit the nodes and are not kept %s", y.experts/max(r.groups, 1), r.rule))
			y.rule = Anywhere
		} else if r.rule == Confined {
			bound = top
		}
	}
	rule := y.rule
	if rule == Confined {
		// Other nodes for groups could have a lower greatest share, so only that over all nodes together is proven.
		y.rule = Anywhere
	}
	bound = max(bound, b.builder.counts(y))
	if y.rule = rule; rule == Confined {
		b.builder.counts(y)
	}
	sum := 0.0
	for _, w := range y.weight {
		sum += w
	}
	return max(bound, sum/float64(y.cluster.live()))
}

// coverHeaviest asks for two replicas of the n most loaded experts.
func (b *planner) coverHeaviest(n int) {
	y := &b.layout
	for range n {
		best := -1
		for e, w := range y.weight {
			if y.least[e] == 1 && (best < 0 || w > y.weight[best]) {
				best = e
			}
		}
		y.least[best] = 2
	}
}

// finish writes a layer's layout.
func (b *planner) finish(into *Placement, layer int, bound float64) {
	copy(into.Row(layer), b.layout.at)
	into.index(layer)
	b.layout.weigh()
	b.balances[layer] = balance(b.layout.load, b.layout.cluster.live())
	b.bounds[layer] = 1
	if sum := sum(b.layout.load); bound > 0 {
		b.bounds[layer] = max(min(sum/float64(b.layout.cluster.live())/bound, 1), b.balances[layer])
	}
}

func (b *planner) report() Report {
	r := Report{Worst: 1, Layers: b.balances, Bounds: b.bounds, Unmet: b.unmet}
	for l, v := range b.balances {
		r.Worst = min(r.Worst, v)
		r.Balance += v / float64(len(b.balances))
		r.Bound += b.bounds[l] / float64(len(b.balances))
	}
	return r
}

func sum(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s
}
