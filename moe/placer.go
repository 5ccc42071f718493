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

// smallSlots is up to where slots may stay empty. With more it gains next to nothing.
const smallSlots = 128

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
	// FillSlots leaves no slot empty that an expert could fill. Else, with at most 128 slots, one can stay empty where any
	// expert in it would take load to a GPU that is full.
	FillSlots bool
	// Tolerance is the relative distance to the proven bound at which search stops; 0 means DefaultTolerance.
	Tolerance float64
	// Effort is how often a layer is shaken at most, in layers of 256 slots; smaller layers are shaken up to
	// twelve times as often, in proportion, and a third of it without a gain ends the search. 0 means DefaultEffort, less than 0
	// never. Each takes some 10 µs to 100 µs.
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
		if !b.FillSlots && cluster.Slots() <= smallSlots && b.layout.top() > goal {
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

// effortOr is an Effort with its default.
func effortOr(effort int) int {
	if effort == 0 {
		return DefaultEffort
	}
	return max(effort, 0)
}

func shakes(effort, slots int) int { return effortOr(effort) * min(max(256/slots, 1), 12) }

func (b *planner) begin(layers, experts int, cluster Cluster) {
	b.layout.reset(cluster, experts)
	b.balances, b.bounds, b.unmet = resize(b.balances, layers), resize(b.bounds, layers), b.unmet[:0]
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
