package evict

// lru evicts the page that was not used for the longest time.
type lru struct {
	table
	pages list
}

func newLRU() *lru { return &lru{newTable(), newList()} }

func (p *lru) Add(id ID, m Meta) {
	if _, ok := p.index[id]; ok {
		p.Hit(id)
		return
	}
	p.pushFront(&p.pages, 0, p.add(id, m.Bytes))
}

func (p *lru) Hit(id ID) {
	if n, ok := p.index[id]; ok {
		p.unlink(&p.pages, n)
		p.pushFront(&p.pages, 0, n)
	}
}

func (p *lru) Remove(id ID) {
	if n, ok := p.index[id]; ok {
		p.unlink(&p.pages, n)
		p.drop(n)
	}
}

func (p *lru) Evict(skip func(ID) bool) (ID, bool) {
	n := p.last(&p.pages, skip)
	if n == nobody {
		return 0, false
	}
	id := p.nodes[n].id
	p.Remove(id)
	return id, true
}

func (p *lru) Len() int { return p.pages.len }
