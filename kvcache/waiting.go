package kvcache

import (
	"github.com/inferloom/inferloom/kvcache/blockhash"
)

// Blocks whose place in a chain is not known yet are kept in runs of their own, under provisional hashes that no prompt has.
// They are held, removed and forgotten as others are. A chain that follows an unknown block waits for its name, and is put
// into place when it appears: its provisional hashes tell the contents of its blocks. A block of which only the name is known
// lies in a bag until an event tells where it belongs.

// wait is what a waiting run follows.
type wait struct {
	parent uint64 // name of the block before
	from   uint64 // and its provisional hash
	next   uint32 // another run that waits for the same
}

const waitBytes = 24

// provisional is the hash that a chain gets which follows an unknown block.
func provisional(name uint64) uint64 {
	return holderHash(-1, uint32(name)) ^ holderHash(-2, uint32(name>>32))
}

func (x *Index) await(id uint32, parent, from uint64) {
	x.waits[id] = wait{parent, from, none}
	if first, ok := x.byParent.get(parent); ok {
		x.waits[id].next = x.waits[first].next
		x.waits[first].next = id
	} else {
		x.byParent.add(parent, id)
	}
	x.waitingRuns++
}

// unwait takes a run out of the list of those that wait for the same block.
func (x *Index) unwait(id uint32) {
	w := x.waits[id]
	x.waitingRuns--
	first, _ := x.byParent.get(w.parent)
	if first != id {
		for x.waits[first].next != id {
			first = x.waits[first].next
		}
		x.waits[first].next = w.next
		return
	}
	x.byParent.remove(w.parent, id)
	if w.next != none {
		x.byParent.add(w.parent, w.next)
	}
}

// awaited tells whether a name that a block in a chain has just got matters to others: to its holders who were known by the name
// alone, and, unless the chain is waiting itself, to chains that wait for the block.
func (x *Index) awaited(name uint64, waiting bool) bool {
	if x.waitingRuns > 0 && !waiting {
		if _, ok := x.byParent.get(name); ok {
			return true
		}
	}
	return x.waitingBlocks > 0 && x.bagged(name) != none
}

// bagged returns where a bag has a name.
func (x *Index) bagged(name uint64) uint32 {
	for from := -1; ; {
		place, at, ok := x.names.find(name, from)
		if !ok {
			return none
		}
		if id, _, _ := x.names.where(place); x.runs[id].flags&runBag != 0 {
			return place
		}
		from = at
	}
}

// placed returns where the block is that has a name and is in its place.
func (x *Index) placed(name uint64) (place, bool) { return x.without(name, runBag|runWaiting) }

// without returns a block that has a name in a run without some flags.
func (x *Index) without(name uint64, flags uint32) (place, bool) {
	for from := -1; ; {
		p, at, ok := x.names.find(name, from)
		if !ok {
			return place{}, false
		}
		if id, pos, _ := x.names.where(p); x.runs[id].flags&flags == 0 {
			return place{id, pos}, true
		}
		from = at
	}
}

// chained returns where a block with a name is, in its place if possible, else in a chain that waits.
func (x *Index) chained(name uint64) (place, bool) {
	if at, ok := x.placed(name); ok {
		return at, true
	}
	return x.without(name, runBag)
}

// settlePending puts into place what waited for names that have appeared.
func (x *Index) settlePending() {
	for len(x.pending) > 0 {
		name := x.pending[len(x.pending)-1]
		x.pending = x.pending[:len(x.pending)-1]
		for bag := x.bagged(name); bag != none; bag = x.bagged(name) {
			at, ok := x.chained(name)
			if !ok || !x.unbag(bag, at, name) {
				break
			}
		}
		for x.waitingRuns > 0 {
			at, ok := x.placed(name)
			run, waits := x.byParent.get(name)
			if !ok || !waits {
				break
			}
			x.splice(run, at)
		}
	}
}

// holding is one holder of some blocks that move, and how many further copies of each it has.
type holding struct {
	pod      uint32
	plane    int
	from, to int
}

// uproot collects who holds the blocks of a run and ends it.
func (x *Index) uproot(id uint32) {
	r := &x.runs[id]
	x.uprooted, x.uprootedCopies = x.uprooted[:0], x.uprootedCopies[:0]
	start := 0
	var list spanList
	x.load(r, &list)
	for _, s := range list.s[:list.n] {
		x.sets.each(s.set(), func(plane int, pod uint32) {
			x.uprooted = append(x.uprooted, holding{pod, plane, start, s.end()})
			for pos := start; pos < s.end(); pos++ {
				n := uint32(0)
				if r.flags&runCopies != 0 {
					n = x.copies[x.copyKey(r, pos, pod, plane)]
				}
				x.uprootedCopies = append(x.uprootedCopies, n)
			}
		})
		start = s.end()
	}
	x.forget(id)
}

