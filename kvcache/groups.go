package kvcache

import (
	"math/bits"

	"github.com/inferloom/inferloom/kvcache/events"
)

// groupsOf is the pods that have several groups of layers with the same block size.
type groupsOf struct {
	mixed []uint64 // bits by Pod.ID
	of    map[uint32][]group
}

// publishGroups tells readers which pods have several groups.
func (x *Index) publishGroups() {
	next := &groupsOf{mixed: make([]uint64, (len(x.pods)+63)/64), of: map[uint32][]group{}}
	for i := range x.pods {
		s := &x.pods[i]
		if !s.open {
			continue
		}
		for _, g := range s.groups {
			if g.number > 0 {
				next.mixed[i/64] |= 1 << (i % 64)
				next.of[s.ID] = append([]group(nil), s.groups...)
			}
		}
	}
	if len(next.of) == 0 {
		next = nil
	}
	x.groups.Store(next)
}

// mixedPod is a pod with several groups, while a prompt is matched. A prefix is usable as far as all groups can go on from its
// end: full attention needs every block, a window the last ones that it covers, a state-space layer its state in the last.
type mixedPod struct {
	pod    uint32
	done   bool // a group of full attention has a gap
	gap    int
	usable int
	within uint32 // tiers that have held all blocks so far
	depths [Tiers]int
	tiers  [Tiers]int // of the blocks so far, and of the usable ones
	best   [Tiers]int

	groups [maxGroups]mixedGroup
	n      int
}

type mixedGroup struct {
	number int
	need   int // blocks at the end that it needs, 0 for all
	since  int // the first block from which on it has held all
}

// setApart takes the pods that have several groups out of the walk, to be looked at one by one.
func (w *walk) setApart(g *groupsOf, blockTokens int) {
	for i := range w.alive {
		for mixed := w.alive[i] & g.mixed[i]; mixed != 0; mixed &= mixed - 1 {
			pod := uint32(64*i + bits.TrailingZeros64(mixed))
			p := mixedPod{pod: pod, within: 1<<Tiers - 1}
			for _, g := range g.of[pod] {
				if g.BlockTokens == blockTokens || g.BlockTokens == 0 {
					p.groups[p.n] = mixedGroup{number: g.number, need: g.need(blockTokens)}
					p.n++
				}
			}
			w.mixed = append(w.mixed, p)
		}
		w.alive[i] &^= g.mixed[i]
		for t := range w.within {
			w.within[t][i] &^= g.mixed[i]
		}
	}
}

// need is how many blocks at the end of a prefix the group needs, 0 for all.
func (g *Group) need(blockTokens int) int {
	switch {
	case g.Attention == events.Mamba:
		return 1
	case full(g.Attention) || g.Window <= 0 || blockTokens <= 0:
		return 0
	}
	return (g.Window + blockTokens - 1) / blockTokens
}

// passMixed takes the pods with several groups over the blocks of a span.
func (w *walk) passMixed(s *seenSpan, from, to int) {
	for i := range w.mixed {
		p := &w.mixed[i]
		if p.done {
			continue
		}
		planes := w.planes(s, p.pod)
		tiers, usable, whole := uint32(1<<Tiers-1), true, false
		for k := range p.groups[:p.n] {
			g := &p.groups[k]
			held := planes & (1<<Tiers - 1)
			if g.number > 0 {
				held = planes >> plane(g.number, GPU) & (1<<Guessed - 1)
			}
			held |= planes & guessPlane
			switch {
			case g.need == 0:
				tiers, whole = tiers&held, true
			case held == 0:
				g.since, usable = to, false
			case g.since > 0 && to-g.since < g.need:
				usable = false
			}
		}
		if !whole {
			tiers = planes & guessPlane
		}
		for t := range Tiers {
			if p.within>>t&1 != 0 && tiers>>t&1 == 0 {
				p.within &^= 1 << t
				p.depths[t] = from
			}
		}
		if tiers == 0 {
			p.done, p.gap = true, from
			continue
		}
		p.tiers[bits.TrailingZeros32(tiers)] += to - from
		p.gap = to
		if usable {
			p.usable, p.best = to, p.tiers
		}
	}
}

// planes returns the planes in which a span has a pod.
func (w *walk) planes(s *seenSpan, pod uint32) (planes uint32) {
	i := int(pod/64) - s.shape.low()
	if i < 0 || i >= s.shape.words() {
		return 0
	}
	at := s.rows + i
	for left := s.shape.planes(); left != 0; left &= left - 1 {
		if w.rows[at]>>(pod%64)&1 != 0 {
			planes |= left & -left
		}
		at += s.shape.words()
	}
	return planes
}

func (p *mixedPod) finish(m *Matches) {
	for t := range Tiers {
		if p.within>>t&1 != 0 {
			p.depths[t] = p.gap
		}
		m.Depths[t][p.pod] = int32(p.depths[t])
		m.Tiers[t][p.pod] = int32(p.best[t])
	}
	m.Gap[p.pod], m.Blocks[p.pod] = int32(p.gap), int32(p.usable)
}
