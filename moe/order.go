package moe

import "math"

// tournament finds the least of a set of keys and lets one change in a step for each doubling of their number. A key's low
// half is its index, so that ties go to the lowest.
type tournament struct {
	leaves int
	tree   []uint64 // node i has children 2i and 2i+1; leaves are behind the inner nodes
}

const beaten = math.MaxUint64

// start prepares n leaves, to be set with leaf and then built.
func (t *tournament) start(n int) {
	t.leaves = 1
	for t.leaves < n {
		t.leaves *= 2
	}
	t.tree = resize(t.tree, 2*t.leaves)
	for i := t.leaves + n; i < len(t.tree); i++ {
		t.tree[i] = beaten
	}
}

func (t *tournament) build() {
	for i := t.leaves - 1; i > 0; i-- {
		t.tree[i] = min(t.tree[2*i], t.tree[2*i+1])
	}
}

// least is the index of the least key.
func (t *tournament) least() int { return int(uint32(t.tree[1])) }

func (t *tournament) set(i int, key uint64) {
	tree := t.tree
	at := t.leaves + i
	tree[at] = key
	for at > 1 {
		key = min(tree[at], tree[at^1])
		at >>= 1
		tree[at] = key
	}
}

// The bits of floats that are not negative are ordered like the floats.
func ascending(v float32, i int) uint64  { return uint64(math.Float32bits(v))<<32 | uint64(uint32(i)) }
func descending(v float32, i int) uint64 { return uint64(^math.Float32bits(v))<<32 | uint64(uint32(i)) }

// sorter sorts keys by their high half, stably, byte by byte.
type sorter struct {
	keys, other []uint64
	count       [4][256]uint32
}

func (s *sorter) start(n int) []uint64 {
	s.keys, s.other = resize(s.keys, n), resize(s.other, n)
	return s.keys
}

func (s *sorter) sort() []uint64 {
	s.count = [4][256]uint32{}
	for _, k := range s.keys {
		s.count[0][byte(k>>32)]++
		s.count[1][byte(k>>40)]++
		s.count[2][byte(k>>48)]++
		s.count[3][byte(k>>56)]++
	}
	for b := range s.count {
		count, shift := &s.count[b], 32+8*b
		if len(s.keys) == 0 || int(count[byte(s.keys[0]>>shift)]) == len(s.keys) {
			continue
		}
		at := uint32(0)
		for i, n := range count {
			count[i] = at
			at += n
		}
		for _, k := range s.keys {
			to := &count[byte(k>>shift)]
			s.other[*to] = k
			*to++
		}
		s.keys, s.other = s.other, s.keys
	}
	return s.keys
}
