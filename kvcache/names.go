package kvcache

import "math/bits"

// names finds blocks by the hashes that engines have given them. Engines that agree in their hashes share a name; one with
// hashes of its own gives names of its own to the blocks that others hold too.
//
// Names are kept in columns beside the segments of a run's hashes. A table leads from a name to its place in a column.
type names struct {
	hashes  []uint64 // columns, segmentBlocks each
	columns []column
	first   []uint32 // by segment of request hashes: its first column
	free    free
	shards  [nameShards]nameShard
	bytes   int
	seen    uint64 // what warm has seen
}

// column is what the blocks of a segment are called.
type column struct {
	run, next uint32
	index     uint32 // of the segment in its run
	pod       uint32 // whose names they are, none if of several
	used      uint32 // which places have a name
}

const columnBytes = 20

// The table is divided so that it grows in small steps. An entry is half of the name's hash, and its place plus one.
const (
	nameShards   = 256
	nameBytesMax = 12 // an entry's share of a table that was just enlarged
)

type nameShard struct {
	entries []uint64
	used    int
}

func nameHash(name uint64) (shard int, entry uint64) {
	name ^= name >> 32
	name *= 0x9e3779b97f4a7c15
	return int(name >> 56), name << 8 >> 32 << 32
}

// find returns the next place that has a name, going on after one that it returned; begin with -1.
func (n *names) find(name uint64, after int) (place uint32, at int, ok bool) {
	shard, want := nameHash(name)
	entries := n.shards[shard].entries
	if len(entries) == 0 {
		return 0, 0, false
	}
	i := after + 1
	if after < 0 {
		i = nameHome(want, len(entries))
	}
	for ; ; i++ {
		if i >= len(entries) {
			i = 0
		}
		e := entries[i]
		if e == 0 {
			return 0, 0, false
		}
		if (e^want)>>32 == 0 {
			if place = uint32(e) - 1; n.hashes[place] == name {
				return place, i, true
			}
		}
	}
}

func nameHome(entry uint64, places int) int { return int(entry >> 32 * uint64(places) >> 32) }

// warm looks at where some names are or would be, without waiting for one before the next, so that those who look for them one
// after another find them in the processor's cache.
func (n *names) warm(list []uint64) {
	seen := uint64(0)
	for _, name := range list {
		shard, want := nameHash(name)
		if entries := n.shards[shard].entries; len(entries) > 0 {
			seen ^= entries[nameHome(want, len(entries))]
		}
	}
	n.seen = seen
}

// warmPlaces goes on after warm, for names that should be there: it looks at their places and columns.
func (n *names) warmPlaces(list []uint64) {
	seen := uint64(0)
	for _, name := range list {
		shard, want := nameHash(name)
		entries := n.shards[shard].entries
		if len(entries) == 0 {
			continue
		}
		i := nameHome(want, len(entries))
		for range 4 {
			e := entries[i]
			if (e^want)>>32 == 0 && uint32(e) != 0 {
				seen ^= n.hashes[uint32(e)-1] ^ uint64(n.columns[(uint32(e)-1)/segmentBlocks].used)
				break
			}
			if i++; i == len(entries) {
				i = 0
			}
		}
	}
	n.seen = seen
}

// where returns the run and the position of a place.
func (n *names) where(place uint32) (run uint32, pos int, c *column) {
	c = &n.columns[place/segmentBlocks]
	return c.run, int(c.index*segmentBlocks + place%segmentBlocks), c
}

func (n *names) add(name uint64, place uint32) {
	shard, entry := nameHash(name)
	s := &n.shards[shard]
	if 5*(s.used+1) > 4*len(s.entries) {
		old := s.entries
		s.entries = make([]uint64, len(old)+len(old)/5+16)
		n.bytes += 8 * (len(s.entries) - len(old))
		for _, e := range old {
			if e != 0 {
				s.put(e)
			}
		}
	}
	s.used++
	s.put(entry | uint64(place+1))
	n.hashes[place] = name
	n.columns[place/segmentBlocks].used |= 1 << (place % segmentBlocks)
}

// expect makes room for some names in a table that has none, as far as there may be so many.
func (n *names) expect(count int) {
	count = min(count, len(n.hashes))
	for i := range n.shards {
		if s := &n.shards[i]; s.used == 0 && len(s.entries) < count/nameShards*4/3 {
			n.bytes -= 8 * len(s.entries)
			s.entries = make([]uint64, count/nameShards*4/3)
			n.bytes += 8 * len(s.entries)
		}
	}
}

func (s *nameShard) put(entry uint64) {
	i := nameHome(entry, len(s.entries))
	for s.entries[i] != 0 {
		if i++; i == len(s.entries) {
			i = 0
		}
	}
	s.entries[i] = entry
}

