package evict

import "math/bits"

// tinyLFU is W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017): a window of 1 % takes new pages; a page that leaves it must
// have been used more often, by a sketch of recent frequencies, than the page that it would displace in the main part, which
// is a segmented LRU with four fifths protected.
type tinyLFU struct {
	table
	window, probation, protected list
	sketch                       sketch
	capacity                     int64
}

const (
	inWindow = iota
	inProbation
	inProtected
)

func newTinyLFU(capacity int64) *tinyLFU {
	return &tinyLFU{table: newTable(), window: newList(), probation: newList(), protected: newList(), capacity: capacity}
}

func (p *tinyLFU) list(which uint8) *list {
	return []*list{&p.window, &p.probation, &p.protected}[which]
}

func (p *tinyLFU) Add(id ID, m Meta) {
	if _, ok := p.index[id]; ok {
		p.Hit(id)
		return
	}
	p.sketch.grow(p.Len() + 1)
	p.sketch.add(id)
	p.pushFront(&p.window, inWindow, p.add(id, m.Bytes))
	// While there is room, pages enter the main part without a contest.
	if p.window.bytes+p.probation.bytes+p.protected.bytes <= p.capacity {
		for p.window.len > 1 && p.window.bytes > p.windowBytes() {
			n := p.window.tail
			p.unlink(&p.window, n)
			p.pushFront(&p.probation, inProbation, n)
		}
	}
}

func (p *tinyLFU) windowBytes() int64 { return p.capacity / 100 }

func (p *tinyLFU) Hit(id ID) {
	n, ok := p.index[id]
	if !ok {
		return
	}
	p.sketch.add(id)
	which := p.nodes[n].list
	p.unlink(p.list(which), n)
	if which == inWindow {
		p.pushFront(&p.window, inWindow, n)
		return
	}
	p.pushFront(&p.protected, inProtected, n)
	for p.protected.len > 1 && p.protected.bytes > p.capacity*99/100*4/5 {
		n := p.protected.tail
		p.unlink(&p.protected, n)
		p.pushFront(&p.probation, inProbation, n)
	}
}

func (p *tinyLFU) Remove(id ID) {
	if n, ok := p.index[id]; ok {
		p.unlink(p.list(p.nodes[n].list), n)
		p.drop(n)
	}
}

func (p *tinyLFU) Evict(skip func(ID) bool) (ID, bool) {
	// Candidates leave the window one by one; each either displaces the main part's victim or goes itself.
	if p.window.bytes > p.windowBytes() {
		if candidate := p.last(&p.window, skip); candidate != nobody {
			victim := p.last(&p.probation, skip)
			if victim == nobody {
				victim = p.last(&p.protected, skip)
			}
			if victim == nobody || p.sketch.estimate(p.nodes[candidate].id) <= p.sketch.estimate(p.nodes[victim].id) {
				return p.take(candidate), true
			}
			p.unlink(&p.window, candidate)
			p.pushFront(&p.probation, inProbation, candidate)
			return p.take(victim), true
		}
	}
	for _, l := range []*list{&p.probation, &p.protected, &p.window} {
		if n := p.last(l, skip); n != nobody {
			return p.take(n), true
		}
	}
	return 0, false
}

func (p *tinyLFU) take(n int32) ID {
	id := p.nodes[n].id
	p.Remove(id)
	return id
}

func (p *tinyLFU) Len() int { return p.window.len + p.probation.len + p.protected.len }

// sketch counts recent uses: a count-min sketch of 4 rows of 4-bit counters, halved after ten uses a counter of a row.
type sketch struct {
	words []uint64 // 16 counters each; row i of an ID is in word (hash i) and nibble group i
	mask  uint64
	added int
}

func (s *sketch) grow(pages int) {
	want := 1 << bits.Len(uint(max(pages-1, 63)))
	if len(s.words) >= want {
		return
	}
	// Counters of the smaller table are copied to each place that their IDs may now have.
	words := make([]uint64, want)
	for i := range words {
		if len(s.words) > 0 {
			words[i] = s.words[i%len(s.words)]
		}
	}
	s.words, s.mask = words, uint64(want-1)
}

// place returns word and shift of a counter. Row i uses nibbles 4i to 4i+3.
func (s *sketch) place(id ID, row int) (word uint64, shift uint) {
	h := (uint64(id) + uint64(row)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h ^= h >> 32
	return h & s.mask, uint(row)*16 + uint(h>>60&3)*4
}

func (s *sketch) add(id ID) {
	if len(s.words) == 0 {
		return
	}
	changed := false
	for row := range 4 {
		w, shift := s.place(id, row)
		if s.words[w]>>shift&15 < 15 {
			s.words[w] += 1 << shift
			changed = true
		}
	}
	if !changed {
		return
	}
	if s.added++; s.added >= 10*len(s.words) {
		for i := range s.words {
			s.words[i] = s.words[i] >> 1 & 0x7777777777777777
		}
		s.added /= 2
	}
}

func (s *sketch) estimate(id ID) uint64 {
	least := uint64(15)
	if len(s.words) == 0 {
		return 0
	}
	for row := range 4 {
		w, shift := s.place(id, row)
		least = min(least, s.words[w]>>shift&15)
	}
	return least
}
