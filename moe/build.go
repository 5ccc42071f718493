package moe

import (
	"cmp"
	"slices"
)

// builder makes a first layout: replica counts by water-filling, then longest processing time first (Graham 1969) with
// capacities and rules. What search improves.
type builder struct {
	want  []int32 // replicas of an expert
	order []int32 // experts, greatest share first
	need  []int32 // by node: experts whose home it is and that are not there yet
	free  []int32 // by node: slots
	room  []int32 // by GPU: slots
	fill  []int32 // by GPU: the next slot
}

// counts water-fills: each replica goes to the expert with the greatest load a replica, which minimises the greatest. It
// returns that least greatest share, below which no even split can come.
func (b *builder) counts(y *layout) float64 {
	b.want = resize(b.want, y.experts)
	copy(b.want, y.least)
	greatest := 0.0
	pool := func(node, slots, limit int) {
		in := func(e int) bool { return node < 0 || int(y.home[e]) == node }
		for e := range y.experts {
			if in(e) {
				slots -= int(b.want[e])
			}
		}
		for ; slots > 0; slots-- {
			best := -1
			for e := range y.experts {
				if in(e) && int(b.want[e]) < limit &&
					(best < 0 || y.weight[e]*float64(b.want[best]) > y.weight[best]*float64(b.want[e])) {
					best = e
				}
			}
			if best < 0 {
				break
			}
			b.want[best]++
		}
		for e := range y.experts {
			if in(e) {
				greatest = max(greatest, y.weight[e]/float64(b.want[e]))
			}
		}
	}
	if y.rule != Confined {
		pool(-1, y.cluster.live()*y.cluster.SlotsPerGPU, y.cluster.live())
		return greatest
	}
	for n := range y.cluster.nodes() {
		gpus := y.liveOn(n)
		pool(n, gpus*y.cluster.SlotsPerGPU, gpus)
	}
	return greatest
}

func (y *layout) liveOn(node int) int {
	n := 0
	for g, at := range y.node {
		if int(at) == node && !y.closed[g] {
			n++
		}
	}
	return n
}

// build fills an empty layout. It returns how many of the least replicas have found no slot.
func (b *builder) build(y *layout) (missing int) {
	b.prepare(y)
	for e := range y.experts {
		y.share[e] = y.weight[e] / float64(b.want[e])
	}
	b.sort(y)
	for _, e := range b.order {
		for range b.want[e] {
			if g := b.lightest(y, e); g >= 0 {
				b.put(y, e, g)
			}
		}
	}
	return b.complete(y)
}

func (b *builder) sort(y *layout) {
	b.order = resize(b.order, y.experts)
	for e := range b.order {
		b.order[e] = int32(e)
	}
	slices.SortFunc(b.order, func(i, j int32) int {
		return cmp.Or(cmp.Compare(y.share[j], y.share[i]), cmp.Compare(i, j))
	})
}

func (b *builder) prepare(y *layout) {
	b.room, b.fill = resize(b.room, y.cluster.GPUs), resize(b.fill, y.cluster.GPUs)
	b.need, b.free = resize(b.need, y.cluster.nodes()), resize(b.free, y.cluster.nodes())
	clear(b.need)
	clear(b.free)
	for g := range y.cluster.GPUs {
		b.fill[g], b.room[g] = 0, 0
		if y.closed[g] {
			continue
		}
		for _, e := range y.gpu(g) {
			if e == Empty {
				b.room[g]++
			}
		}
		b.free[y.node[g]] += b.room[g]
	}
	if y.rule == Homed {
		for e := range y.experts {
			if y.onNode[e*y.cluster.nodes()+int(y.home[e])] == 0 {
				b.need[y.home[e]]++
			}
		}
	}
}

// put gives e the next empty slot of g.
func (b *builder) put(y *layout, e int32, g int) {
	slots := y.gpu(g)
	for slots[b.fill[g]] != Empty {
		b.fill[g]++
	}
	n := y.node[g]
	if y.rule == Homed && y.home[e] == n && y.onNode[int(e)*y.cluster.nodes()+int(n)] == 0 {
		b.need[n]--
	}
	y.put(e, g*y.cluster.SlotsPerGPU+int(b.fill[g]))
	y.load[g] += y.share[e]
	b.room[g]--
	b.free[n]--
}

