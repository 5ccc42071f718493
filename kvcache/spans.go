package kvcache

import "math/bits"

// spanList is a run's spans while they are changed. A run has at most as many as a segment has words; it is divided before it
// needs more, and one of a single segment never does.
type spanList struct {
	n int
	s [segmentBlocks + 3]span
}

const maxSpans = segmentBlocks

// add appends a span, or lengthens the last one if the holders are the same. Each span counts as a use of its set.
func (l *spanList) add(x *Index, end int, set uint32) {
	if l.n > 0 && l.s[l.n-1].set() == set {
		l.s[l.n-1] = newSpan(end, set)
		return
	}
	x.sets.take(set)
	l.s[l.n] = newSpan(end, set)
	l.n++
}

// load copies a run's spans.
func (x *Index) load(r *run, list *spanList) {
	list.n = int(r.count)
	from := r.spans[:]
	if list.n > inlineSpans {
		from = x.hashes[int(r.more)*segmentBlocks:][:segmentBlocks]
	}
	for i := range list.n {
		list.s[i] = span(from[i])
	}
}

// save stores a run's spans. The version must be odd. It does not count uses of sets.
func (x *Index) save(r *run, list *spanList) {
	to := r.spans[:]
	if list.n > inlineSpans {
		if r.count <= inlineSpans {
			poke32(&r.more, x.freeSegments.take())
		}
		to = x.hashes[int(r.more)*segmentBlocks:][:segmentBlocks]
	} else if r.count > inlineSpans {
		x.freeSegments.give(r.more)
	}
	for i, s := range list.s[:list.n] {
		poke(&to[i], uint64(s))
	}
	poke32(&r.count, uint32(list.n))
}

// drop ends the uses of a list's sets.
func (x *Index) drop(list *spanList) {
	for _, s := range list.s[:list.n] {
		x.sets.release(s.set())
	}
}

// at returns who holds a block of a run.
func (x *Index) at(r *run, pos int) (set uint32) {
	from := r.spans[:]
	if r.count > inlineSpans {
		from = x.hashes[int(r.more)*segmentBlocks:][:segmentBlocks]
	}
	for _, s := range from[:r.count] {
		if span(s).end() > pos {
			return span(s).set()
		}
	}
	return 0
}

// within tells whether a pod is in any span of a run, in one of some planes.
func (x *Index) within(r *run, pod uint32, planes uint32) bool {
	from := r.spans[:]
	if r.count > inlineSpans {
		from = x.hashes[int(r.more)*segmentBlocks:][:segmentBlocks]
	}
	for _, s := range from[:r.count] {
		if x.sets.planesOf(span(s).set(), pod)&planes != 0 {
			return true
		}
	}
	return false
}

// stroke is a change of who holds some blocks of a run.
type stroke struct {
	pod        uint32
	set, clear uint32 // planes that the pod comes into and goes out of
}

const (
	guessPlane  = 1 << Guessed
	exactPlanes = ^uint32(guessPlane)
)

// paint changes the holders of the blocks of a run between two positions. It returns where the latter is afterwards, as the run
// may have been divided, or none if the run is gone: because nobody holds any of it now, or because there was no room to
// write down who does, so that it had to be forgotten.
func (x *Index) paint(id uint32, from, to int, k stroke) (at uint32, end int) {
	r := &x.runs[id]
	if int(r.count)+2 > maxSpans && r.length > segmentBlocks {
		back, ok := x.divide(id)
		if !ok {
			x.forget(id)
			return none, 0
		}
		if k.set&exactPlanes != 0 {
			x.push(back, &x.pods[k.pod])
		}
		border := int(r.length)
		if from < border {
			at, end = x.paint(id, from, min(to, border), k)
		}
		if to > border {
			at, end = x.paint(back, max(from-border, 0), to-border, k)
		}
		return at, end
	}
	if r.count == 1 && to == int(r.length) {
		if at, end, ok := x.paintEnd(id, from, k); ok {
			return at, end
		}
	}
	old, list := &x.before, &x.after
	x.load(r, old)
	list.n = 0
	start := 0
	for _, s := range old.s[:old.n] {
		end := s.end()
		if end <= from || start >= to {
			list.add(x, end, s.set())
			start = end
			continue
		}
		if start < from {
			list.add(x, from, s.set())
			start = from
		}
		stop := min(end, to)
		set, ok := x.restroke(s.set(), k, stop-start)
		if !ok {
			x.drop(list)
			x.forget(id)
			return none, 0
		}
		list.add(x, stop, set)
		if stop < end {
			list.add(x, end, s.set())
		}
		start = end
	}
	if list.n > inlineSpans && old.n <= inlineSpans && x.freeSegments.left() == 0 {
		x.drop(list)
		x.forget(id)
		return none, 0
	}
	x.touch(r)
	r.version.Add(1)
	x.drop(old)
	x.save(r, list)
	r.version.Add(1)
	if list.n > 0 && list.s[list.n-1].set() == 0 && x.trim(id) {
		return none, 0
	}
	return id, to
}

// paintEnd is paint for the end of a run of a single span, if the whole of it changes or nobody holds what changes afterwards.
func (x *Index) paintEnd(id uint32, from int, k stroke) (at uint32, end int, done bool) {
	r := &x.runs[id]
	length, was := int(r.length), span(r.spans[0]).set()
	if from > 0 {
		if k.set != 0 || was == 0 || !x.sets.only(was, k) {
			return 0, 0, false
		}
		x.restroke(was, k, length-from)
		x.trimmed.n, x.trimmed.s[0] = 1, newSpan(from, was)
		x.cut(id, &x.trimmed)
		return none, 0, true // nothing is where the end was
	}
	set, ok := x.restroke(was, k, length)
	if !ok {
		x.forget(id)
		return none, 0, true
	}
	x.touch(r)
	r.version.Add(1)
	x.sets.take(set)
	poke(&r.spans[0], uint64(newSpan(length, set)))
	x.sets.release(was)
	r.version.Add(1)
	if set == 0 && x.trim(id) {
		return none, 0, true
	}
	return id, length, true
}

// touch notes that a run was used.
func (x *Index) touch(r *run) {
	if used := peek32(&r.used); used&1 == 0 {
		poke32(&r.used, used|1)
	}
}

// restroke returns a set after a change, and counts what it means for the pod.
func (x *Index) restroke(set uint32, k stroke, blocks int) (changed uint32, ok bool) {
	before := x.sets.planesOf(set, k.pod)
	after := before&^k.clear | k.set
	changed = set
	for turn := before ^ after; turn != 0; turn &= turn - 1 {
		plane, was := bits.TrailingZeros32(turn), changed
		if after>>plane&1 != 0 {
			changed, ok = x.sets.with(was, plane, k.pod)
		} else {
			changed, ok = x.sets.without(was, plane, k.pod)
		}
		if was != set && was != 0 && x.sets.record(was)[setRefs] == 0 {
			x.sets.discard(was) // it was only on the way
		}
		if !ok {
			return 0, false
		}
	}
	p := &x.pods[k.pod]
	switch had, has := before&exactPlanes != 0, after&exactPlanes != 0; {
	case has && !had:
		p.blocks += blocks
	case had && !has:
		p.blocks -= blocks
	}
	switch had, has := before&guessPlane != 0, after&guessPlane != 0; {
	case has && !had:
		p.guesses += blocks
	case had && !has:
		p.guesses -= blocks
	}
	return changed, true
}
