package prefix

import (
	"math/bits"
	"sync/atomic"
)

// Open starts an endpoint's account with room for capacity blocks. A new generation forgets what the slot held before; the
// same one may get another capacity.
func (x *Index) Open(slot, generation uint32, capacity int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(slot) >= len(x.held) {
		return
	}
	x.widen(slot)
	h := &x.held[slot]
	if !h.open || h.generation != generation {
		x.empty(slot)
		*h = holding{generation: generation, open: true, oldest: none, newest: none}
		x.open++
	}
	h.capacity = max(capacity, 0)
	x.reserve(slot, 0)
	x.fit(slot)
}

// widen makes the sets of holders long enough for a slot.
func (x *Index) widen(slot uint32) {
	old := x.holders.Load()
	words := old.words
	for int(slot) >= 64*words {
		words *= 2
	}
	words = min(words, (len(x.held)+63)/64)
	if words == old.words {
		return
	}
	wide := &holders{words, slab[uint64](len(x.runs) * words)}
	for id := range x.freeRuns.next {
		copy(wide.of(id), old.of(id))
	}
	x.holders.Store(wide)
}

// Close forgets an endpoint, unless the slot has a newer generation already. It takes time in proportion to its runs.
func (x *Index) Close(slot, generation uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(slot) < len(x.held) && x.held[slot].generation == generation {
		x.empty(slot)
	}
}

func (x *Index) empty(slot uint32) {
	h := &x.held[slot]
	if !h.open {
		return
	}
	for h.oldest != none {
		x.drop(h.oldest)
	}
	h.open = false
	x.open--
}

// Insert records that an endpoint was sent a prompt. It does nothing if the slot is not open under that generation.
func (x *Index) Insert(slot, generation uint32, chain []uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(slot) >= len(x.held) {
		return
	}
	h := &x.held[slot]
	if !h.open || h.generation != generation {
		return
	}
	chain = chain[:min(len(chain), h.capacity, x.longest())]
	if len(chain) == 0 {
		return
	}
	x.reserve(slot, len(chain))

	path, pos := x.path[:0], 0 // the runs that the chain goes through, and where the last of them ends
	for pos < len(chain) {
		id, found := x.byFirst.get(chain[pos])
		if !found {
			break
		}
		n := x.common(&x.runs[id], chain[pos:])
		if n < int(x.runs[id].length.Load()) {
			id = x.split(id, n)
		}
		path = append(path, id)
		pos += n
	}
	x.path = path

	// Who holds a run holds those before it, so one lease leads to all that the endpoint has on the path.
	last, has := none, len(path)
	for has > 0 && !x.holds(path[has-1], slot) {
		has--
	}
	if has > 0 {
		last = x.leaseOn(path[has-1], slot)
	}
	for _, id := range path[has:] {
		last = x.hold(id, slot, last)
	}
	if pos < len(chain) && last != none && x.runs[x.lease(last).run].holders == 1 && x.lease(last).children == 0 {
		pos += x.extend(last, chain[pos:])
	}
	for pos < len(chain) {
		n := min(len(chain)-pos, runBlocks)
		id := x.create(chain[pos : pos+n])
		last = x.hold(id, slot, last)
		x.byFirst.add(chain[pos], id)
		pos += n
	}
	for l := last; l != none; l = x.lease(l).parent {
		if h.newest != l {
			x.unlink(l)
			x.link(l, h.newest)
		}
	}
	x.fit(slot)
}

// longest is the longest chain that the index can take in at once, whatever else it has to forget for it.
func (x *Index) longest() int { return len(x.runs) / 2 * segmentBlocks }

// reserve makes room for an endpoint to insert a chain: for the chain's own runs, a split where it parts from another, and a
// split where the endpoint's oldest run is cut. The endpoint's own oldest runs give way if it holds its share or more, else
// those of whoever holds most.
func (x *Index) reserve(slot uint32, blocks int) {
	runs := blocks/runBlocks + 4
	segments := blocks/segmentBlocks + 2*(runSegments+1) + 2
	leases := runs + 2*len(x.held)
	for x.freeRuns.left() < runs || x.freeSegments.left() < segments || x.freeLeases.left() < leases {
		from := &x.held[slot]
		if from.blocks == 0 || from.blocks*x.open < x.blocks {
			for i := range x.held {
				if x.held[i].blocks > from.blocks {
					from = &x.held[i]
				}
			}
		}
		x.drop(from.oldest)
	}
}