// lightest is the least loaded GPU that has room for e, or -1.
func (b *builder) lightest(y *layout, e int32) int {
	best := -1
	nodes := y.onNode[int(e)*y.cluster.nodes() : (int(e)+1)*y.cluster.nodes()]
	homeless := y.rule == Homed && nodes[y.home[e]] == 0
	second := y.lacksNode(e)
	for g, room := range b.room {
		n := y.node[g]
		if room == 0 || !y.canPut(e, g) || best >= 0 && y.load[g] >= y.load[best] {
			continue
		}
		if homeless && n != y.home[e] || !homeless && b.free[n] <= b.need[n] || second && nodes[n] > 0 {
			continue
		}
		best = g
	}
	return best
}

// complete gives experts that have too few replicas a slot, then fills slots that are left.
func (b *builder) complete(y *layout) (missing int) {
	missing = b.mend(y)
	for {
		g, e := b.spare(y)
		if g < 0 {
			break
		}
		b.put(y, e, g)
	}
	y.weigh()
	return missing
}

// mend gives experts the replicas that they must have, where they must be. It returns how many have found no slot. Every expert
// gets one, if need be at the cost of the rules.
func (b *builder) mend(y *layout) (missing int) {
	for _, e := range b.order {
		if y.count[e] == 0 && !b.squeeze(y, e) {
			y.rule, y.twoNodes = Anywhere, false
			for i := range y.least {
				y.least[i] = 1
			}
			clear(b.need)
			b.squeeze(y, e)
			missing++
		}
	}
	for _, e := range b.order {
		for y.count[e] < y.least[e] || y.lacksNode(e) || y.lacksHome(e) {
			if !b.squeeze(y, e) {
				missing += max(int(y.least[e]-y.count[e]), 1)
				break
			}
		}
	}
	return missing
}

// lacksNode: must the next replica of e be on another node?
func (y *layout) lacksNode(e int32) bool {
	if !y.twoNodes || y.least[e] < 2 || y.count[e] == 0 {
		return false
	}
	n := 0
	for _, have := range y.onNode[int(e)*y.cluster.nodes() : (int(e)+1)*y.cluster.nodes()] {
		if have > 0 {
			n++
		}
	}
	return n < 2
}

func (y *layout) lacksHome(e int32) bool {
	return y.rule == Homed && y.onNode[int(e)*y.cluster.nodes()+int(y.home[e])] == 0
}

// spare finds an empty slot on a GPU, lightest first, and the expert with the greatest share that may go there.
func (b *builder) spare(y *layout) (gpu int, expert int32) {
	gpu = -1
	for g, room := range b.room {
		if room == 0 || gpu >= 0 && y.load[g] >= y.load[gpu] {
			continue
		}
		best := Empty
		for e := range int32(y.experts) {
			if y.canPut(e, g) && (best == Empty || y.weight[e]*float64(y.count[best]) > y.weight[best]*float64(y.count[e])) {
				best = e
			}
		}
		if best != Empty {
			gpu, expert = g, best
		}
	}
	return gpu, expert
}

// squeeze makes room for a replica of e: directly, by shifting another expert to an empty slot, or in place of one that can
// be spared, the one that then adds least to the others.
func (b *builder) squeeze(y *layout, e int32) bool {
	if g := b.lightest(y, e); g >= 0 {
		b.put(y, e, g)
		return true
	}
	per, nodes := y.cluster.SlotsPerGPU, y.onNode[int(e)*y.cluster.nodes():(int(e)+1)*y.cluster.nodes()]
	fits := func(g int) bool {
		return y.canPut(e, g) && (y.rule != Homed || nodes[y.home[e]] > 0 || y.node[g] == y.home[e]) &&
			(!y.lacksNode(e) || nodes[y.node[g]] == 0)
	}
	for g, room := range b.room {
		if room == 0 || y.closed[g] {
			continue
		}
		for s, x := range y.at {
			if x != Empty && fits(s/per) && y.canShift(x, s/per, g) {
				y.drop(s)
				b.put(y, x, g)
				b.take(y, e, s)
				return true
			}
		}
	}
	best, cost := -1, 0.0
	for s, x := range y.at {
		if x == Empty || !fits(s/per) || !y.canDrop(x, s/per) {
			continue
		}
		if c := y.weight[x] / float64(y.count[x]-1); best < 0 || c < cost {
			best, cost = s, c
		}
	}
	if best < 0 {
		return false
	}
	y.drop(best)
	b.take(y, e, best)
	return true
}

// take puts e in a slot that was just emptied.
func (b *builder) take(y *layout, e int32, slot int) {
	n := y.node[slot/y.cluster.SlotsPerGPU]
	if y.rule == Homed && y.home[e] == n && y.onNode[int(e)*y.cluster.nodes()+int(n)] == 0 {
		b.need[n]--
	}
	y.put(e, slot)
}
