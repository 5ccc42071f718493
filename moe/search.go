package moe

import (
	"math"
	"math/bits"
)

// layout is one layer being planned: what each slot holds, and the load that gives each GPU. Its moves keep the rules.
type layout struct {
	// The problem.
	cluster  Cluster
	experts  int
	weight   []float64
	rule     GroupRule
	home     []int32 // node of an expert's group; used by rules other than Anywhere
	least    []int32 // replicas that an expert must have
	twoNodes bool    // experts with two or more replicas keep them on two or more nodes
	node     []int32 // of a GPU
	closed   []bool  // dead GPUs
	sparse   bool    // slots may be emptied

	// The plan.
	at     []int32 // expert of a slot
	count  []int32 // replicas of an expert
	share  []float64
	load   []float64 // of a GPU
	on     []uint64  // a set of GPUs for each expert
	words  int       // of such a set
	onNode []int32   // replicas of an expert on a node

	was      []uint64 // where experts were before, as in on; nil unless copies are counted
	copies   int      // experts that are on a GPU where they were not before
	droppers []int32  // scratch: slots that can be given to another expert
}

func (y *layout) reset(c Cluster, experts int) {
	y.cluster, y.experts = c, experts
	y.node, y.closed = resize(y.node, c.GPUs), resize(y.closed, c.GPUs)
	for g := range c.GPUs {
		y.node[g], y.closed[g] = int32(c.Node(g)), false
	}
	for _, d := range c.Dead {
		y.closed[d] = true
	}
	y.words = (c.GPUs + 63) / 64
	y.weight, y.home = resize(y.weight, experts), resize(y.home, experts)
	y.least, y.share = resize(y.least, experts), resize(y.share, experts)
	y.at, y.load = resize(y.at, c.Slots()), resize(y.load, c.GPUs)
	y.count, y.on = resize(y.count, experts), resize(y.on, experts*y.words)
	y.onNode = resize(y.onNode, experts*c.nodes())
	y.was, y.copies = nil, 0
	y.empty()
}

func (y *layout) empty() {
	for s := range y.at {
		y.at[s] = Empty
	}
	clear(y.load)
	clear(y.count)
	clear(y.on)
	clear(y.onNode)
	clear(y.share)
}

func (y *layout) holds(e int32, g int) bool {
	return y.on[int(e)*y.words+g>>6]>>(g&63)&1 != 0
}

func (y *layout) held(e int32, g int) bool { return y.was[int(e)*y.words+g>>6]>>(g&63)&1 != 0 }

// canPut: may another replica of e go to g?
func (y *layout) canPut(e int32, g int) bool {
	return !y.closed[g] && !y.holds(e, g) && (y.rule != Confined || y.home[e] == y.node[g])
}

// canDrop: may e's replica on g go?
func (y *layout) canDrop(e int32, g int) bool {
	return y.count[e] > y.least[e] && (!y.nodeRules() || y.canLeave(e, int(y.node[g]), -1))
}

// canShift: may e's replica on one GPU go to another?
func (y *layout) canShift(e int32, from, to int) bool {
	return y.canPut(e, to) && (!y.nodeRules() || y.canLeave(e, int(y.node[from]), int(y.node[to])))
}

func (y *layout) nodeRules() bool { return y.rule == Homed || y.twoNodes }

// canLeave: may a replica of e leave a node, for another one or, at -1, for good?
func (y *layout) canLeave(e int32, from, to int) bool {
	if from == to {
		return true
	}
	nodes := y.onNode[int(e)*y.cluster.nodes() : (int(e)+1)*y.cluster.nodes()]
	if nodes[from] > 1 {
		return true
	}
	if y.rule == Homed && int(y.home[e]) == from {
		return false
	}
	if !y.twoNodes || y.least[e] < 2 || to >= 0 && nodes[to] == 0 {
		return true
	}
	distinct := 0
	for _, n := range nodes {
		if n > 0 {
			distinct++
		}
	}
	return distinct != 2
}

// put and drop keep all but loads.
func (y *layout) put(e int32, slot int) {
	g := slot / y.cluster.SlotsPerGPU
	y.at[slot] = e
	y.count[e]++
	y.on[int(e)*y.words+g>>6] |= 1 << (g & 63)
	y.onNode[int(e)*y.cluster.nodes()+int(y.node[g])]++
	if y.was != nil && !y.held(e, g) {
		y.copies++
	}
}