// fit evicts the least recently used blocks of an endpoint that holds more than its capacity, from the tail of a run.
func (x *Index) fit(slot uint32) {
	h := &x.held[slot]
	for h.blocks > h.capacity {
		l := h.oldest
		id := x.lease(l).run
		r := &x.runs[id]
		keep := int(r.length.Load()) - (h.blocks - h.capacity)
		switch {
		case keep <= 0:
			x.drop(l)
		case r.holders == 1:
			x.blocks -= h.blocks - h.capacity
			h.blocks = h.capacity
			r.version.Add(1)
			x.cut(r, keep)
			r.version.Add(1)
		default:
			x.split(id, keep)
			x.drop(l)
		}
	}
}

// create makes a run of blocks that no reader finds yet.
func (x *Index) create(chain []uint64) uint32 {
	id := x.freeRuns.take()
	r := &x.runs[id]
	r.own.run = none
	r.version.Add(1)
	x.write(r, 0, chain)
	r.version.Add(1)
	return id
}

// write appends blocks to a run of length at, which must have room.
func (x *Index) write(r *run, at int, chain []uint64) {
	if len(chain) == 0 {
		return
	}
	for rest, block := chain, at; len(rest) > 0; {
		if block%segmentBlocks == 0 {
			r.segments[block/segmentBlocks].Store(x.freeSegments.take())
		}
		segment := int(r.segments[block/segmentBlocks].Load()) * segmentBlocks
		n := min(segmentBlocks-block%segmentBlocks, len(rest))
		overwrite(x.hashes[segment+block%segmentBlocks:], rest[:n])
		rest, block = rest[n:], block+n
	}
	if at == 0 {
		r.first.Store(chain[0])
	}
	r.last.Store(chain[len(chain)-1])
	r.length.Store(uint32(at + len(chain)))
}

// overwrite copies hashes into a segment with plain stores; atomic ones would cost more than the rest of an insertion. A
// reader may still be looking at what the segment held before: each word that it loads is of one life or the other, and
// the run's version, which the writer changes before and after, tells it to look again.
//
//go:norace
func overwrite(segment, hashes []uint64) {
	//lint:ignore S1001 the race detector knows copy, wherever it is called from
	for i, h := range hashes {
		segment[i] = h
	}
}

// extend lets the only holder's last run grow, and returns by how many blocks.
func (x *Index) extend(l uint32, chain []uint64) int {
	r := &x.runs[x.lease(l).run]
	length := int(r.length.Load())
	n := min(len(chain), runBlocks-length)
	x.write(r, length, chain[:n])
	x.held[x.lease(l).slot].blocks += n
	x.blocks += n
	return n
}

// cut removes a run's tail. The version must be odd where a reader may have seen the run.
func (x *Index) cut(r *run, keep int) {
	length := int(r.length.Load())
	for s := (keep + segmentBlocks - 1) / segmentBlocks; s < (length+segmentBlocks-1)/segmentBlocks; s++ {
		x.freeSegments.give(r.segments[s].Load())
	}
	r.length.Store(uint32(keep))
	if keep > 0 {
		r.last.Store(x.hash(r, keep-1))
	}
}

// split divides a run: its first blocks become a run of their own, whose number is returned, and it keeps the others. All
// holders hold both; leases on the runs behind it stay as they are.
func (x *Index) split(id uint32, at int) (front uint32) {
	r := &x.runs[id]
	length := int(r.length.Load())
	var hashes [runBlocks]uint64
	for i := range length {
		hashes[i] = x.hash(r, i)
	}
	front = x.create(hashes[:at])
	x.runs[front].holders = r.holders
	holders := x.holders.Load()
	for w, word := range holders.of(id) {
		atomic.StoreUint64(&holders.of(front)[w], word)
		for ; word != 0; word &= word - 1 {
			slot := uint32(64*w + bits.TrailingZeros64(word))
			back := x.leaseOn(id, slot)
			x.lease(back).parent = x.grant(lease{run: front, slot: slot, parent: x.lease(back).parent, children: 1}, back)
		}
	}
	x.byFirst.replace(hashes[0], id, front)
	r.version.Add(1)
	x.cut(r, 0)
	x.write(r, 0, hashes[at:length])
	x.byFirst.add(hashes[at], id)
	r.version.Add(1)
	return front
}