// splice puts a waiting run into place, as what it follows is there.
func (x *Index) splice(id uint32, behind place) {
	r := &x.runs[id]
	parent := x.waits[id].parent
	chain, engine := x.chain[:0], x.engine[:0]
	for pos := range int(r.length) {
		name, ok := x.nameAt(r, pos)
		if !ok {
			break // all have names
		}
		chain, engine = append(chain, x.hash(r, pos)), append(engine, name)
	}
	x.chain, x.engine = chain, engine
	blockhash.Unchain(chain, x.waits[id].from)
	blockhash.Chain(chain, x.hash(&x.runs[behind.run], behind.pos))
	x.uproot(id)
	x.stats.Spliced += uint64(len(chain))
	copies := x.uprootedCopies
	for _, u := range x.uprooted {
		extra := copies[:u.to-u.from]
		copies = copies[len(extra):]
		if u.to > len(chain) {
			continue
		}
		at, ok := x.placed(parent)
		if at.pos++; !ok {
			at.run = none
		}
		x.pass(&at, chain[:u.from])
		h := hold{pod: &x.pods[u.pod], plane: u.plane}
		x.put(h, at, chain[u.from:u.to], engine[u.from:u.to])
		x.copyAgain(h, engine[u.from:u.to], extra)
	}
}

// pass moves a place over blocks of a chain that nobody need hold. Its run is none if the last of them is not there.
func (x *Index) pass(at *place, chain []uint64) {
	for len(chain) > 0 {
		n := 0
		if at.run != none {
			n = x.common(&x.runs[at.run], at.pos, chain)
		}
		if n == 0 {
			if id, ok := x.byFirst.get(chain[0]); ok {
				*at = place{id, 0}
				n = x.common(&x.runs[id], 0, chain)
			} else {
				at.run, n = none, 1
			}
		}
		at.pos += n
		chain = chain[n:]
	}
}

// copyAgain notes further copies of blocks that have moved.
func (x *Index) copyAgain(h hold, engine []uint64, extra []uint32) {
	for i, n := range extra[:min(len(extra), len(engine))] {
		if n == 0 {
			continue
		}
		if at, ok := x.placed(engine[i]); ok {
			x.copy(&x.runs[at.run], at.pos, h.pod.ID, h.plane, n)
		}
	}
}

// nameAt returns a name of a block.
func (x *Index) nameAt(r *run, pos int) (uint64, bool) {
	for c := x.names.first[r.segments[pos/segmentBlocks]]; c != none; c = x.names.columns[c].next {
		if x.names.columns[c].used>>(pos%segmentBlocks)&1 != 0 {
			return x.names.hashes[int(c)*segmentBlocks+pos%segmentBlocks], true
		}
	}
	return 0, false
}

// storeNamed makes a pod hold blocks of which it tells only the names.
func (x *Index) storeNamed(h hold, engine []uint64) {
	for done := 0; done < len(engine); {
		name := engine[done]
		at, known := x.chained(name)
		if !known {
			at, known = x.without(name, 0)
		}
		if known {
			x.named(at.run, at.pos, name, h.pod.ID)
			x.hold(at.run, at.pos, at.pos+1, h.pod, h.plane)
			x.stats.Stored++
			done++
			continue
		}
		chain := x.chain[:0]
		for _, e := range engine[done:min(len(engine), done+runBlocks)] {
			hash := provisional(e) ^ 1
			if _, ok := x.without(e, 0); ok {
				break
			}
			if _, ok := x.byFirst.get(hash); ok {
				break
			}
			chain = append(chain, hash)
		}
		x.chain = chain
		if len(chain) == 0 {
			done++
			continue
		}
		id, n := x.create(chain, runBag)
		if n == 0 {
			x.stats.Skipped += uint64(len(engine) - done)
			return
		}
		named := x.name(id, 0, engine[done:done+n], h.pod.ID)
		if named == 0 {
			x.trim(id)
			x.stats.Skipped += uint64(len(engine) - done)
			return
		}
		x.hold(id, 0, named, h.pod, h.plane)
		x.stats.Stored += uint64(named)
		done += named
	}
}

// unbag moves the holders of a block of which only the name was known to its place.
func (x *Index) unbag(bag uint32, at place, name uint64) bool {
	id, pos, _ := x.names.where(bag)
	r := &x.runs[id]
	x.uprooted = x.uprooted[:0]
	set := x.at(r, pos)
	x.sets.each(set, func(plane int, pod uint32) {
		x.uprooted = append(x.uprooted, holding{pod: pod, plane: plane})
	})
	x.names.remove(bag)
	for _, u := range x.uprooted {
		copies := uint32(0)
		if r.flags&runCopies != 0 {
			key := x.copyKey(r, pos, u.pod, u.plane)
			copies = x.copies[key]
			delete(x.copies, key)
		}
		s := &x.pods[u.pod]
		if !x.named(at.run, at.pos, name, u.pod) {
			return false
		}
		run, end := x.hold(at.run, at.pos, at.pos+1, s, u.plane)
		if run == none {
			return false
		}
		at = place{run, end - 1}
		x.copy(&x.runs[run], end-1, u.pod, u.plane, copies)
		x.stats.Spliced++
	}
	for _, u := range x.uprooted {
		if run, _ := x.paint(id, pos, pos+1, stroke{pod: u.pod, clear: 1 << u.plane}); run == none {
			break
		}
	}
	return true
}
