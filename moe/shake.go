package moe

import "math"

// shaker is iterated local search: it keeps the best layout found and shakes it to leave local minima. Its chance is a fixed
// sequence for each layer.
type shaker struct {
	state  uint64
	at     []int32
	copies int
	filled int
}

// search improves y to the goal, with at most so many shakes and copies. Of layouts that are as good, it takes one that fills
// as many slots.
func (k *shaker) search(y *layout, goal float64, shakes, copies int, seed uint64) {
	k.state = seed*0x9e3779b97f4a7c15 + 1
	y.descend(goal, copies)
	y.weigh()
	top := y.top()
	k.save(y)
	patience := shakes / 3
	for vain := 0; shakes > 0 && top > goal && vain <= patience; shakes-- {
		vain++
		k.shake(y, copies)
		y.descend(goal, copies)
		y.weigh()
		now := y.top()
		if now < top*(1-1e-9) {
			vain = 0
		}
		if y.copies <= copies && (now < top*(1-1e-9) || now <= top && y.filled() >= k.filled) {
			top = now
			k.save(y)
		} else {
			k.restore(y)
		}
	}
}

func (y *layout) filled() int {
	n := 0
	for _, e := range y.at {
		if e != Empty {
			n++
		}
	}
	return n
}

// next is splitmix64.
func (k *shaker) next(n int) int {
	k.state += 0x9e3779b97f4a7c15
	z := k.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) >> 33 % uint64(n))
}

// shake makes a few moves at random: swaps of which one is often with the heaviest GPU, and changes of replica counts.
func (k *shaker) shake(y *layout, copies int) {
	per := y.cluster.SlotsPerGPU
	for n := 1 + k.next(3); n > 0; {
		for try := 0; ; try++ {
			if try == 50 {
				return
			}
			s, q := k.next(len(y.at)), k.next(len(y.at))
			if k.next(2) == 0 {
				s = y.heaviest()*per + k.next(per)
			}
			a, b := y.at[s], y.at[q]
			if y.closed[q/per] || s/per == q/per || a == b {
				continue
			}
			if k.next(3) == 0 {
				x := int32(k.next(y.experts))
				if y.sparse && b != Empty && k.next(4) == 0 {
					x = Empty
				}
				if !k.mayReplace(y, q, x, copies) {
					continue
				}
				y.apply(move{slot: q, with: alone, expert: x})
			} else {
				if a == Empty || b == Empty {
					continue
				}
				if !y.canShift(a, s/per, q/per) || !y.canShift(b, q/per, s/per) ||
					y.copies+y.extra(a, s/per, q/per)+y.extra(b, q/per, s/per) > copies {
					continue
				}
				y.apply(move{slot: s, with: q})
			}
			break
		}
		n--
	}
}

func (k *shaker) save(y *layout) {
	k.at = append(k.at[:0], y.at...)
	k.copies, k.filled = y.copies, y.filled()
}

func (k *shaker) restore(y *layout) { y.rebuild(k.at, k.copies) }

// rebuild goes back to slots as they were, with the copies counted then.
func (y *layout) rebuild(at []int32, copies int) {
	y.empty()
	was := y.was
	y.was = nil
	for s, e := range at {
		if e != Empty {
			y.put(e, s)
		}
	}
	y.was, y.copies = was, copies
	y.weigh()
}

func (k *shaker) mayReplace(y *layout, slot int, x int32, copies int) bool {
	b, g := y.at[slot], slot/y.cluster.SlotsPerGPU
	n := y.copies
	if b != Empty {
		if x == b || !y.canDrop(b, g) {
			return false
		}
		n += y.extra(b, g, -1)
	}
	if x != Empty {
		if !y.canPut(x, g) {
			return false
		}
		n += y.extra(x, -1, g)
	}
	return n <= copies
}

// refill fills empty slots as far as no GPU gets more than the greatest load.
func (y *layout) refill() {
	top := y.top()
	for s, e := range y.at {
		if e != Empty || y.closed[s/y.cluster.SlotsPerGPU] {
			continue
		}
		m := move{top: math.Nextafter(top, math.Inf(1))}
		none := m.top
		for x := range int32(y.experts) {
			y.tryReplace(s, x, math.MaxInt, &m)
		}
		if m.top < none {
			y.apply(m)
		}
	}
	y.weigh()
}
