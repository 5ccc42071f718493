package kvcache

import (
	"sync/atomic"
)

// A run keeps its hashes in segments of a fixed size, so that memory never fragments.
const (
	segmentBlocks = 32
	runSegments   = 16
	runBlocks     = segmentBlocks * runSegments
	inlineSpans   = 3
)

const none = ^uint32(0)

// run is a stretch of a chain. Its spans, from the first block on, say who holds what: a span is blocks that have the same
// holders. What a lookup needs of most runs is in the first cache line.
//
// Readers load what may change through peek, between two looks at the version. The last block of a run has a holder.
type run struct {
	version     atomic.Uint32 // odd while blocks or spans that a reader may have seen change
	used        uint32        // bit 0: it was matched or stored since it was last considered for forgetting; bits 16 on: see common
	length      uint32        // blocks
	count       uint32        // spans
	first, last uint64        // its hashes at either end
	spans       [inlineSpans]uint64
	more        uint32 // segment with the spans instead, if they are more
	flags       uint32 // of the writer
	segments    [runSegments]uint32
}

const (
	runLive    = 1 << iota
	runWaiting // its hashes are provisional: the block before it is not known
	runBag     // its blocks do not follow one another: only the engine's hashes of them are known
	runCopies  // Index.copies may have some of its blocks
	runSeen    // while a pod's list is compacted
)

const runBytes = 128

// span is where a stretch with the same holders ends, and their set.
type span uint64

func newSpan(end int, set uint32) span { return span(end) | span(set)<<16 }
func (s span) end() int                { return int(s & 0xffff) }
func (s span) set() uint32             { return uint32(s >> 16) }

// free hands out numbers below max: those given back first, then ones never used.
type free struct {
	back []uint32
	next uint32
	max  uint32
}

func (f *free) take() uint32 {
	if n := len(f.back); n > 0 {
		v := f.back[n-1]
		f.back = f.back[:n-1]
		return v
	}
	f.next++
	return f.next - 1
}

func (f *free) give(v uint32) { f.back = append(f.back, v) }
func (f *free) left() int     { return int(f.max-f.next) + len(f.back) }
func (f *free) taken() int    { return int(f.next) - len(f.back) }

func (x *Index) hash(r *run, i int) uint64 {
	return peek(&x.hashes[int(peek32(&r.segments[i/segmentBlocks]))*segmentBlocks+i%segmentBlocks])
}

