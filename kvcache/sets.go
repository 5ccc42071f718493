package kvcache

import (
	"math/bits"
	"sync/atomic"
)

// sets keeps sets of holders, each once. A holder is a pod in a plane, and a set has a row of bits by pod for each plane that
// it has anyone in. Sets are numbered and do not change while anybody counts on them; 0 is the empty set.
//
// A set's identity is the sum modulo two of a random number for each of its holders, so the number of the set with one
// holder more or less is found in one step.
type sets struct {
	words  []uint64 // records of 4 words and more; a set's number is where its record begins, in units of 4
	next   int
	byHash table
	free   [32]uint32 // by size class, linked through the first word
	live   int
}

// A record is the set's hash, its shape, how many spans refer to it, then the rows.
const (
	setHash = iota
	setShape
	setRefs
	setRows

	setUnit = 4
)

// shape says which rows a set has, and which words of them.
type shape uint64

func newShape(planes uint32, low, words int) shape {
	return shape(planes) | shape(low)<<32 | shape(words)<<48
}

func (s shape) planes() uint32 { return uint32(s) }
func (s shape) low() int       { return int(s >> 32 & 0xffff) }
func (s shape) words() int     { return int(s >> 48) }

// row returns where a plane's row begins, if there is one.
func (s shape) row(plane int) (at int, ok bool) {
	if s.planes()>>plane&1 == 0 {
		return 0, false
	}
	return setRows + bits.OnesCount32(s.planes()&(1<<plane-1))*s.words(), true
}

func (s *sets) init(words int) {
	s.words = slab[uint64](words)
	s.next = setUnit // so that no set has number 0
	s.byHash.init(func(id uint32) uint64 { return s.words[int(id)*setUnit+setHash] })
}