func (y *layout) drop(slot int) {
	e, g := y.at[slot], slot/y.cluster.SlotsPerGPU
	y.at[slot] = Empty
	y.count[e]--
	y.on[int(e)*y.words+g>>6] &^= 1 << (g & 63)
	y.onNode[int(e)*y.cluster.nodes()+int(y.node[g])]--
	if y.was != nil && !y.held(e, g) {
		y.copies--
	}
}

// weigh computes shares and loads anew.
func (y *layout) weigh() {
	for e, n := range y.count {
		if n > 0 {
			y.share[e] = y.weight[e] / float64(n)
		} else {
			y.share[e] = y.weight[e]
		}
	}
	for g := range y.load {
		sum := 0.0
		for _, e := range y.gpu(g) {
			if e != Empty {
				sum += y.share[e]
			}
		}
		y.load[g] = sum
	}
}

func (y *layout) gpu(g int) []int32 {
	return y.at[g*y.cluster.SlotsPerGPU : (g+1)*y.cluster.SlotsPerGPU]
}

func (y *layout) heaviest() int {
	h := 0
	for g, l := range y.load {
		if l > y.load[h] {
			h = g
		}
	}
	return h
}

func (y *layout) top() float64 { return y.load[y.heaviest()] }

// move is a swap of two slots or, where with is alone, a slot that gets another expert, or none.
type move struct {
	slot, with int
	expert     int32
	top        float64 // the greatest load of the GPUs that it touches, afterwards
	copies     int     // that it adds
}

const alone = -1

// best is the move that relieves the heaviest GPU and leaves the least greatest load on those it touches, among those that
// add at most so many copies. Its top is infinite if there is none.
func (y *layout) best(copies int) move {
	h := y.heaviest()
	m := move{top: y.load[h] * (1 - 1e-12)}
	none := m.top
	y.bestSwap(h, copies, &m)
	y.bestGain(h, copies, &m)
	y.bestLoss(h, copies, &m)
	if m.top == none {
		m.top = math.Inf(1)
	}
	return m
}

// bestSwap swaps an expert of h with a lighter one of another GPU.
func (y *layout) bestSwap(h, copies int, m *move) {
	heavy, mine := y.load[h], y.gpu(h)
	for g, light := range y.load {
		// At best the two GPUs become equal.
		if (heavy+light)/2 >= m.top || g == h || y.closed[g] {
			continue
		}
		for i, a := range mine {
			if a == Empty {
				continue
			}
			shareA := y.share[a]
			for j, b := range y.gpu(g) {
				d := shareA
				if b != Empty {
					d -= y.share[b]
				}
				top := max(heavy-d, light+d)
				if top >= m.top || !y.canShift(a, h, g) || b != Empty && !y.canShift(b, g, h) {
					continue
				}
				n := y.extra(a, h, g)
				if b != Empty {
					n += y.extra(b, g, h)
				}
				if n <= copies {
					*m = move{slot: h*y.cluster.SlotsPerGPU + i, with: g*y.cluster.SlotsPerGPU + j, top: top, copies: n}
				}
			}
		}
	}
}

// extra is how many copies it adds to shift e.
func (y *layout) extra(e int32, from, to int) int {
	if y.was == nil {
		return 0
	}
	n := 0
	if from >= 0 && !y.held(e, from) {
		n--
	}
	if to >= 0 && !y.held(e, to) {
		n++
	}
	return n
}

// bestGain gives an expert of h another replica, in an empty slot or that of one that can spare it.
func (y *layout) bestGain(h, copies int, m *move) {
	y.droppers = y.droppers[:0]
	per := y.cluster.SlotsPerGPU
	for s, a := range y.at {
		if a == Empty && !y.closed[s/per] || a != Empty && y.count[a] > y.least[a] && y.canDrop(a, s/per) {
			y.droppers = append(y.droppers, int32(s))
		}
	}
	if len(y.droppers) == 0 {
		return
	}
	for _, b := range y.gpu(h) {
		if b == Empty {
			continue
		}
		// The least that h can come down to, unless it loses more.
		if y.load[h]-y.share[b]+y.weight[b]/float64(y.count[b]+1) >= m.top {
			continue
		}
		for _, s := range y.droppers {
			y.tryReplace(int(s), b, copies, m)
		}
	}
}

