package evict

// s3fifo is S3-FIFO (Yang et al., SOSP 2023): new pages pass through a small queue, a tenth of the whole. Those that were used
// meanwhile, and those that come back soon after they were dropped from it, go on to the main queue, which is a FIFO that gives
// used pages another round, at most three.
type s3fifo struct {
	table
	small, main, ghost list
}

const (
	inSmall = iota
	inMain
	inGhost
)

// smallShare is the part of what is resident that the small queue may take: 1/10.
const smallShare = 10

func newS3FIFO() *s3fifo { return &s3fifo{newTable(), newList(), newList(), newList()} }

func (p *s3fifo) Add(id ID, m Meta) {
	n, ok := p.index[id]
	switch {
	case !ok:
		p.pushFront(&p.small, inSmall, p.add(id, m.Bytes))
	case p.nodes[n].list == inGhost:
		p.unlink(&p.ghost, n)
		p.nodes[n].bytes, p.nodes[n].mark = m.Bytes, 0
		p.pushFront(&p.main, inMain, n)
	default:
		p.Hit(id)
	}
}

func (p *s3fifo) Hit(id ID) {
	if n, ok := p.index[id]; ok && p.nodes[n].list != inGhost {
		p.nodes[n].mark = min(p.nodes[n].mark+1, 3)
	}
}

func (p *s3fifo) Remove(id ID) {
	if n, ok := p.index[id]; ok {
		p.unlink([]*list{&p.small, &p.main, &p.ghost}[p.nodes[n].list], n)
		p.drop(n)
	}
}

func (p *s3fifo) Evict(skip func(ID) bool) (ID, bool) {
	if p.small.bytes*smallShare > p.small.bytes+p.main.bytes || p.main.len == 0 {
		if id, ok := p.evictSmall(skip); ok {
			return id, true
		}
	}
	if id, ok := p.evictMain(skip); ok {
		return id, true
	}
	return p.evictSmall(skip)
}

func (p *s3fifo) evictSmall(skip func(ID) bool) (ID, bool) {
	for range p.small.len {
		n := p.small.tail
		x := &p.nodes[n]
		p.unlink(&p.small, n)
		switch {
		case x.mark > 1:
			x.mark = 0
			p.pushFront(&p.main, inMain, n)
		case skip != nil && skip(x.id):
			p.pushFront(&p.small, inSmall, n)
		default:
			x.mark = 0
			p.pushFront(&p.ghost, inGhost, n)
			p.forget()
			return x.id, true
		}
	}
	return 0, false
}

func (p *s3fifo) evictMain(skip func(ID) bool) (ID, bool) {
	for range 4*p.main.len + 1 {
		n := p.main.tail
		if n == nobody {
			break
		}
		x := &p.nodes[n]
		p.unlink(&p.main, n)
		if x.mark == 0 && (skip == nil || !skip(x.id)) {
			id := x.id
			p.drop(n)
			return id, true
		}
		x.mark -= min(x.mark, 1)
		p.pushFront(&p.main, inMain, n)
	}
	return 0, false
}

// forget bounds the history to as many pages as the main queue holds.
func (p *s3fifo) forget() {
	for p.ghost.len > max(p.main.len, p.small.len) {
		n := p.ghost.tail
		p.unlink(&p.ghost, n)
		p.drop(n)
	}
}

func (p *s3fifo) Len() int { return p.small.len + p.main.len }
