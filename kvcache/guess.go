package kvcache

import "time"

// lease is a guess that a pod holds a stretch of a run. The leases of a pod are a list from the least to the most recently
// used. As a prompt's later blocks are put into it before its earlier ones, the oldest never has one behind it in its chain.
//
// Leases are numbered: those below len(Index.runs) belong to the runs with these numbers, which saves most runs an entry in a
// table. Several leases of a pod on a run are linked, the first of them being the run's own or in the table.
type lease struct {
	run, pod     uint32 // run is none if nobody has the lease
	from, to     uint16
	older, newer uint32
	next         uint32 // of the same pod on the same run
	used         uint32 // when, in ticks since the index was made
}

const (
	leaseBytes = 28
	tick       = 16 * time.Millisecond
)

type leases struct {
	own, more []lease
	free      free
	byHolder  table // run and pod to the first lease, of those in more
}

func (l *leases) init(runs, more int) {
	l.own, l.more = slab[lease](runs), slab[lease](more)
	l.free.max = uint32(more)
	l.byHolder.init(func(id uint32) uint64 { return leaseKey(l.at(id).run, l.at(id).pod) })
}

func leaseKey(run, pod uint32) uint64 { return (uint64(run)+1)<<32 | uint64(pod) }

func (l *leases) at(id uint32) *lease {
	if int(id) < len(l.own) {
		return &l.own[id]
	}
	return &l.more[int(id)-len(l.own)]
}

// first returns the first lease of a pod on a run.
func (l *leases) first(run, pod uint32) (uint32, bool) {
	if own := &l.own[run]; own.to > 0 && own.pod == pod {
		return run, true
	}
	return l.byHolder.get(leaseKey(run, pod))
}

// Speculate records that a pod was sent a prompt, whose blocks it will have unless an event tells otherwise. No more blocks are
// believed than the pod has capacity for: the least recently used go first, the end of a prompt before its beginning.
func (x *Index) Speculate(p Pod, chain []uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.pod(p)
	if s == nil {
		x.stats.Late++
		return
	}
	x.expire()
	chain = chain[:min(len(chain), s.options.Capacity, x.longest())]
	if len(chain) == 0 {
		return
	}
	x.reserve(len(chain))
	path, at := x.path[:0], place{run: none}
	for done := 0; done < len(chain); {
		n := x.reach(hold{pod: s}, &at, chain, nil, done)
		if n == 0 {
			break
		}
		path = append(path, stretch{at.run, at.pos, at.pos + n})
		at.pos += n
		done += n
	}
	x.path = path
	for i := len(path) - 1; i >= 0; i-- {
		x.believe(s, path[i])
	}
	x.fit(s)
}

// stretch is some blocks of a run.
type stretch struct {
	run      uint32
	from, to int
}

// believe gives a pod a lease on those blocks of a stretch that it does not hold already, or makes the lease the newest.
func (x *Index) believe(s *pod, at stretch) {
	r := &x.runs[at.run]
	if s.blocks > 0 { // those before the first that it does not hold are no guess
		start := 0
		var list spanList
		x.load(r, &list)
		for _, sp := range list.s[:list.n] {
			if sp.end() > at.from && start < at.to {
				if x.sets.planesOf(sp.set(), s.ID)&exactPlanes&(1<<Tiers-1) == 0 {
					break
				}
				at.from = min(sp.end(), at.to)
			}
			start = sp.end()
		}
		if at.from == at.to {
			return
		}
	}
	id, has := x.leases.first(at.run, s.ID)
	if has {
		l := x.leases.at(id)
		if l.next == none && int(l.from) == at.from && int(l.to) <= at.to {
			x.renew(s, id)
			if int(l.to) == at.to {
				return
			}
			at.from, l.to = int(l.to), uint16(at.to)
			x.paintGuess(s, at)
			return
		}
		x.settle(s, at.run, at.from, at.to)
	}
	if !x.grant(s, at) {
		x.trim(at.run)
		return
	}
	x.paintGuess(s, at)
}

// paintGuess marks blocks as guessed. The run may be divided, with its leases.
func (x *Index) paintGuess(s *pod, at stretch) {
	x.paint(at.run, at.from, at.to, stroke{pod: s.ID, set: guessPlane})
}

// grant gives a pod a lease, as its newest.
func (x *Index) grant(s *pod, at stretch) bool {
	l := lease{run: at.run, pod: s.ID, from: uint16(at.from), to: uint16(at.to), next: none, used: x.ticks()}
	first, has := x.leases.first(at.run, s.ID)
	id := at.run
	if x.leases.own[id].to > 0 {
		if x.leases.free.left() == 0 {
			return false
		}
		id = uint32(len(x.leases.own)) + x.leases.free.take()
		if !has {
			*x.leases.at(id) = l // its key is read when it is found
			x.leases.byHolder.add(leaseKey(at.run, s.ID), id)
		}
	} else if has { // the run's own lease comes first
		l.next = first
		x.leases.byHolder.remove(leaseKey(at.run, s.ID), first)
		has = false
	}
	if has {
		f := x.leases.at(first)
		l.next, f.next = f.next, id
	}
	*x.leases.at(id) = l
	x.link(s, id, s.newest)
	return true
}

