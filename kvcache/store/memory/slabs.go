package memory

import "math/bits"

// slabs divides an arena into places for pages. It holds no lock and touches no memory of the arena.
type slabs struct {
	slabBytes int
	all       []slab
	empty     []int32 // slabs without a class
	classes   map[int32]*class
}

// slab serves places of one size, or none if size is 0.
type slab struct {
	size   int32
	places int32
	used   int32
	listed int32    // its place in the class's list of slabs with room, -1 if it is full
	free   []uint64 // a bit for each place that is free
}

type class struct{ room []int32 }

// unit is what places are multiples of.
const unit = 4096

func newSlabs(capacity, slabBytes int) *slabs {
	s := &slabs{slabBytes: slabBytes, classes: map[int32]*class{}}
	n := capacity / slabBytes
	s.all = make([]slab, n)
	for i := n - 1; i >= 0; i-- {
		s.all[i].free = make([]uint64, (slabBytes/unit+63)/64)
		s.empty = append(s.empty, int32(i))
	}
	return s
}

// sizeOf is the size of the place that so many bytes get. Sizes above a slab's are possible and never allocated.
func sizeOf(bytes int) int {
	step := max(unit, 1<<max(bits.Len(uint(bytes-1))-7, 0))
	return max(bytes+step-1, 1) / step * step
}

// alloc returns the offset of a free place of a size that sizeOf has returned.
func (s *slabs) alloc(size int) (offset int, ok bool) {
	c := s.classes[int32(size)]
	if c == nil || len(c.room) == 0 {
		if len(s.empty) == 0 {
			return 0, false
		}
		if c == nil {
			c = &class{}
			s.classes[int32(size)] = c
		}
		i := s.empty[len(s.empty)-1]
		s.empty = s.empty[:len(s.empty)-1]
		s.all[i].begin(int32(size), int32(s.slabBytes/size))
		s.list(c, i)
	}
	i := c.room[len(c.room)-1]
	b := &s.all[i]
	place := 0
	for w, word := range b.free {
		if word != 0 {
			bit := bits.TrailingZeros64(word)
			b.free[w] &^= 1 << bit
			place = w*64 + bit
			break
		}
	}
	if b.used++; b.used == b.places {
		s.unlist(c, i)
	}
	return int(i)*s.slabBytes + place*size, true
}

// release frees a place.
func (s *slabs) release(offset int) {
	i := int32(offset / s.slabBytes)
	b := &s.all[i]
	c := s.classes[b.size]
	place := (offset - int(i)*s.slabBytes) / int(b.size)
	b.free[place/64] |= 1 << (place % 64)
	if b.used == b.places {
		s.list(c, i)
	}
	if b.used--; b.used == 0 {
		s.unlist(c, i)
		if len(c.room) == 0 {
			s.forget(b.size)
		}
		b.size = 0
		s.empty = append(s.empty, i)
	}
}

// forget drops the class of a size that no slab serves, so that there are never more classes than slabs.
func (s *slabs) forget(size int32) {
	for i := range s.all {
		if s.all[i].size == size && s.all[i].used > 0 {
			return
		}
	}
	delete(s.classes, size)
}

// emptiest returns the slab with the least in it of those that serve other sizes.
func (s *slabs) emptiest(size int) (int, bool) {
	best := -1
	for i := range s.all {
		b := &s.all[i]
		if b.size != 0 && b.size != int32(size) && (best < 0 || int64(b.used)*int64(b.size) < int64(s.all[best].used)*int64(s.all[best].size)) {
			best = i
		}
	}
	return best, best >= 0
}

func (s *slabs) list(c *class, i int32) {
	s.all[i].listed = int32(len(c.room))
	c.room = append(c.room, i)
}

func (s *slabs) unlist(c *class, i int32) {
	end := len(c.room) - 1
	at, moved := s.all[i].listed, c.room[end]
	c.room[at], s.all[moved].listed = moved, at
	c.room = c.room[:end]
	s.all[i].listed = -1
}

func (b *slab) begin(size, places int32) {
	b.size, b.places, b.used = size, places, 0
	clear(b.free)
	for w := range b.free {
		if left := int(places) - w*64; left >= 64 {
			b.free[w] = ^uint64(0)
		} else if left > 0 {
			b.free[w] = 1<<left - 1
		}
	}
}
