package moe

// Storage is the source of an expert that no live GPU holds.
const Storage = int32(-1)

// Copy puts an expert in a slot, from another slot or from Storage. Expert is Empty where the slot is only emptied.
type Copy struct {
	Layer int32
	// Step numbers steps from 0. Copies of one step take effect together, after all have been read: each of their GPUs needs
	// room for one expert more while they travel. Most steps are one copy.
	Step     int32
	Expert   int32
	From, To int32
}

// migrator orders copies so that every expert has a replica after each step and no slot holds two.
type migrator struct {
	now    []int32 // expert of a slot, as copies go on
	alive  []int32 // replicas of an expert
	wanted []int32 // scratch of align
	cycle  []int32
	on     []int32 // slots in the cycle, by slot: 1 + their place
}

// align permutes each GPU's slots of to so that experts that stay keep their slots.
func (m *migrator) align(from, to []int32, per int) {
	m.wanted = resize(m.wanted, per)
	for g := 0; g < len(to); g += per {
		mine := to[g : g+per]
		copy(m.wanted, mine)
		for i, e := range from[g : g+per] {
			mine[i] = Empty
			if e == Empty {
				continue
			}
			for j, w := range m.wanted {
				if w == e {
					mine[i], m.wanted[j] = e, Empty
					break
				}
			}
		}
		i := 0
		for _, w := range m.wanted {
			if w == Empty {
				continue
			}
			for mine[i] != Empty {
				i++
			}
			mine[i] = w
		}
	}
}

// order appends the copies that turn from into to. Every expert must be in to. Where a cycle of experts has no other replica,
// it moves in one step or, if single, by way of a slot whose expert has another replica; ok tells if there was one.
func (m *migrator) order(out []Copy, layer int, from, to []int32, experts int, c Cluster, single bool) (copies []Copy, ok bool) {
	m.now = append(m.now[:0], from...)
	m.alive, m.on = resize(m.alive, experts), resize(m.on, len(to))
	clear(m.alive)
	for _, e := range from {
		if e != Empty {
			m.alive[e]++
		}
	}
	step := int32(0)
	if len(out) > 0 {
		step = out[len(out)-1].Step + 1
	}
	ok = true
	one := func(e int32, slot int) {
		out = append(out, Copy{int32(layer), step, e, m.source(e, slot, c), int32(slot)})
		m.set(slot, e)
		step++
	}
	for {
		for moved := true; moved; {
			moved = false
			for s, e := range to {
				if was := m.now[s]; was != e && (was == Empty || m.alive[was] > 1) && (e != Empty || was != Empty) {
					one(e, s)
					moved = true
				}
			}
		}
		stuck := -1
		for s, e := range to {
			if m.now[s] != e {
				stuck = s
				break
			}
		}
		if stuck < 0 {
			return out, ok
		}
		if single {
			if z := m.spare(stuck, c); z >= 0 {
				one(m.now[stuck], z)
				one(to[stuck], stuck)
				continue
			}
			ok = false
		}
		for _, s := range m.find(stuck, to) {
			out = append(out, Copy{int32(layer), step, to[s], m.source(to[s], int(s), c), s})
		}
		for _, s := range m.cycle {
			m.set(int(s), to[s])
		}
		step++
	}
}

func (m *migrator) set(slot int, e int32) {
	if was := m.now[slot]; was != Empty {
		m.alive[was]--
	}
	if e != Empty {
		m.alive[e]++
	}
	m.now[slot] = e
}

// source prefers the slot's own GPU, then its node.
func (m *migrator) source(e int32, slot int, c Cluster) int32 {
	best, far := Storage, 3
	if e == Empty {
		return best
	}
	gpu := c.GPU(slot)
	for s, x := range m.now {
		if x != e {
			continue
		}
		d := 2
		if g := c.GPU(s); g == gpu {
			d = 0
		} else if c.Node(g) == c.Node(gpu) {
			d = 1
		}
		if d < far {
			best, far = int32(s), d
		}
	}
	return best
}

// spare is a slot that may be overwritten for a while, on stuck's own GPU if there is one, or -1.
func (m *migrator) spare(stuck int, c Cluster) int {
	best := -1
	for s, e := range m.now {
		if c.isDead(c.GPU(s)) || e != Empty && m.alive[e] < 2 {
			continue
		}
		if best < 0 || c.GPU(s) == c.GPU(stuck) {
			best = s
		}
	}
	return best
}

// find follows sole replicas to where they are wanted until it comes back, or to a slot that holds none.
func (m *migrator) find(s int, to []int32) []int32 {
	clear(m.on)
	m.cycle = m.cycle[:0]
	for m.on[s] == 0 {
		m.cycle = append(m.cycle, int32(s))
		m.on[s] = int32(len(m.cycle))
		for t, e := range to {
			if e == m.now[s] && m.now[t] != e {
				s = t
				break
			}
		}
	}
	m.cycle = m.cycle[m.on[s]-1:]
	return m.cycle
}