// renew makes a lease the newest.
func (x *Index) renew(s *pod, id uint32) {
	x.leases.at(id).used = x.ticks()
	if s.newest != id {
		x.unlink(s, id)
		x.link(s, id, s.newest)
	}
}

// endLease ends a lease and what was believed because of it.
func (x *Index) endLease(s *pod, id uint32) {
	l := *x.leases.at(id)
	x.discardLease(s, id)
	x.paint(l.run, int(l.from), int(l.to), stroke{pod: s.ID, clear: guessPlane})
}

// discardLease ends a lease alone.
func (x *Index) discardLease(s *pod, id uint32) {
	l := x.leases.at(id)
	x.unlink(s, id)
	first, _ := x.leases.first(l.run, l.pod)
	if first != id {
		f := x.leases.at(first)
		for f.next != id {
			f = x.leases.at(f.next)
		}
		f.next = l.next
	} else if int(id) >= len(x.leases.own) {
		x.leases.byHolder.remove(leaseKey(l.run, l.pod), id)
		if l.next != none {
			x.leases.byHolder.add(leaseKey(l.run, l.pod), l.next)
		}
	} else if l.next != none {
		x.leases.byHolder.add(leaseKey(l.run, l.pod), l.next)
	}
	l.run, l.to = none, 0
	if int(id) >= len(x.leases.own) {
		x.leases.free.give(id - uint32(len(x.leases.own)))
	}
}

// settle ends the leases of a pod on some blocks of a run. What is believed of them stays, for the caller to change.
func (x *Index) settle(s *pod, run uint32, from, to int) {
	id, ok := x.leases.first(run, s.ID)
	for ok {
		l := x.leases.at(id)
		next := l.next
		switch low, high := int(l.from), int(l.to); {
		case high <= from || low >= to:
		case low >= from && high <= to:
			x.discardLease(s, id)
		case low >= from:
			l.from = uint16(to)
		default:
			if high <= to || x.grantBeside(s, id, stretch{run, to, high}) {
				l.to = uint16(from)
			} // else it covers what is no guess any more, which does no harm
		}
		id, ok = next, next != none
	}
}

// grantBeside gives a pod a lease just older than another, and as old.
func (x *Index) grantBeside(s *pod, beside uint32, at stretch) bool {
	older, used := x.leases.at(beside).older, x.leases.at(beside).used
	if !x.grant(s, at) {
		return false
	}
	id := s.newest
	x.leases.at(id).used = used
	x.unlink(s, id)
	x.link(s, id, older)
	return true
}

// fit ends guesses about the least recently used blocks of a pod that is believed to hold more than its capacity.
func (x *Index) fit(s *pod) {
	for s.guesses > max(s.options.Capacity, 0) && s.oldest != none {
		l := x.leases.at(s.oldest)
		over := s.guesses - max(s.options.Capacity, 0)
		if keep := int(l.to) - over; keep > int(l.from) {
			to := int(l.to)
			l.to = uint16(keep)
			x.paint(l.run, keep, to, stroke{pod: s.ID, clear: guessPlane})
		} else {
			x.endLease(s, s.oldest)
		}
	}
}

// Expire ends guesses that are too old. Updates do so too; call it where there may be none for long.
func (x *Index) Expire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.expire()
}

func (x *Index) expire() {
	if x.guessFor == 0 {
		return
	}
	now := x.ticks()
	if now == x.expired {
		return
	}
	x.expired = now
	for i := range x.pods {
		s := &x.pods[i]
		for s.open && s.oldest != none && now-x.leases.at(s.oldest).used > x.guessFor {
			x.endLease(s, s.oldest)
		}
	}
}

func (x *Index) ticks() uint32 {
	if x.guessFor == 0 {
		return 0
	}
	return uint32(x.now().Sub(x.began) / tick)
}

// link puts a lease into its pod's list, just newer than another; none means at the old end.
func (x *Index) link(s *pod, id, behind uint32) {
	this := x.leases.at(id)
	ahead := s.oldest
	if behind == none {
		s.oldest = id
	} else {
		ahead = x.leases.at(behind).newer
		x.leases.at(behind).newer = id
	}
	if ahead == none {
		s.newest = id
	} else {
		x.leases.at(ahead).older = id
	}
	this.older, this.newer = behind, ahead
}

func (x *Index) unlink(s *pod, id uint32) {
	this := x.leases.at(id)
	if this.older == none {
		s.oldest = this.newer
	} else {
		x.leases.at(this.older).newer = this.newer
	}
	if this.newer == none {
		s.newest = this.older
	} else {
		x.leases.at(this.newer).older = this.older
	}
}

// divideLeases moves the part of a pod's leases that is beyond a border to the run behind.
func (x *Index) divideLeases(s *pod, front, back uint32, border int) {
	id, ok := x.leases.first(front, s.ID)
	for ok {
		l := x.leases.at(id)
		next := l.next
		if int(l.to) > border {
			x.grantBeside(s, id, stretch{back, max(int(l.from), border) - border, int(l.to) - border})
			if int(l.from) >= border {
				x.discardLease(s, id)
			} else {
				l.to = uint16(border)
			}
		}
		id, ok = next, next != none
	}
}
