package memory

import (
	"sync/atomic"

	"github.com/inferloom/inferloom/kvcache/store/evict"
)

// index finds slots by ID. Writers hold the store's lock; readers hold none: they take a reference to what they find and look
// at the ID again.
type index struct {
	heads  []atomic.Uint32
	mask   uint64
	chunks [maxSlots / chunkSlots]atomic.Pointer[[chunkSlots]slot]
	next   uint32 // slots in use were all below it; slot 0 is nobody
	free   uint32 // a chain of free slots, by link
	// recycled counts slots whose links no longer lead along their chain. A reader that finds nothing while it changes may have
	// been led astray.
	recycled atomic.Uint64
}

const (
	chunkSlots = 4096
	maxSlots   = 1 << 24
)

// slot is a page's entry. Its fields but state, id and link are written before it is published and read under a reference.
type slot struct {
	state  atomic.Uint64 // generation<<32 | references, of which being resident is one
	id     atomic.Uint64
	lease  atomic.Int64 // Unix nanoseconds
	link   atomic.Uint32
	part   uint32
	bytes  uint32
	header uint32 // length of the record behind the page
	offset int
}

func newIndex(pages int) *index {
	n := 1024
	for n < pages {
		n *= 2
	}
	return &index{heads: make([]atomic.Uint32, n), mask: uint64(n - 1), next: 1}
}

func (x *index) slot(n uint32) *slot { return &x.chunks[n/chunkSlots].Load()[n%chunkSlots] }

// make takes a free slot, with the one reference of its maker. It returns 0 if there is none.
func (x *index) make() uint32 {
	if n := x.free; n != 0 {
		s := x.slot(n)
		x.free = s.link.Load()
		s.state.Store((s.state.Load()>>32+1)<<32 | 1)
		return n
	}
	if x.next == maxSlots {
		return 0
	}
	n := x.next
	x.next++
	if c := &x.chunks[n/chunkSlots]; c.Load() == nil {
		c.Store(new([chunkSlots]slot))
	}
	x.slot(n).state.Store(1)
	return n
}

// recycle frees a slot without references.
func (x *index) recycle(n uint32) {
	x.recycled.Add(1)
	s := x.slot(n)
	s.id.Store(0)
	s.lease.Store(0)
	s.link.Store(x.free)
	x.free = n
}

func (x *index) insert(n uint32, id evict.ID) {
	s := x.slot(n)
	head := &x.heads[uint64(id)&x.mask]
	s.id.Store(uint64(id))
	s.link.Store(head.Load())
	head.Store(n)
}

func (x *index) remove(n uint32) {
	s := x.slot(n)
	at := &x.heads[s.id.Load()&x.mask]
	for at.Load() != n {
		at = &x.slot(at.Load()).link
	}
	at.Store(s.link.Load())
}

// find is for writers.
func (x *index) find(id evict.ID) uint32 {
	n := x.heads[uint64(id)&x.mask].Load()
	for n != 0 && x.slot(n).id.Load() != uint64(id) {
		n = x.slot(n).link.Load()
	}
	return n
}

// steps bounds a reader's walk, which slots that are reused under it might prolong.
const steps = 4096

// acquire finds a slot and takes a reference. It is for readers. sure is false if another look, under the lock, may find more.
func (x *index) acquire(id evict.ID) (n uint32, sure bool) {
	before := x.recycled.Load()
	n = x.heads[uint64(id)&x.mask].Load()
	for i := 0; n != 0 && i < steps; i++ {
		s := x.slot(n)
		if s.id.Load() == uint64(id) {
			if !s.ref() {
				return 0, false
			}
			if s.id.Load() == uint64(id) {
				return n, true
			}
			// The slot was reused between the two looks. The reference has to be given back under the lock.
			return n, false
		}
		n = s.link.Load()
	}
	return 0, n == 0 && x.recycled.Load() == before
}

// ref takes a reference, unless there is none left.
func (s *slot) ref() bool {
	for {
		v := s.state.Load()
		if uint32(v) == 0 {
			return false
		}
		if s.state.CompareAndSwap(v, v+1) {
			return true
		}
	}
}

// unref gives a reference back and reports whether it was the last.
func (s *slot) unref() bool { return uint32(s.state.Add(^uint64(0))) == 0 }
