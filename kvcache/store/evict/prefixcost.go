package evict

// prefixCost evicts the page that is worth least to keep, of those that no resident page depends on.
//
// A block of a prefix is of use only together with all blocks before it, so only pages without resident children may go: a
// parent outlives its children. Of these a few are looked at, chosen by chance, and the least valuable goes. The value is the
// time that the page is expected to save for each moment that its bytes are occupied: the cost to compute it again, divided
// by its size, times its rate of reuse, which lifetimes learns from pages like it. Cost grows with depth, where attention
// looks back at more.
type prefixCost struct {
	index    map[ID]int32
	children map[place]int32 // resident pages by the place of their parent, which may be resident or not
	pages    []prefixPage
	free     int32
	leaves   []int32
	resident int
	lost     ghosts
	learnt   lifetimes

	now         uint64  // uses of pages up to now
	cost, costs float64 // mean of the costs that are known, and their number
	relearn     int     // uses until lifetimes are learnt anew
	random      uint64
}

// place is where a page is in its chain. As a parent's depth is one less than its child's, no chain of places has a cycle,
// whatever the pages claim.
type place struct {
	id    ID
	depth int32
}

type prefixPage struct {
	place
	parent     ID
	hasParent  bool
	state      pageState
	uses       uint8
	value      float32 // cost a byte
	last       uint64  // when it was used
	leaf       int32   // its place in leaves
	prev, next int32   // in ghosts; next is that of the free list
}

type pageState uint8

const (
	unused pageState = iota
	here
	lost
)

// sample is how many leaves are looked at for an eviction.
const sample = 32

// memory is how many evicted pages are remembered for each resident one. What comes back only after its eviction teaches how
// long pages of its kind ought to be kept.
const memory = 4

func newPrefixCost() *prefixCost {
	p := &prefixCost{index: map[ID]int32{}, children: map[place]int32{}, free: nobody, lost: ghosts{newest: nobody, oldest: nobody}, random: 1}
	p.learn()
	return p
}

func (p *prefixCost) Len() int { return p.resident }

func (p *prefixCost) Add(id ID, m Meta) {
	n, known := p.index[id]
	if known && p.pages[n].state == here {
		p.Hit(id)
		return
	}
	p.tick()
	if known {
		p.use(n)
		p.lost.remove(p.pages, n)
	} else {
		n = p.make(id)
	}
	x := &p.pages[n]
	x.depth, x.parent, x.hasParent = int32(min(max(m.Depth, 0), 1<<30)), m.Parent, m.HasParent && m.Depth > 0
	x.state, x.last, x.value = here, p.now, float32(p.costOf(m)/float64(max(m.Bytes, 1)))
	p.resident++
	if p.children[x.place] == 0 {
		p.addLeaf(n)
	}
	if x.hasParent {
		parent := place{x.parent, x.depth - 1}
		if p.children[parent]++; p.children[parent] == 1 {
			if q, ok := p.at(parent); ok {
				p.removeLeaf(q)
			}
		}
	}
}

// costOf takes the mean for a page whose cost is unknown.
func (p *prefixCost) costOf(m Meta) float64 {
	if m.Cost > 0 {
		p.costs = min(p.costs+1, 1000)
		p.cost += (m.Cost - p.cost) / p.costs
		return m.Cost
	}
	if p.costs == 0 {
		return 1
	}
	return p.cost
}

func (p *prefixCost) Hit(id ID) {
	if n, ok := p.index[id]; ok && p.pages[n].state == here {
		p.tick()
		p.use(n)
	}
}

// use notes that a page was used again after the time since its last use.
func (p *prefixCost) use(n int32) {
	x := &p.pages[n]
	p.learnt.used(kindOf(x.uses, x.depth), p.now-x.last)
	x.uses = min(x.uses, 254) + 1
	x.last = p.now
}

func (p *prefixCost) Remove(id ID) {
	n, ok := p.index[id]
	if !ok {
		return
	}
	if p.pages[n].state == here {
		p.leave(n)
	} else {
		p.lost.remove(p.pages, n)
	}
	p.drop(n)
}

