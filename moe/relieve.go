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

// descend moves until the goal is met or the budget is spent.
func (r *relief) descend(y *layout, goal float64, copies int) {
	r.split(y)
	for y.top() > goal {
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
	var m move
	tokens := r.splitter.tokens
	r.droppers = r.droppers[:0]
	for s, a := range y.at {
		if a == Empty && !y.closed[s/per] || a != Empty && y.canDrop(a, s/per) {
			r.droppers = append(r.droppers, int32(s))
		}
	}
	consider := func(after float64, n int, with func() move) {
		if gain := (top - after) / float64(max(n, 1)); n <= copies && gain > m.top*(1+1e-9) && gain > top*1e-9 {
			m = with()
			m.top, m.copies = gain, n
		}
	}
	for h, heavy := range y.load {
		if heavy < top*(1-1e-9) {
			continue
		}
		k := 0.0
		for _, part := range r.splitter.part {
			if part == r.splitter.part[h] {
				k++
			}
		}
		for i := h * per; i < (h+1)*per; i++ {
			a := y.at[i]
			if a == Empty {
				continue
			}
			for j, b := range y.at {
				g := j / per
				light := y.load[g]
				if y.closed[g] || light >= heavy*(1-1e-9) {
					continue
				}
				d := tokens[i] - tokens[j]
				after := max(heavy-d/k, light+d)
				if after >= top || (top-after)/2 <= m.top && y.was != nil && b != Empty && y.held(a, h) && y.held(b, g) {
					continue
				}
				if !y.canShift(a, h, g) || b != Empty && !y.canShift(b, g, h) {
					continue
				}
				n := y.extra(a, h, g)
				if b != Empty {
					n += y.extra(b, g, h)
				}
				consider(after, n, func() move { return move{slot: i, with: j} })
			}
			for _, s := range r.droppers {
				r.tryReplica(y, h, i, int(s), k, consider)
			}
		}
	}
	return m
}

// tryReplica considers a new replica of the expert in slot i of h, in slot s.
func (r *relief) tryReplica(y *layout, h, i, s int, k float64, consider func(float64, int, func() move)) {
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
		// What a loses here goes to its other replicas; evenly is the worst that an exact split does.
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
	z := min(tokens[i], (heavy-light)*k/(k+1))
	after = max(after, heavy-z/k, light+z)
	consider(after, n, func() move { return move{slot: s, with: alone, expert: b} })
}
