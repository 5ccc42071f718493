package engine

import "math/bits"

// A hashIndex finds blocks by hash: open addressing with linear probing, at most half full. Looking
// up, storing and evicting hundreds of blocks is most of what a simulated request costs, nearly all
// of it waiting for memory, so a slot is one word: the number of the block, plus one, under 32 bits
// of its mixed hash, from which its home follows and which tell nearly always that it is another.
// The hash itself stands in the block.
type hashIndex struct {
	slots  []uint64 // 0 if empty
	shift  int
	blocks []block
}

// newHashIndex returns an empty index of blocks, in the memory of old if that suffices.
func newHashIndex(old hashIndex, blocks []block) hashIndex {
	size := 1 << bits.Len(uint(2*len(blocks)-1))
	x := old
	if len(x.slots) != size {
		return hashIndex{slots: make([]uint64, size), shift: 64 - bits.Len(uint(size-1)), blocks: blocks}
	}
	clear(x.slots)
	return x
}

// mixed spreads hashes that are not well mixed, such as small numbers in tests and traces. The lower
// half is left empty.
func mixed(hash uint64) uint64 { return hash * 0x9E3779B97F4A7C15 >> 32 << 32 }

// home is where the search for a slot's content starts.
func (x *hashIndex) home(slot uint64) int { return int(slot >> x.shift) }

// find returns the place of a hash and whether it is there; if not, the place is the empty one
// where it belongs.
func (x *hashIndex) find(hash uint64) (place int, found bool) {
	mask, want := len(x.slots)-1, mixed(hash)
	for i := x.home(want); ; i++ {
		s := x.slots[i&mask]
		if s == 0 {
			return i & mask, false
		}
		if (s^want)>>32 == 0 && x.blocks[uint32(s)-1].hash == hash {
			return i & mask, true
		}
	}
}

// at returns the block in a place that is not empty.
func (x *hashIndex) at(place int) int32 { return int32(uint32(x.slots[place]) - 1) }

// put lets a place stand for a block of a hash.
func (x *hashIndex) put(place int, hash uint64, block int32) {
	x.slots[place] = mixed(hash) | uint64(block+1)
}

// remove empties a place and closes the gap by moving back each later entry of the cluster that may
// stand there, so no tombstones pile up.
func (x *hashIndex) remove(gap int) {
	mask := len(x.slots) - 1
	for i := (gap + 1) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if home := x.home(x.slots[i]); (i-home)&mask >= (i-gap)&mask {
			x.slots[gap] = x.slots[i]
			gap = i
		}
	}
	x.slots[gap] = 0
}