// common returns how many leading blocks a chain shares with a run from one of its blocks on. Hashes are chained: where two
// are equal, so are all before them. The run remembers where a chain last parted from it: most others part there too.
func (x *Index) common(r *run, from int, chain []uint64) int {
	length := int(peek32(&r.length))
	n := length - from
	if n > 0 && n <= len(chain) && peek(&r.last) == chain[n-1] {
		return n
	}
	low, high := 0, min(n, len(chain), runBlocks-from) // low blocks are shared, more than high are not
	if high < n && high > 0 && x.hash(r, from+high-1) == chain[high-1] {
		return high
	}
	if parts := int(peek32(&r.used)>>16) - from; parts > 0 && parts < high && x.hash(r, from+parts-1) == chain[parts-1] {
		if x.hash(r, from+parts) != chain[parts] {
			return parts
		}
		low = parts + 1
	}
	for low < high {
		mid := (low + high) / 2
		if x.hash(r, from+mid) == chain[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// create makes a run of blocks that nobody holds yet, as many as fit, and returns how many.
func (x *Index) create(chain []uint64, flags uint32) (id uint32, n int) {
	if x.freeRuns.left() == 0 || x.freeSegments.left() == 0 {
		return none, 0
	}
	id = x.freeRuns.take()
	r := &x.runs[id]
	r.version.Add(1)
	poke32(&r.count, 0)
	poke32(&r.length, 0)
	poke32(&r.used, 1)
	r.flags = runLive | flags
	n = x.write(r, chain)
	poke(&r.first, chain[0])
	r.version.Add(1)
	x.byFirst.add(chain[0], id)
	return id, n
}

// grow appends blocks that nobody holds yet to a run, as many as fit, and returns how many.
func (x *Index) grow(id uint32, chain []uint64) (n int) {
	r := &x.runs[id]
	r.version.Add(1)
	n = x.write(r, chain)
	r.version.Add(1)
	return n
}

// write puts blocks behind a run's last one and a span without holders around them.
func (x *Index) write(r *run, chain []uint64) (n int) {
	at := int(r.length)
	chain = chain[:min(len(chain), runBlocks-at)]
	for len(chain) > 0 {
		end := at + n
		if end%segmentBlocks == 0 {
			if x.freeSegments.left() == 0 {
				break
			}
			segment := x.freeSegments.take()
			poke32(&r.segments[end/segmentBlocks], segment)
			if x.names.first != nil {
				x.names.first[segment] = none
			}
		}
		piece := chain[:min(len(chain), segmentBlocks-end%segmentBlocks)]
		overwrite(x.hashes[int(r.segments[end/segmentBlocks])*segmentBlocks+end%segmentBlocks:], piece)
		n += len(piece)
		poke(&r.last, piece[len(piece)-1])
		chain = chain[len(piece):]
	}
	if n == 0 {
		return 0
	}
	poke32(&r.length, uint32(at+n))
	x.distinct += n
	if r.flags&(runWaiting|runBag) != 0 {
		x.waitingBlocks += n
	}
	if at == 0 {
		poke(&r.spans[0], uint64(newSpan(n, 0)))
		poke32(&r.count, 1)
		return n
	}
	var list spanList
	x.load(r, &list)
	if list.n > 0 && list.s[list.n-1].set() == 0 {
		list.n--
	}
	list.s[list.n] = newSpan(at+n, 0)
	list.n++
	x.save(r, &list)
	return n
}

// trim removes the blocks at a run's end that nobody holds, and the run if none is left.
func (x *Index) trim(id uint32) (gone bool) {
	r := &x.runs[id]
	if r.count == 0 || r.count <= inlineSpans && span(r.spans[r.count-1]).set() != 0 {
		return false
	}
	list := &x.trimmed
	x.load(r, list)
	if list.s[list.n-1].set() != 0 {
		return false
	}
	list.n-- // spans beside each other have different holders
	return x.cut(id, list)
}

// cut leaves a run the blocks of a list's spans.
func (x *Index) cut(id uint32, list *spanList) (gone bool) {
	r := &x.runs[id]
	keep := 0
	if list.n > 0 {
		keep = list.s[list.n-1].end()
	}
	length := int(r.length)
	x.unname(id, keep, length)
	if keep == 0 {
		x.byFirst.remove(r.first, id)
		if r.flags&runWaiting != 0 {
			x.unwait(id)
		}
	}
	x.distinct -= length - keep
	if r.flags&(runWaiting|runBag) != 0 {
		x.waitingBlocks -= length - keep
	}
	r.version.Add(1)
	for s := (keep + segmentBlocks - 1) / segmentBlocks; s < (length+segmentBlocks-1)/segmentBlocks; s++ {
		x.freeSegments.give(r.segments[s])
	}
	poke32(&r.length, uint32(keep))
	if keep > 0 {
		poke(&r.last, x.hash(r, keep-1))
	}
	x.save(r, list)
	r.version.Add(1)
	if keep == 0 {
		r.flags = 0
		x.freeRuns.give(id)
	}
	return keep == 0
}

// divide makes the back half of a run a run of its own, at the border of two segments, because it has too many spans. Blocks
// keep their segments, so engines' names of them stay as they are.
func (x *Index) divide(id uint32) (back uint32, ok bool) {
	r := &x.runs[id]
	segments := (int(r.length) + segmentBlocks - 1) / segmentBlocks
	front := segments / 2
	entries := x.opened + 1
	if x.names.first != nil {
		for s := front; s < segments; s++ {
			for c := x.names.first[r.segments[s]]; c != none; c = x.names.columns[c].next {
				entries++
			}
		}
		if !x.roomToEnter(entries) {
			return none, false
		}
	}
	if x.freeRuns.left() == 0 || x.freeSegments.left() < 2 || x.leases.free.left() < 2*x.opened {
		return none, false
	}
	at := front * segmentBlocks
	back = x.freeRuns.take()
	b := &x.runs[back]

	var list, left, right spanList
	x.load(r, &list)
	from := 0
	for _, s := range list.s[:list.n] {
		if from < at {
			left.add(x, min(s.end(), at), s.set())
		}
		if s.end() > at {
			right.add(x, s.end()-at, s.set())
		}
		from = s.end()
	}
	b.version.Add(1)
	b.flags = r.flags
	poke32(&b.used, 1)
	poke32(&b.count, 0)
	poke32(&b.length, r.length-uint32(at))
	for s := front; s < segments; s++ {
		poke32(&b.segments[s-front], r.segments[s])
	}
	poke(&b.first, x.hash(r, at))
	poke(&b.last, r.last)
	x.save(b, &right)
	b.version.Add(1)

	r.version.Add(1)
	poke32(&r.length, uint32(at))
	poke(&r.last, x.hash(r, at-1))
	x.drop(&list)
	x.save(r, &left)
	r.version.Add(1)
	x.byFirst.add(b.first, back)
	x.follow(id, back, front)
	return back, true
}

// follow brings up to date what refers to the blocks of a run that has been divided: its back half is a run of its own, from
// a segment of the old one on.
func (x *Index) follow(front, back uint32, segment int) {
	f, b := &x.runs[front], &x.runs[back]
	if x.names.first != nil {
		for s := range (int(b.length) + segmentBlocks - 1) / segmentBlocks {
			for c := x.names.first[b.segments[s]]; c != none; c = x.names.columns[c].next {
				col := &x.names.columns[c]
				col.run = back
				if col.index -= uint32(segment); col.pod != none {
					x.push(back, &x.pods[col.pod])
				}
			}
		}
	}
	if b.flags&runWaiting != 0 {
		name, _ := x.nameAt(f, int(f.length)-1)
		x.await(back, name, f.last)
	}
	var list spanList
	x.load(b, &list)
	for i, sp := range list.s[:list.n] {
		x.sets.each(sp.set(), func(plane int, pod uint32) {
			s := &x.pods[pod]
			first := x.sets.planesOf(sp.set(), pod)&(1<<plane-1)&exactPlanes == 0
			for _, before := range list.s[:i] {
				first = first && x.sets.planesOf(before.set(), pod)&exactPlanes == 0
			}
			if plane == int(Guessed) {
				x.divideLeases(s, front, back, segment*segmentBlocks)
			} else if first {
				x.push(back, s)
			}
		})
	}
}