func (p *prefixCost) Evict(skip func(ID) bool) (ID, bool) {
	best, least := int32(nobody), 0.0
	consider := func(n int32) {
		x := &p.pages[n]
		if skip != nil && skip(x.id) {
			return
		}
		v := float64(x.value) * p.learnt.rate(kindOf(x.uses, x.depth), p.now-x.last)
		if best == nobody || v < least {
			best, least = n, v
		}
	}
	if len(p.leaves) > sample {
		for range sample {
			consider(p.leaves[p.chance(len(p.leaves))])
		}
	}
	for i := 0; i < len(p.leaves) && (best == nobody || len(p.leaves) <= sample); i++ {
		consider(p.leaves[i])
	}
	if best == nobody {
		return 0, false
	}
	p.leave(best)
	p.pages[best].state = lost
	p.lost.add(p.pages, best)
	for p.lost.len > memory*p.resident {
		n := p.lost.oldest
		p.lost.remove(p.pages, n)
		x := &p.pages[n]
		p.learnt.ended(kindOf(x.uses, x.depth), p.now-x.last)
		p.drop(n)
	}
	return p.pages[best].id, true
}

// leave takes a page out of what is resident.
func (p *prefixCost) leave(n int32) {
	x := &p.pages[n]
	if p.children[x.place] == 0 {
		p.removeLeaf(n)
	}
	p.resident--
	if !x.hasParent {
		return
	}
	parent := place{x.parent, x.depth - 1}
	if p.children[parent]--; p.children[parent] == 0 {
		delete(p.children, parent)
		if q, ok := p.at(parent); ok {
			p.addLeaf(q)
		}
	}
}

// at finds the resident page at a place.
func (p *prefixCost) at(where place) (int32, bool) {
	n, ok := p.index[where.id]
	return n, ok && p.pages[n].state == here && p.pages[n].depth == where.depth
}

func (p *prefixCost) addLeaf(n int32) {
	p.pages[n].leaf = int32(len(p.leaves))
	p.leaves = append(p.leaves, n)
}

func (p *prefixCost) removeLeaf(n int32) {
	end := len(p.leaves) - 1
	i, moved := p.pages[n].leaf, p.leaves[end]
	p.leaves[i], p.pages[moved].leaf = moved, i
	p.leaves = p.leaves[:end]
}

func (p *prefixCost) make(id ID) int32 {
	n := p.free
	if n == nobody {
		n = int32(len(p.pages))
		p.pages = append(p.pages, prefixPage{})
	} else {
		p.free = p.pages[n].next
	}
	p.pages[n] = prefixPage{place: place{id: id}, prev: nobody, next: nobody}
	p.index[id] = n
	return n
}

func (p *prefixCost) drop(n int32) {
	x := &p.pages[n]
	delete(p.index, x.id)
	x.state, x.next, p.free = unused, p.free, n
}

// tick counts a use, and now and then learns from those that were counted.
func (p *prefixCost) tick() {
	p.now++
	if p.relearn--; p.relearn <= 0 {
		p.learn()
	}
}

// chance is a number below n. The sequence is always the same: what is evicted depends on the uses alone.
func (p *prefixCost) chance(n int) uint64 {
	p.random = p.random*6364136223846793005 + 1442695040888963407
	return (p.random >> 32) * uint64(n) >> 32
}

// counted bounds how many pages are looked at to count the living.
const counted = 4096

func (p *prefixCost) learn() {
	p.relearn = max(p.resident/2, 1000)
	n := min(len(p.pages), counted)
	for range n {
		if x := &p.pages[p.chance(len(p.pages))]; x.state != unused {
			p.learnt.living(kindOf(x.uses, x.depth), p.now-x.last, float64(len(p.pages))/float64(n))
		}
	}
	p.learnt.learn()
}

// ghosts is the list of pages that were evicted and are remembered.
type ghosts struct {
	newest, oldest int32
	len            int
}

func (g *ghosts) add(pages []prefixPage, n int32) {
	pages[n].prev, pages[n].next = nobody, g.newest
	if g.newest == nobody {
		g.oldest = n
	} else {
		pages[g.newest].prev = n
	}
	g.newest = n
	g.len++
}

func (g *ghosts) remove(pages []prefixPage, n int32) {
	x := &pages[n]
	if x.prev == nobody {
		g.newest = x.next
	} else {
		pages[x.prev].next = x.next
	}
	if x.next == nobody {
		g.oldest = x.prev
	} else {
		pages[x.next].prev = x.prev
	}
	g.len--
}
