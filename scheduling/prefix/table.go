package prefix

import "sync/atomic"

// table is an open-addressing hash table from uint64 to uint32 with a fixed number of places, for one writer at a time
// and readers that take no lock. A reader may miss or mistake an entry while the writer moves it: what it finds must be
// checked, and a miss counts only if the table was settled (see find).
type table struct {
	entries []entry
	shift   uint8
	moves   atomic.Uint64 // odd while entries move
}

type entry struct {
	key   atomic.Uint64 // 0 is vacant
	value atomic.Uint32
}

const entryBytes = 16

// newTable makes a table that stays at most half full with n keys.
func newTable(n int) table {
	places, shift := 2, uint8(63)
	for places < 2*n {
		places, shift = places*2, shift-1
	}
	return table{entries: slab[entry](places), shift: shift}
}

func (t *table) home(key uint64) int { return int(key * 0x9e3779b97f4a7c15 >> t.shift) }

func nonzero(key uint64) uint64 {
	if key == 0 {
		return 1
	}
	return key
}

// find returns the value of a key. If settled is false the table changed meanwhile and a miss means nothing.
func (t *table) find(key uint64) (value uint32, found, settled bool) {
	key = nonzero(key)
	before := t.moves.Load()
	for i := t.home(key); ; i = (i + 1) & (len(t.entries) - 1) {
		switch t.entries[i].key.Load() {
		case key:
			return t.entries[i].value.Load(), true, true
		case 0:
			return 0, false, before&1 == 0 && t.moves.Load() == before
		}
	}
}

// get is find for the writer.
func (t *table) get(key uint64) (uint32, bool) {
	value, found, _ := t.find(key)
	return value, found
}

// set adds a key or changes its value.
func (t *table) set(key uint64, value uint32) {
	key = nonzero(key)
	i := t.home(key)
	for t.entries[i].key.Load() != 0 && t.entries[i].key.Load() != key {
		i = (i + 1) & (len(t.entries) - 1)
	}
	t.entries[i].value.Store(value)
	t.entries[i].key.Store(key)
}

// remove deletes a key and closes the gap, so that lookups never wade through deleted entries.
func (t *table) remove(key uint64) {
	key = nonzero(key)
	mask := len(t.entries) - 1
	gap := t.home(key)
	for t.entries[gap].key.Load() != key {
		if t.entries[gap].key.Load() == 0 {
			return
		}
		gap = (gap + 1) & mask
	}
	t.moves.Add(1)
	for i := (gap + 1) & mask; ; i = (i + 1) & mask {
		k := t.entries[i].key.Load()
		if k == 0 {
			break
		}
		// The entry may fill the gap unless that is before its home, going round.
		if (i-t.home(k))&mask >= (i-gap)&mask {
			t.entries[gap].value.Store(t.entries[i].value.Load())
			t.entries[gap].key.Store(k)
			gap = i
		}
	}
	t.entries[gap].key.Store(0)
	t.moves.Add(1)
}
