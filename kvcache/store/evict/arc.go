package evict

// arc is ARC (Megiddo and Modha, FAST 2003) in bytes: a list of pages used once and one of pages used more often, each with a
// history of what it lost. A page that comes back from the history of one list enlarges that list's share.
type arc struct {
	table
	recent, frequent         list
	lostRecent, lostFrequent list
	target                   int64 // bytes of recent
}

const (
	inRecent = iota
	inFrequent
	inLostRecent
	inLostFrequent
)

func newARC() *arc { return &arc{newTable(), newList(), newList(), newList(), newList(), 0} }

func (p *arc) list(which uint8) *list {
	return []*list{&p.recent, &p.frequent, &p.lostRecent, &p.lostFrequent}[which]
}

func (p *arc) Add(id ID, m Meta) {
	n, ok := p.index[id]
	if !ok {
		p.pushFront(&p.recent, inRecent, p.add(id, m.Bytes))
		return
	}
	switch p.nodes[n].list {
	case inLostRecent:
		p.target = min(p.target+m.Bytes*max(1, ratio(p.lostFrequent.bytes, p.lostRecent.bytes)), p.resident()+m.Bytes)
	case inLostFrequent:
		p.target = max(p.target-m.Bytes*max(1, ratio(p.lostRecent.bytes, p.lostFrequent.bytes)), 0)
	default:
		p.Hit(id)
		return
	}
	p.unlink(p.list(p.nodes[n].list), n)
	p.nodes[n].bytes = m.Bytes
	p.pushFront(&p.frequent, inFrequent, n)
}

func ratio(a, b int64) int64 { return a / max(b, 1) }

func (p *arc) resident() int64 { return p.recent.bytes + p.frequent.bytes }

func (p *arc) Hit(id ID) {
	n, ok := p.index[id]
	if !ok || p.nodes[n].list > inFrequent {
		return
	}
	p.unlink(p.list(p.nodes[n].list), n)
	p.pushFront(&p.frequent, inFrequent, n)
}

func (p *arc) Remove(id ID) {
	if n, ok := p.index[id]; ok {
		p.unlink(p.list(p.nodes[n].list), n)
		p.drop(n)
	}
}

func (p *arc) Evict(skip func(ID) bool) (ID, bool) {
	first, second := uint8(inRecent), uint8(inFrequent)
	if p.recent.bytes <= p.target && p.frequent.len > 0 {
		first, second = second, first
	}
	for _, which := range []uint8{first, second} {
		n := p.last(p.list(which), skip)
		if n == nobody {
			continue
		}
		resident := p.resident()
		p.unlink(p.list(which), n)
		p.pushFront(p.list(which+inLostRecent), which+inLostRecent, n)
		// Recent and its history are bounded by the capacity, all four lists by twice that.
		for p.lostRecent.len > 0 && p.recent.bytes+p.lostRecent.bytes > resident {
			p.forget(&p.lostRecent)
		}
		for p.lostFrequent.len > 0 && p.lostRecent.bytes+p.lostFrequent.bytes > resident {
			p.forget(&p.lostFrequent)
		}
		return p.nodes[n].id, true
	}
	return 0, false
}

func (p *arc) forget(l *list) {
	n := l.tail
	p.unlink(l, n)
	p.drop(n)
}

func (p *arc) Len() int { return p.recent.len + p.frequent.len }
