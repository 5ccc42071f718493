package engine

import "math/bits"

// A hashIndex finds blocks by hash: open addressing with linear probing, at most half full. It
// keeps only block numbers; the hashes are read from the blocks. A Go map does the same at several
// times the cost, and looking up, storing and evicting hundreds of blocks is what most of a
// simulated request costs.
type hashIndex struct {
	slots []int32 // block number, none if empty
	shift int
}

// newHashIndex returns an empty index for up to n blocks, in the memory of old if that suffices.
func newHashIndex(old hashIndex, n int) hashIndex {
	size := 1 << bits.Len(uint(2*n-1))
	x := old
	if len(x.slots) != size {
		x = hashIndex{slots: make([]int32, size), shift: 64 - bits.Len(uint(size-1))}
	}
	for i := range x.slots {
		x.slots[i] = none
	}
	return x
}

// home is where the search for a hash starts. The multiplication spreads hashes that are not
// well mixed, such as small numbers in tests and traces.
func (x *hashIndex) home(hash uint64) int {
	return int(hash * 0x9E3779B97F4A7C15 >> x.shift)
}

func (x *hashIndex) next(i int) int { return (i + 1) & (len(x.slots) - 1) }

func (x *hashIndex) find(blocks []block, hash uint64) int32 {
	for i := x.home(hash); ; i = x.next(i) {
		b := x.slots[i]
		if b == none || blocks[b].hash == hash {
			return b
		}
	}
}

func (x *hashIndex) insert(blocks []block, b int32) {
	i := x.home(blocks[b].hash)
	for x.slots[i] != none {
		i = x.next(i)
	}
	x.slots[i] = b
}

func (x *hashIndex) replace(blocks []block, b, with int32) {
	x.slots[x.slotOf(blocks, b)] = with
}

// remove closes the gap by moving back each later entry of the cluster that may stand there, so no
// tombstones pile up.
func (x *hashIndex) remove(blocks []block, b int32) {
	gap := x.slotOf(blocks, b)
	mask := len(x.slots) - 1
	for i := x.next(gap); x.slots[i] != none; i = x.next(i) {
		home := x.home(blocks[x.slots[i]].hash)
		if (i-home)&mask >= (i-gap)&mask {
			x.slots[gap] = x.slots[i]
			gap = i
		}
	}
	x.slots[gap] = none
}

func (x *hashIndex) slotOf(blocks []block, b int32) int {
	i := x.home(blocks[b].hash)
	for x.slots[i] != b {
		i = x.next(i)
	}
	return i
}
