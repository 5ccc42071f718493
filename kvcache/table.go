package kvcache

import "sync/atomic"

// table finds a number by a 64-bit key that can be read off what the number stands for. It is an open-addressing hash table
// for one writer at a time and readers that take no lock. An entry is one word: the upper half of the key's hash, from
// which its home follows, and the number.
//
// A reader may miss an entry that the writer is moving, and may find a number whose meaning changes while it looks: what it
// finds must be checked, and a miss counts only if the table was settled.
type table struct {
	keyOf   func(number uint32) uint64
	current atomic.Pointer[[]uint64]
	used    int
	moves   atomic.Uint64 // odd while entries move
}

const smallestTable = 64

func (t *table) init(keyOf func(uint32) uint64) {
	entries := make([]uint64, smallestTable)
	t.keyOf = keyOf
	t.current.Store(&entries)
}

// tableBytes is what a table takes up with n keys: it is at most half full, and both sizes are there while it grows.
func tableBytes(n int) int {
	places := smallestTable
	for places < 2*n {
		places *= 2
	}
	return 8 * (places + places/2)
}

func entry(key uint64, number uint32) uint64 {
	key ^= key >> 32
	return key*0x9e3779b97f4a7c15>>32<<32 | uint64(number+1)
}

const numberMask = 1<<32 - 1

// home is where an entry would be if nothing was in its way. The number of places is a power of two.
func home(e uint64, places int) int { return int(e >> 32 * uint64(places) >> 32) }

// find returns the number of a key. If settled is false the table changed meanwhile and a miss means nothing.
func (t *table) find(key uint64) (number uint32, found, settled bool) {
	before := t.moves.Load()
	entries := *t.current.Load()
	want := entry(key, 0)
	for i := home(want, len(entries)); ; i = (i + 1) & (len(entries) - 1) {
		e := atomic.LoadUint64(&entries[i])
		if e == 0 {
			return 0, false, before&1 == 0 && t.moves.Load() == before
		}
		if (e^want)>>32 == 0 {
			if number = uint32(e&numberMask) - 1; t.keyOf(number) == key {
				return number, true, true
			}
		}
	}
}

// get is find for the writer.
func (t *table) get(key uint64) (uint32, bool) {
	number, found, _ := t.find(key)
	return number, found
}

// add adds a key that is not there yet.
func (t *table) add(key uint64, number uint32) {
	t.used++
	if entries := *t.current.Load(); 2*t.used > len(entries) {
		larger := make([]uint64, 2*len(entries))
		for _, e := range entries {
			if e != 0 {
				insert(larger, e)
			}
		}
		t.moves.Add(1)
		t.current.Store(&larger)
		t.moves.Add(1)
	}
	insert(*t.current.Load(), entry(key, number))
}

func insert(entries []uint64, e uint64) {
	i := home(e, len(entries))
	for entries[i] != 0 {
		i = (i + 1) & (len(entries) - 1)
	}
	atomic.StoreUint64(&entries[i], e)
}

// at returns where a key and its number are, which must be there.
func (t *table) at(key uint64, number uint32) int {
	entries, e := *t.current.Load(), entry(key, number)
	i := home(e, len(entries))
	for entries[i] != e {
		i = (i + 1) & (len(entries) - 1)
	}
	return i
}

// remove deletes a key with its number, which must be there, and closes the gap, so that lookups never wade through
// deleted entries.
func (t *table) remove(key uint64, number uint32) {
	entries := *t.current.Load()
	mask := len(entries) - 1
	gap := t.at(key, number)
	t.used--
	t.moves.Add(1)
	for i := (gap + 1) & mask; entries[i] != 0; i = (i + 1) & mask {
		// The entry may fill the gap unless that is before its home, going round.
		if (i-home(entries[i], len(entries)))&mask >= (i-gap)&mask {
			atomic.StoreUint64(&entries[gap], entries[i])
			gap = i
		}
	}
	atomic.StoreUint64(&entries[gap], 0)
	t.moves.Add(1)
}