// remove ends the name at a place.
func (n *names) remove(place uint32) {
	c := &n.columns[place/segmentBlocks]
	if c.used>>(place%segmentBlocks)&1 == 0 {
		return
	}
	c.used &^= 1 << (place % segmentBlocks)
	shard, entry := nameHash(n.hashes[place])
	s := &n.shards[shard]
	entry |= uint64(place + 1)
	places := len(s.entries)
	gap := nameHome(entry, places)
	for s.entries[gap] != entry {
		if gap++; gap == places {
			gap = 0
		}
	}
	s.used--
	for i := gap; ; {
		if i++; i == places {
			i = 0
		}
		e := s.entries[i]
		if e == 0 {
			break
		}
		// The entry may fill the gap unless that is before its home, going round.
		if ahead(nameHome(e, places), i, places) >= ahead(gap, i, places) {
			s.entries[gap] = e
			gap = i
		}
	}
	s.entries[gap] = 0
}

// ahead is how many places lie between two, going round.
func ahead(from, to, places int) int {
	if to < from {
		to += places
	}
	return to - from
}

// name gives the blocks of a run from some position on the names that a pod has for them, and returns how many got them: fewer
// only if there is no room, or if the pod has called one of them two other names already.
func (x *Index) name(id uint32, pos int, engine []uint64, pod uint32) (n int) {
	r := &x.runs[id]
	c := none // the column that took the last name
	for ; n < len(engine); n++ {
		at := pos + n
		e := engine[n]
		if at%segmentBlocks == 0 {
			c = none
		}
		if x.named(id, at, e, pod) {
			continue
		}
		if c == none || x.names.columns[c].used>>(at%segmentBlocks)&1 != 0 {
			if c = x.column(r, id, at, pod); c == none {
				return n
			}
		}
		x.names.add(e, c*segmentBlocks+uint32(at%segmentBlocks))
		if r.flags&runBag == 0 && x.awaited(e, r.flags&runWaiting != 0) {
			x.pending = append(x.pending, e)
		}
	}
	return n
}

// named tells whether a block has a name, and notes that a pod uses it.
func (x *Index) named(id uint32, pos int, e uint64, pod uint32) bool {
	for from := -1; ; {
		place, at, ok := x.names.find(e, from)
		if !ok {
			return false
		}
		run, p, c := x.names.where(place)
		if run == id && p == pos {
			if c.pod != pod {
				c.pod = none
			}
			return true
		}
		from = at
	}
}

// column returns a column with an empty place for a block's name by a pod.
func (x *Index) column(r *run, id uint32, pos int, pod uint32) uint32 {
	n := &x.names
	first := &n.first[r.segments[pos/segmentBlocks]]
	own := false
	for c := *first; c != none; c = n.columns[c].next {
		col := &n.columns[c]
		if col.pod != pod && col.pod != none {
			continue
		}
		if col.used>>(pos%segmentBlocks)&1 == 0 {
			return c
		}
		own = own || col.pod == pod
	}
	if own || n.free.left() == 0 {
		return none
	}
	c := n.free.take()
	n.columns[c] = column{run: id, next: *first, index: uint32(pos / segmentBlocks), pod: pod}
	*first = c
	return c
}

// unname ends all names of a run's blocks between two positions. Columns of segments that lose all their blocks are freed.
func (x *Index) unname(id uint32, from, to int) {
	if x.names.first == nil {
		return
	}
	r := &x.runs[id]
	for s := from / segmentBlocks; s*segmentBlocks < to; s++ {
		low, high := max(from-s*segmentBlocks, 0), min(to-s*segmentBlocks, segmentBlocks)
		mask := uint32((uint64(1)<<high - 1) &^ (uint64(1)<<low - 1))
		first := &x.names.first[r.segments[s]]
		for c := *first; c != none; {
			col := &x.names.columns[c]
			for left := col.used & mask; left != 0; left &= left - 1 {
				x.names.remove(c*segmentBlocks + uint32(bits.TrailingZeros32(left)))
			}
			next := col.next
			if low == 0 && to == int(r.length) {
				x.names.free.give(c)
			}
			c = next
		}
		if low == 0 && to == int(r.length) {
			*first = none
		}
	}
}

// disown ends the names that only a pod has used for the blocks of a run.
func (x *Index) disown(id uint32, pod uint32) {
	r := &x.runs[id]
	for s := range (int(r.length) + segmentBlocks - 1) / segmentBlocks {
		link := &x.names.first[r.segments[s]]
		for *link != none {
			c := *link
			col := &x.names.columns[c]
			if col.pod != pod {
				link = &col.next
				continue
			}
			for left := col.used; left != 0; left &= left - 1 {
				x.names.remove(c*segmentBlocks + uint32(bits.TrailingZeros32(left)))
			}
			*link = col.next
			x.names.free.give(c)
		}
	}
}
