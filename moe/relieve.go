package moe

import "math/bits"

// relief improves a layout whose tokens will be split over replicas as Splitter does, within a budget of copies. After an
// exact split the heaviest GPUs form a part that is level and cannot pass tokens on. A move takes tokens out of it: a swap
// with a GPU outside costs two copies, a new replica outside in the slot of one that can be spared costs one. It makes the
// move that promises most a copy, splits again, and goes on.
type relief struct {
	splitter Splitter
	first    []int32
	slots    []int32
	droppers []int32
	before   []int32

	top    float64 // of the search for the best move
	copies int
	move   move

	chance       shaker
	noise        float64
	origin, plan []int32
}

// split computes loads of y by an exact split.
func (r *relief) split(y *layout) {
	s := &r.splitter
	r.first, r.slots = resize(r.first, y.experts+1), resize(r.slots, len(y.at))
	index(y.at, y.experts, r.first, r.slots)
	s.at, s.first, s.slots, s.weight, s.per = y.at, r.first, r.slots, y.weight, y.cluster.SlotsPerGPU
	s.part = resize(s.part, y.cluster.GPUs)
	for g, closed := range y.closed {
		s.part[g] = 0
		if closed {
			s.part[g] = -1
		}
	}
	s.solve()
	copy(y.load, s.load)
}

// search descends, then so many times again from the start with chance among the moves that promise most (a greedy randomised
// search, Feo and Resende 1995), and keeps the best.
func (r *relief) search(y *layout, goal float64, rounds, copies int, seed uint64) {
	r.chance.state = seed
	r.origin = append(r.origin[:0], y.at...)
	first := y.copies
	r.noise = 0
	r.descend(y, goal, copies)
	top, made := y.top(), y.copies
	r.plan = append(r.plan[:0], y.at...)
	for range rounds {
		if top <= goal {
			break
		}
		y.rebuild(r.origin, first)
		r.noise = .5
		r.descend(y, goal, copies)
		if now := y.top(); now < top {
			top, made = now, y.copies
			r.plan = append(r.plan[:0], y.at...)
		}
	}
	y.rebuild(r.plan, made)
	r.split(y)
}

// descend moves until the goal is met or the budget is spent.
func (r *relief) descend(y *layout, goal float64, copies int) {
	r.split(y)
	for range 8*len(y.at) + 64 {
		if y.top() <= goal {
			return
		}
		m := r.best(y, copies-y.copies)
		if m.top <= 0 {
			return
		}
		before, made := y.top(), y.copies
		r.before = append(r.before[:0], y.at...)
		y.apply(m)
		r.split(y)
		if y.top() > before*(1+1e-9) {
			y.rebuild(r.before, made)
			r.split(y)
			return
		}
	}
}

// best is the move with the greatest relief a copy, which is its top.
func (r *relief) best(y *layout, copies int) move {
	top, per := y.top(), y.cluster.SlotsPerGPU
	r.top, r.copies, r.move = top, copies, move{}
	tokens := r.splitter.tokens
	r.droppers = r.droppers[:0]
	for s, a := range y.at {
		if a == Empty && !y.closed[s/per] || a != Empty && y.canDrop(a, s/per) {
			r.droppers = append(r.droppers, int32(s))
		}
	}
	for h, heavy := range y.load {
		if heavy < top*(1-1e-9) {
			continue
		}
		level := 0.0 // GPUs that share what h is relieved of
		for _, part := range r.splitter.part {
			if part == r.splitter.part[h] {
				level++
			}
		}
		for i := h * per; i < (h+1)*per; i++ {
			if y.at[i] == Empty {
				continue
			}
			for g, light := range y.load {
				if y.closed[g] || light >= heavy*(1-1e-9) {
					continue
				}
				for j := g * per; j < (g+1)*per; j++ {
					if d := tokens[i] - tokens[j]; light+d < top && d > 0 {
						r.trySwap(y, i, j, max(heavy-d/level, light+d))
					}
				}
			}
			for _, s := range r.droppers {
				r.tryReplica(y, h, i, int(s), level)
			}
		}
	}
	return r.move
}

// consider keeps a move that leaves its GPUs with so much if it relieves more a copy than those before.
func (r *relief) consider(after float64, copies int, m move) {
	gain := (r.top - after) / float64(max(copies, 1))
	if r.noise > 0 {
		gain *= 1 + r.noise*float64(r.chance.next(1<<20))/(1<<20)
	}
	if copies <= r.copies && gain > r.move.top*(1+1e-9) && gain > r.top*1e-9 {
		m.top, m.copies = gain, copies
		r.move = m
	}
}

func (r *relief) trySwap(y *layout, i, j int, after float64) {
	if (r.top-after)*(1+r.noise) <= r.move.top {
		return
	}
	a, b := y.at[i], y.at[j]
	h, g := i/y.cluster.SlotsPerGPU, j/y.cluster.SlotsPerGPU
	if !y.canShift(a, h, g) || b != Empty && !y.canShift(b, g, h) {
		return
	}
	n := y.extra(a, h, g)
	if b != Empty {
		n += y.extra(b, g, h)
	}
	r.consider(after, n, move{slot: i, with: j})
}

// tryReplica considers a new replica of the expert in slot i of h, in slot s.
func (r *relief) tryReplica(y *layout, h, i, s int, level float64) {
	b, a, g := y.at[i], y.at[s], s/y.cluster.SlotsPerGPU
	if a == b || g == h || !y.canPut(b, g) {
		return
	}
	tokens, heavy := r.splitter.tokens, y.load[h]
	light := y.load[g]
	n := y.extra(b, -1, g)
	after := 0.0
	if a != Empty {
		light -= tokens[s]
		n += y.extra(a, g, -1)
		// What a loses here goes to its other replicas; evenly is a guess, the exact split does better.
		more := tokens[s] / float64(y.count[a]-1)
		for w, set := range y.gpus(a) {
			for ; set != 0; set &= set - 1 {
				if q := w*64 + bits.TrailingZeros64(set); q == h {
					heavy += more
				} else if q != g {
					after = max(after, y.load[q]+more)
				}
			}
		}
	}
	if light >= heavy {
		return
	}
	z := min(tokens[i], (heavy-light)*level/(level+1))
	r.consider(max(after, heavy-z/level, light+z), n, move{slot: s, with: alone, expert: b})
}
