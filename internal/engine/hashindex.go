package engine

import "math/bits"

// A hashIndex finds blocks by hash: open addressing with linear probing, at most half full. Looking
// up, storing and evicting hundreds of blocks is most of what a simulated request costs, nearly all
// of it waiting for memory, so the hash stands in the slot and is not fetched from the block.
type hashIndex struct {
	slots []slot
	shift int
}

type slot struct {
	hash  uint64 // 0 if empty
	block int32
}

// newHashIndex returns an empty index for up to n blocks, in the memory of old if that suffices.
func newHashIndex(old hashIndex, n int) hashIndex {
	size := 1 << bits.Len(uint(2*n-1))
	x := old
	if len(x.slots) != size {
		return hashIndex{slots: make([]slot, size), shift: 64 - bits.Len(uint(size-1))}
	}
	clear(x.slots)
	return x
}

// home is where the search for a hash starts. The multiplication spreads hashes that are not
// well mixed, such as small numbers in tests and traces.
func (x *hashIndex) home(hash uint64) int {
	return int(hash * 0x9E3779B97F4A7C15 >> x.shift)
}

// find returns the slot of a hash: the one that has it, or the empty one where it belongs.
func (x *hashIndex) find(hash uint64) *slot {
	mask := len(x.slots) - 1
	for i := x.home(hash); ; i++ {
		if s := &x.slots[i&mask]; s.hash == hash || s.hash == 0 {
			return s
		}
	}
}

// remove empties the slot of a hash and closes the gap by moving back each later entry of the
// cluster that may stand there, so no tombstones pile up.
func (x *hashIndex) remove(hash uint64) {
	mask := len(x.slots) - 1
	gap := x.home(hash)
	for x.slots[gap].hash != hash {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; x.slots[i].hash != 0; i = (i + 1) & mask {
		if home := x.home(x.slots[i].hash); (i-home)&mask >= (i-gap)&mask {
			x.slots[gap] = x.slots[i]
			gap = i
		}
	}
	x.slots[gap] = slot{}
}