func holderHash(plane int, pod uint32) uint64 {
	h := (uint64(plane)<<32 | uint64(pod)) + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func (s *sets) record(id uint32) []uint64 { return s.words[int(id)*setUnit:] }

// planesOf returns the planes in which a set has a pod.
func (s *sets) planesOf(id uint32, pod uint32) (planes uint32) {
	if id == 0 {
		return 0
	}
	r := s.record(id)
	shape := shape(r[setShape])
	w := int(pod/64) - shape.low()
	if w < 0 || w >= shape.words() {
		return 0
	}
	at := setRows + w
	for left := shape.planes(); left != 0; left &= left - 1 {
		if r[at]>>(pod%64)&1 != 0 {
			planes |= left & -left
		}
		at += shape.words()
	}
	return planes
}

// only tells whether nobody is left in a set when a pod goes out of it.
func (s *sets) only(id uint32, k stroke) bool {
	hash := uint64(0)
	for planes := s.planesOf(id, k.pod) & k.clear; planes != 0; planes &= planes - 1 {
		hash ^= holderHash(bits.TrailingZeros32(planes), k.pod)
	}
	return hash == s.record(id)[setHash]
}

// with returns the set with one holder more. It fails if there is no room for it.
func (s *sets) with(id uint32, plane int, pod uint32) (uint32, bool) {
	hash, old := holderHash(plane, pod), shape(0)
	var from []uint64
	if id != 0 {
		from = s.record(id)
		hash ^= from[setHash]
		old = shape(from[setShape])
	}
	if found, ok := s.byHash.get(hash); ok {
		return found, true
	}
	low, high := int(pod/64), int(pod/64)+1
	if id != 0 {
		low, high = min(low, old.low()), max(high, old.low()+old.words())
	}
	made, to := s.make(hash, newShape(old.planes()|1<<plane, low, high-low))
	if to == nil {
		return 0, false
	}
	s.copyRows(to, from, old)
	at, _ := shape(to[setShape]).row(plane)
	poke(&to[at+int(pod/64)-low], to[at+int(pod/64)-low]|1<<(pod%64))
	return made, true
}

// without returns the set with one holder less. It fails if there is no room for it.
func (s *sets) without(id uint32, plane int, pod uint32) (uint32, bool) {
	from := s.record(id)
	hash := from[setHash] ^ holderHash(plane, pod)
	if hash == 0 {
		return 0, true
	}
	if found, ok := s.byHash.get(hash); ok {
		return found, true
	}
	old := shape(from[setShape])
	planes := old.planes()
	at, _ := old.row(plane)
	last := true
	for w := range old.words() {
		word := from[at+w]
		if w+old.low() == int(pod/64) {
			word &^= 1 << (pod % 64)
		}
		last = last && word == 0
	}
	if last {
		planes &^= 1 << plane
	}
	made, to := s.make(hash, newShape(planes, old.low(), old.words()))
	if to == nil {
		return 0, false
	}
	s.copyRows(to, from, old)
	if at, ok := shape(to[setShape]).row(plane); ok {
		w := at + int(pod/64) - old.low()
		poke(&to[w], to[w]&^(1<<(pod%64)))
	}
	return made, true
}

// copyRows copies the rows that two records have in common.
func (s *sets) copyRows(to, from []uint64, old shape) {
	now := shape(to[setShape])
	for planes := now.planes() & old.planes(); planes != 0; planes &= planes - 1 {
		plane := bits.TrailingZeros32(planes)
		a, _ := now.row(plane)
		b, _ := old.row(plane)
		overwrite(to[a+old.low()-now.low():], from[b:b+old.words()])
	}
}

// make begins a record with empty rows.
func (s *sets) make(hash uint64, shape shape) (uint32, []uint64) {
	size := setRows + bits.OnesCount32(shape.planes())*shape.words()
	class := bits.Len(uint((size - 1) / setUnit))
	id := s.free[class]
	if id != 0 {
		s.free[class] = uint32(s.record(id)[0])
	} else {
		if s.next+setUnit<<class > len(s.words) {
			return 0, nil
		}
		id = uint32(s.next / setUnit)
		s.next += setUnit << class
	}
	r := s.words[int(id)*setUnit:][:size]
	poke(&r[setHash], hash)
	poke(&r[setShape], uint64(shape))
	for i := range r[setRefs:] {
		poke(&r[setRefs+i], 0)
	}
	s.byHash.add(hash, id)
	s.live++
	return id, r
}

// take counts a span that refers to a set.
func (s *sets) take(id uint32) {
	if id != 0 {
		s.record(id)[setRefs]++
	}
}

// release ends what take began. A set that nothing refers to is gone.
func (s *sets) release(id uint32) {
	if id == 0 {
		return
	}
	if r := s.record(id); r[setRefs] > 1 {
		r[setRefs]--
	} else {
		s.discard(id)
	}
}

// discard frees a set, which may never have been taken.
func (s *sets) discard(id uint32) {
	r := s.record(id)
	shape := shape(r[setShape])
	class := bits.Len(uint((setRows + bits.OnesCount32(shape.planes())*shape.words() - 1) / setUnit))
	s.byHash.remove(r[setHash], id)
	poke(&r[0], uint64(s.free[class]))
	s.free[class] = id
	s.live--
}

// room tells whether there is room for some more sets of a few planes.
func (s *sets) room() bool {
	const margin = 16
	if s.next+margin*setUnit*4 <= len(s.words) {
		return true
	}
	return s.free[0] != 0 && s.free[1] != 0 && s.free[2] != 0
}

// each calls f for each holder in a set.
func (s *sets) each(id uint32, f func(plane int, pod uint32)) {
	if id == 0 {
		return
	}
	r := s.record(id)
	shape := shape(r[setShape])
	at := setRows
	for planes := shape.planes(); planes != 0; planes &= planes - 1 {
		for w := range shape.words() {
			for word := r[at+w]; word != 0; word &= word - 1 {
				f(bits.TrailingZeros32(planes), uint32(64*(shape.low()+w)+bits.TrailingZeros64(word)))
			}
		}
		at += shape.words()
	}
}

// poke and overwrite store words that a reader may be looking at, plainly: atomic stores would cost more than the rest of an
// update. Each word that a reader loads is of one life of it or the other, and the version of the run that led to it, which
// the writer changes before and after, tells the reader to look again.
//
//go:norace
func poke(word *uint64, v uint64) { *word = v }

//go:norace
func poke32(word *uint32, v uint32) { *word = v }

//go:norace
func overwrite(dst, src []uint64) {
	//lint:ignore S1001 the race detector knows copy, wherever it is called from
	for i, v := range src {
		dst[i] = v
	}
}

func peek(word *uint64) uint64   { return atomic.LoadUint64(word) }
func peek32(word *uint32) uint32 { return atomic.LoadUint32(word) }