// bestLoss gives a slot of h, of an expert that can spare it, to another expert.
func (y *layout) bestLoss(h, copies int, m *move) {
	for i, a := range y.gpu(h) {
		if a == Empty || !y.canDrop(a, h) {
			continue
		}
		if y.sparse {
			y.tryReplace(h*y.cluster.SlotsPerGPU+i, Empty, copies, m)
		}
		base := y.load[h] - y.share[a]
		for x := range int32(y.experts) {
			if base+y.weight[x]/float64(y.count[x]+1) < m.top {
				y.tryReplace(h*y.cluster.SlotsPerGPU+i, x, copies, m)
			}
		}
	}
}

// tryReplace considers to give a slot, which is empty or whose expert can spare it, to x, or to empty it.
func (y *layout) tryReplace(slot int, x int32, copies int, m *move) {
	a, g := y.at[slot], slot/y.cluster.SlotsPerGPU
	if a == x || x != Empty && !y.canPut(x, g) {
		return
	}
	top, n := y.load[g], 0
	var less, more float64 // what others with x and with a get in addition; less is negative
	var ofX, ofA []uint64
	if x != Empty {
		share := y.weight[x] / float64(y.count[x]+1)
		less = share - y.share[x]
		top += share
		ofX = y.gpus(x)
		n += y.extra(x, -1, g)
	}
	if a != Empty {
		more = y.weight[a]/float64(y.count[a]-1) - y.share[a]
		top -= y.share[a]
		ofA = y.gpus(a)
		n += y.extra(a, g, -1)
	}
	if top >= m.top || n > copies {
		return
	}
	for w, set := range ofA {
		for ; set != 0; set &= set - 1 {
			q := w*64 + bits.TrailingZeros64(set)
			if q == g {
				continue
			}
			l := y.load[q] + more
			if x != Empty && y.holds(x, q) {
				l += less
			}
			if top = max(top, l); top >= m.top {
				return
			}
		}
	}
	for w, set := range ofX {
		if a != Empty {
			set &^= ofA[w]
		}
		for ; set != 0; set &= set - 1 {
			if top = max(top, y.load[w*64+bits.TrailingZeros64(set)]+less); top >= m.top {
				return
			}
		}
	}
	*m = move{slot: slot, with: alone, expert: x, top: top, copies: n}
}

// gpus is the set of GPUs that hold e.
func (y *layout) gpus(e int32) []uint64 { return y.on[int(e)*y.words : (int(e)+1)*y.words] }

// apply makes a move and updates loads.
func (y *layout) apply(m move) {
	per := y.cluster.SlotsPerGPU
	a, g := y.at[m.slot], m.slot/per
	if m.with != alone {
		b, q := y.at[m.with], m.with/per
		y.drop(m.slot)
		d := y.share[a]
		if b != Empty {
			d -= y.share[b]
			y.drop(m.with)
			y.put(b, m.slot)
		}
		y.put(a, m.with)
		y.load[g] -= d
		y.load[q] += d
		return
	}
	if a != Empty {
		y.charge(a, -1)
		y.drop(m.slot)
		y.share[a] = y.weight[a] / float64(y.count[a])
		y.charge(a, 1)
	}
	if x := m.expert; x != Empty {
		y.charge(x, -1)
		y.put(x, m.slot)
		y.share[x] = y.weight[x] / float64(y.count[x])
		y.charge(x, 1)
	}
}

// charge adds an expert's share to its GPUs, so many times.
func (y *layout) charge(e int32, times float64) {
	for w, set := range y.gpus(e) {
		for ; set != 0; set &= set - 1 {
			y.load[w*64+bits.TrailingZeros64(set)] += times * y.share[e]
		}
	}
}

// descend makes best moves until there is none, the goal is met or the copies are spent. Each lowers the sorted loads, the
// greatest first, so that it ends; the limit on steps is for loads too far apart for floats.
func (y *layout) descend(goal float64, copies int) {
	for range 8*len(y.at) + 64 {
		if y.top() <= goal {
			return
		}
		m := y.best(copies - y.copies)
		if math.IsInf(m.top, 1) {
			return
		}
		y.apply(m)
	}
}