// holds tells whether an endpoint holds a run.
func (x *Index) holds(id, slot uint32) bool {
	return x.holders.Load().of(id)[slot/64]&(1<<(slot%64)) != 0
}

// lease returns a lease by its number.
func (x *Index) lease(l uint32) *lease {
	if int(l) < len(x.runs) {
		return &x.runs[l].own
	}
	return &x.more[int(l)-len(x.runs)]
}

// leaseOn returns the lease of an endpoint on a run that it holds.
func (x *Index) leaseOn(id, slot uint32) uint32 {
	if own := &x.runs[id].own; own.run == id && own.slot == slot {
		return id
	}
	l, _ := x.byHolder.get(holderKey(id, slot))
	return l
}

// grant gives a lease on a run to an endpoint that does not hold it, and puts it into the endpoint's list.
func (x *Index) grant(given lease, behind uint32) uint32 {
	l := given.run
	if x.runs[l].own.run != none {
		l = uint32(len(x.runs)) + x.freeLeases.take()
		x.byHolder.add(holderKey(given.run, given.slot), l)
	}
	*x.lease(l) = given
	x.link(l, behind)
	return l
}

// hold gives an endpoint a lease on a run, behind its lease on the run before.
func (x *Index) hold(id, slot, parent uint32) uint32 {
	if parent != none {
		x.lease(parent).children++
	}
	r := &x.runs[id]
	r.holders++
	x.held[slot].blocks += int(r.length.Load())
	x.blocks += int(r.length.Load())
	word := &x.holders.Load().of(id)[slot/64]
	atomic.StoreUint64(word, *word|1<<(slot%64))
	return x.grant(lease{run: id, slot: slot, parent: parent}, x.held[slot].newest)
}

// drop ends a lease that has none behind it, and forgets its run with the last holder.
func (x *Index) drop(l uint32) {
	gone := *x.lease(l)
	id, slot := gone.run, gone.slot
	r := &x.runs[id]
	x.unlink(l)
	if gone.parent != none {
		x.lease(gone.parent).children--
	}
	if x.lease(l).run = none; l != id {
		x.byHolder.remove(holderKey(id, slot), l)
		x.freeLeases.give(l - uint32(len(x.runs)))
	}
	x.held[slot].blocks -= int(r.length.Load())
	x.blocks -= int(r.length.Load())
	word := &x.holders.Load().of(id)[slot/64]
	atomic.StoreUint64(word, *word&^(1<<(slot%64)))
	r.holders--
	if r.holders == 0 {
		x.byFirst.remove(r.first.Load(), id)
		r.version.Add(1)
		x.cut(r, 0)
		r.version.Add(1)
		x.freeRuns.give(id)
	}
}

// link puts a lease into its endpoint's list, just newer than another; none means at the old end.
func (x *Index) link(l, behind uint32) {
	this := x.lease(l)
	h := &x.held[this.slot]
	ahead := h.oldest
	if behind == none {
		h.oldest = l
	} else {
		ahead = x.lease(behind).newer
		x.lease(behind).newer = l
	}
	if ahead == none {
		h.newest = l
	} else {
		x.lease(ahead).older = l
	}
	this.older, this.newer = behind, ahead
}

func (x *Index) unlink(l uint32) {
	this := x.lease(l)
	h := &x.held[this.slot]
	if this.older == none {
		h.oldest = this.newer
	} else {
		x.lease(this.older).newer = this.newer
	}
	if this.newer == none {
		h.newest = this.older
	} else {
		x.lease(this.newer).older = this.older
	}
}

func holderKey(run, slot uint32) uint64 { return (uint64(run)+1)<<32 | uint64(slot) }
