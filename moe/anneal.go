package moe

import (
	"math"
	"math/bits"
)

// annealer improves a layout within a tight budget of copies by simulated annealing (Kirkpatrick et al. 1983). Where many GPUs
// are overloaded the heaviest says little about the rest, so its energy is how far all of them are above a goal, squared; a
// goal that is reached is followed by a lower one. A step is a swap or a replica in place of another; once the budget is
// spent it begins by taking back a copy that was made, so that the budget moves to where it does most.
type annealer struct {
	chance shaker
	origin []int32 // what slots held at first
	at     []int32 // the best so far
	goal   float64
	energy float64
	steps  []move // to be undone
}

const (
	annealSteps       = 1000 // for each unit of Effort
	annealGoal        = .985 // of the greatest load, is the next one's goal
	annealHot         = 1e-3 // temperatures, in squares of the mean load
	annealCold        = 1e-6
	annealTemperature = 64 // steps that share one
)

// search makes so many steps at most.
func (a *annealer) search(y *layout, bound float64, steps, budget int, seed uint64) {
	a.chance.state = seed*0x9e3779b97f4a7c15 + 2
	a.origin = append(a.origin[:0], y.at...)
	mean := sum(y.load) / float64(y.cluster.live())
	top, copies := y.top(), y.copies
	a.at = append(a.at[:0], y.at...)
	for steps > 0 && top > bound {
		goal := max(bound, top*annealGoal)
		steps -= a.cool(y, goal, mean, steps, budget)
		y.weigh()
		if now := y.top(); now < top*(1-1e-9) && y.copies <= budget {
			top, copies = now, y.copies
			a.at = append(a.at[:0], y.at...)
		}
		if top > goal*(1+1e-9) {
			break
		}
	}
	y.rebuild(a.at, copies)
}

// cool anneals until the goal is met or the steps are made, and returns how many were.
func (a *annealer) cool(y *layout, goal, mean float64, steps, budget int) int {
	a.goal = goal
	temperature := 0.0
	for i := range steps {
		if i%annealTemperature == 0 {
			temperature = mean * mean * annealHot * math.Pow(annealCold/annealHot, float64(i)/float64(steps))
			y.weigh() // without the errors of floats that have added up
			if a.energy = a.total(y); a.energy == 0 && y.copies <= budget {
				return i + 1
			}
		}
		before, copies := a.energy, y.copies
		a.steps = a.steps[:0]
		if copies >= budget-1 {
			a.revert(y)
		}
		a.propose(y, budget)
		if rise := a.energy - before; y.copies > budget || rise > 0 && rise > temperature*a.exponential() {
			for k := len(a.steps) - 1; k >= 0; k-- {
				y.apply(a.steps[k])
			}
			y.copies, a.energy = copies, before
		}
	}
	return steps
}

// exponential is a number with that distribution and mean 1.
func (a *annealer) exponential() float64 {
	return -math.Log(float64(a.chance.next(1<<30)+1) / (1 << 30))
}

// excess is the energy of a GPU with so much load.
func (a *annealer) excess(load float64) float64 {
	over := max(0, load-a.goal)
	return over * over
}

func (a *annealer) total(y *layout) float64 {
	e := 0.0
	for _, l := range y.load {
		e += a.excess(l)
	}
	return e
}

// propose makes a step at random, which relieves an overloaded GPU more often than not.
func (a *annealer) propose(y *layout, budget int) {
	per := y.cluster.SlotsPerGPU
	for range 6 {
		s := a.chance.next(len(y.at))
		for try := 0; try < 3 && y.load[s/per] <= a.goal; try++ {
			s = a.chance.next(len(y.at))
		}
		q := a.chance.next(len(y.at))
		x, z := y.at[s], y.at[q]
		g, h := s/per, q/per
		if g == h || x == z || x == Empty || z == Empty || y.closed[g] || y.closed[h] {
			continue
		}
		if y.count[z] > 1 && a.chance.mayReplace(y, q, x, budget) && a.chance.next(4) > 0 {
			a.replace(y, q, x)
			return
		}
		if y.count[z] == 1 && y.count[x] > 1 && a.chance.next(2) == 0 && a.chance.mayReplace(y, s, z, budget) {
			a.replace(y, s, z)
			return
		}
		if y.canShift(x, g, h) && y.canShift(z, h, g) && y.copies+y.extra(x, g, h)+y.extra(z, h, g) <= budget {
			a.swap(y, s, q)
			return
		}
	}
}

// revert gives a slot back what it held at first, if chance finds one.
func (a *annealer) revert(y *layout) {
	per := y.cluster.SlotsPerGPU
	for range 40 {
		s := a.chance.next(len(y.at))
		z, x, g := y.at[s], a.origin[s], s/per
		if z == x || x == Empty || z == Empty || y.holds(x, g) || y.held(z, g) {
			continue
		}
		if y.count[z] > 1 && y.canDrop(z, g) && y.canPut(x, g) {
			a.replace(y, s, x)
			return
		}
		for w, set := range y.gpus(x) {
			for ; set != 0; set &= set - 1 {
				h := w*64 + bits.TrailingZeros64(set)
				if !y.canShift(z, g, h) || !y.canShift(x, h, g) {
					continue
				}
				for q := h * per; q < (h+1)*per; q++ {
					if y.at[q] == x {
						a.swap(y, s, q)
						return
					}
				}
			}
		}
	}
}

func (a *annealer) swap(y *layout, s, q int) {
	g, h := s/y.cluster.SlotsPerGPU, q/y.cluster.SlotsPerGPU
	a.energy -= a.excess(y.load[g]) + a.excess(y.load[h])
	y.apply(move{slot: s, with: q})
	a.energy += a.excess(y.load[g]) + a.excess(y.load[h])
	a.steps = append(a.steps, move{slot: s, with: q})
}

func (a *annealer) replace(y *layout, slot int, x int32) {
	z := y.at[slot]
	a.energy -= a.around(y, x, z, slot)
	y.apply(move{slot: slot, with: alone, expert: x})
	a.energy += a.around(y, x, z, slot)
	a.steps = append(a.steps, move{slot: slot, with: alone, expert: z})
}

// around is the energy of the GPUs that hold one of two experts, and of a slot's.
func (a *annealer) around(y *layout, x, z int32, slot int) float64 {
	e, own := 0.0, slot/y.cluster.SlotsPerGPU
	ofX, ofZ := y.gpus(x), y.gpus(z)
	for w := range ofX {
		set := ofX[w] | ofZ[w]
		if own>>6 == w {
			set |= 1 << (own & 63)
		}
		for ; set != 0; set &= set - 1 {
			e += a.excess(y.load[w*64+bits.TrailingZeros64(set)])
		}
	}
	return e
}
