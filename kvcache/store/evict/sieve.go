package evict

// sieve is SIEVE (Zhang et al., NSDI 2024): pages stay in the order of their arrival; a hand moves from the oldest to the
// newest, forgives those that were used since it last passed, and takes the first that was not.
type sieve struct {
	table
	pages list
	hand  int32
}

func newSieve() *sieve { return &sieve{newTable(), newList(), nobody} }

func (p *sieve) Add(id ID, m Meta) {
	if _, ok := p.index[id]; ok {
		p.Hit(id)
		return
	}
	p.pushFront(&p.pages, 0, p.add(id, m.Bytes))
}

func (p *sieve) Hit(id ID) {
	if n, ok := p.index[id]; ok {
		p.nodes[n].mark = 1
	}
}

func (p *sieve) Remove(id ID) {
	n, ok := p.index[id]
	if !ok {
		return
	}
	if p.hand == n {
		p.hand = p.nodes[n].prev
	}
	p.unlink(&p.pages, n)
	p.drop(n)
}

func (p *sieve) Evict(skip func(ID) bool) (ID, bool) {
	// Two rounds: the first may do no more than forgive, and what the second does not take is skipped.
	for range 2*p.pages.len + 1 {
		if p.hand == nobody {
			p.hand = p.pages.tail
		}
		if p.hand == nobody {
			break
		}
		x := &p.nodes[p.hand]
		if x.mark == 0 && (skip == nil || !skip(x.id)) {
			id := x.id
			p.Remove(id)
			return id, true
		}
		x.mark = 0
		p.hand = x.prev
	}
	return 0, false
}

func (p *sieve) Len() int { return p.pages.len }
