package evict

import (
	"math"
	"math/bits"
)

// lifetimes learns, for each kind of page, after how long a page is used again: a life table, as actuaries and engineers of
// reliability make. The time runs in uses of pages, so it needs no clock. A page is at risk from its last use on; its time
// ends with the next use, or is cut off when the page is forgotten; pages that still live count for as long as they have lived.
type lifetimes struct {
	reused, cut, alive [kindCount][ages]float64
	rates              [kindCount][ages]float64
}

// A page's kind is how often it was used again and how deep it is: a block that was used again belongs to a conversation that
// goes on, or to a prompt that many share, and deep blocks to long conversations. Ages are in half octaves.
const (
	depths    = 8
	kindCount = 8 * depths
	ages      = 64
)

func kindOf(uses uint8, depth int32) int {
	return int(min(uses, kindCount/depths-1))*depths + min(bits.Len32(uint32(depth)), depths-1)
}

func ageOf(uses uint64) int {
	if uses < 2 {
		return int(uses)
	}
	octave := bits.Len64(uses) - 1
	return min(2*octave+int(uses>>(octave-1)&1), ages-1)
}

// from is the first number of uses of an age.
func from(age int) float64 {
	if age < 2 {
		return float64(age)
	}
	return math.Ldexp(float64(2+age%2), age/2-1)
}

func (l *lifetimes) used(kind int, after uint64) { l.reused[kind][ageOf(after)]++ }

func (l *lifetimes) ended(kind int, after uint64) { l.cut[kind][ageOf(after)]++ }

func (l *lifetimes) living(kind int, since uint64, pages float64) {
	l.alive[kind][ageOf(since)] += pages
}

// rate is the value of a page that was last used so long ago: reuses a use of any page.
func (l *lifetimes) rate(kind int, since uint64) float64 { return l.rates[kind][ageOf(since)] }

// fade is what is kept of old observations each time, and trust the number of reuses that a kind must have seen for its own rate
// to weigh as much as that of all kinds.
const (
	fade  = 0.98
	trust = 2
)

// learn turns observations into rates.
//
// The rate at an age is not the chance of a reuse in the next moment but the best bargain that the page's future holds: the
// maximum over all times to come of the chance to be reused until then, divided by the time that the page is expected to be kept for
// it (the index of Gittins, 1979). It sees that a conversation's pages, worthless while its user reads the answer, are not
// after that.
func (l *lifetimes) learn() {
	var risk [kindCount][ages]float64
	var reused, risks [ages]float64
	allReused, allRisk := 0.0, 0.0
	for k := range kindCount {
		older := 0.0
		for a := ages - 1; a >= 0; a-- {
			here := l.reused[k][a] + l.cut[k][a] + l.alive[k][a]
			risk[k][a] = (older + here/2) * width(a)
			older += here
			reused[a] += l.reused[k][a]
			risks[a] += risk[k][a]
			allReused += l.reused[k][a]
			allRisk += risk[k][a]
		}
	}
	mean := (allReused + 1) / (allRisk + 1e6)
	var general, hazard [ages]float64
	for a := range ages {
		if general[a] = (reused[a] + mean) / (risks[a] + 1); risks[a] == 0 {
			general[a] = mean / 10
		}
	}
	unseen := bargains(&general)
	for k := range kindCount {
		if risk[k][0] == 0 {
			l.rates[k] = unseen
			continue
		}
		for a := range ages {
			hazard[a] = (l.reused[k][a] + trust) / (risk[k][a] + trust/general[a])
			l.reused[k][a] *= fade
			l.cut[k][a] *= fade
			l.alive[k][a] = 0
		}
		l.rates[k] = bargains(&hazard)
	}
}

// bargains finds the best rate from each age on, given the rate at which pages that reach an age are reused there.
func bargains(hazard *[ages]float64) (best [ages]float64) {
	var chance [ages]float64 // to be reused at an age that was reached
	for a := range ages {
		chance[a] = -math.Expm1(-hazard[a] * width(a))
	}
	for a := range ages {
		alive, gain, time := 1.0, 0.0, 0.0
		for b := a; b < ages-1 && alive > 1e-6; b++ {
			gain += alive * chance[b]
			time += alive * width(b) * (1 - chance[b]/2)
			alive *= 1 - chance[b]
			best[a] = max(best[a], gain/time)
		}
	}
	return best
}

func width(age int) float64 { return from(age+1) - from(age) }
