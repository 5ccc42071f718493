package token

import "math"

// noMerge is the priority of a pair that is not merged.
const noMerge = math.MaxUint64

// merges holds which pairs of tokens become which token, and in which order: a pair's priority is its rank, the position
// in the model's list, above the id of the result.
type merges struct {
	pairs []pair // open addressing
	shift uint
}

type pair struct{ key, priority uint64 }

const noPair = math.MaxUint64

func newMerges(list []pair) merges {
	bits := uint(4)
	for 1<<bits < 2*len(list) {
		bits++
	}
	m := merges{make([]pair, 1<<bits), 64 - bits}
	for i := range m.pairs {
		m.pairs[i].key = noPair
	}
	for _, p := range list {
		*m.find(p.key) = p // the last of two equal pairs holds
	}
	return m
}

func (m *merges) find(key uint64) *pair {
	mask := uint64(len(m.pairs) - 1)
	for i := key * multiplier >> m.shift; ; i++ {
		p := &m.pairs[i&mask]
		if p.key == key || p.key == noPair {
			return p
		}
	}
}

// priority returns the pair's, noMerge when it has none.
func (m *merges) priority(left, right uint32) uint64 {
	p := m.find(uint64(left)<<32 | uint64(right))
	if p.key == noPair {
		return noMerge
	}
	return p.priority
}

// A word of few symbols is merged by looking at all its pairs each time, one of many by a heap.
const fewSymbols = 40

// merge applies the merges to symbols, best priority first and leftmost among equals, and appends what is left to dst.
// Symbols is overwritten.
func (m *merges) merge(s *scratch, dst, symbols []uint32) []uint32 {
	if len(symbols) > fewSymbols {
		return m.mergeMany(s, dst, symbols)
	}
	var room [fewSymbols]uint64
	priorities := room[:len(symbols)]
	last := len(symbols) - 1
	for i := range last {
		priorities[i] = m.priority(symbols[i], symbols[i+1])
	}
	for last > 0 {
		best, at := uint64(noMerge), 0
		for i, p := range priorities[:last] {
			if p < best {
				best, at = p, i
			}
		}
		if best == noMerge {
			break
		}
		symbols[at] = uint32(best)
		copy(symbols[at+1:last], symbols[at+2:last+1])
		copy(priorities[at:last-1], priorities[at+1:last])
		last--
		if at > 0 {
			priorities[at-1] = m.priority(symbols[at-1], symbols[at])
		}
		if at < last {
			priorities[at] = m.priority(symbols[at], symbols[at+1])
		}
	}
	return append(dst, symbols[:last+1]...)
}

// link is a symbol of a long word, in a list.
type link struct {
	before, after int32
	rank          uint32 // of the pair that it begins, noRank when that is not merged
	result        uint32
}

const noRank = math.MaxUint32

// mergeMany takes O(n log n): every merge ends one pair and renews at most two. A pair that was changed leaves its old
// entry in the heap, which is known by its rank.
func (m *merges) mergeMany(s *scratch, dst, symbols []uint32) []uint32 {
	n := len(symbols)
	links, heap := s.links[:0], s.heap[:0]
	for i := range n {
		l := link{before: int32(i - 1), after: int32(i + 1), rank: noRank}
		if i+1 < n {
			if p := m.priority(symbols[i], symbols[i+1]); p != noMerge {
				l.rank, l.result = uint32(p>>32), uint32(p)
				heap = append(heap, p>>32<<32|uint64(i))
			}
		}
		links = append(links, l)
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		siftDown(heap, i)
	}
	renew := func(at int32) {
		l := &links[at]
		l.rank = noRank
		if int(l.after) == n {
			return
		}
		if p := m.priority(symbols[at], symbols[l.after]); p != noMerge {
			l.rank, l.result = uint32(p>>32), uint32(p)
			heap = append(heap, p>>32<<32|uint64(at))
			siftUp(heap)
		}
	}
	for len(heap) > 0 {
		top := heap[0]
		heap[0] = heap[len(heap)-1]
		heap = heap[:len(heap)-1]
		siftDown(heap, 0)
		at := int32(uint32(top))
		l := &links[at]
		if l.rank == noRank || l.rank != uint32(top>>32) {
			continue
		}
		symbols[at] = l.result
		gone := l.after
		links[gone].rank = noRank
		l.after = links[gone].after
		if int(l.after) < n {
			links[l.after].before = at
		}
		renew(at)
		if l.before >= 0 {
			renew(l.before)
		}
	}
	for i := int32(0); int(i) < n; i = links[i].after {
		dst = append(dst, symbols[i])
	}
	s.links, s.heap = links, heap
	return dst
}

func siftDown(heap []uint64, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1] < heap[child] {
			child++
		}
		if heap[i] <= heap[child] {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// siftUp restores the order after an append.
func siftUp(heap []uint64) {
	for i := len(heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if heap[parent] <= heap[i] {
			return
		}
		heap[i], heap[parent] = heap[parent], heap[i]
		i = parent
	}
}
