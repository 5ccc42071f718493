package latency

import (
	"math"
	"slices"
)

const (
	windowSize = 256 // observations that a distribution is made of
	pseudo     = 16  // of the prior, that the first observations replace
	// pseudoSpread is the standard deviation of the log ratio that is assumed of what has not been observed.
	pseudoSpread = .6
)

// window is the last log ratios of observed to predicted times, in the order of their coming and in that of their size.
type window struct {
	ring   []float64
	next   int // place of the oldest, once the ring is full
	sorted []float64
	seen   int // observations, those that were forgotten too
}

func newWindow() *window {
	w := &window{ring: make([]float64, 0, windowSize), sorted: make([]float64, 0, windowSize)}
	for i := range pseudo {
		v := pseudoSpread * math.Sqrt2 * math.Erfinv(2*(float64(i)+.5)/pseudo-1)
		w.ring, w.sorted = append(w.ring, v), append(w.sorted, v)
	}
	return w
}

// restoredWindow has the values, oldest first.
func restoredWindow(values []float64, seen int) *window {
	w := &window{ring: make([]float64, 0, windowSize), sorted: make([]float64, 0, windowSize), seen: seen}
	w.ring = append(w.ring, values...)
	w.sorted = append(w.sorted, values...)
	slices.Sort(w.sorted)
	return w
}

// add takes in a ratio in place of the oldest: of a pseudo-observation first.
func (w *window) add(v float64) {
	switch {
	case w.seen < pseudo:
		w.swap(w.seen, v)
	case len(w.ring) < windowSize:
		w.ring = append(w.ring, v)
		at, _ := slices.BinarySearch(w.sorted, v)
		w.sorted = slices.Insert(w.sorted, at, v)
	default:
		w.swap(w.next, v)
		w.next = (w.next + 1) % windowSize
	}
	w.seen++
}

// swap replaces what is at a place of the ring.
func (w *window) swap(at int, v float64) {
	old := w.ring[at]
	w.ring[at] = v
	from, _ := slices.BinarySearch(w.sorted, old)
	to, _ := slices.BinarySearch(w.sorted, v)
	if to > from { // the old one leaves a gap below
		to--
		copy(w.sorted[from:to], w.sorted[from+1:to+1])
	} else {
		copy(w.sorted[to+1:from+1], w.sorted[to:from])
	}
	w.sorted[to] = v
}

// quantile returns the least value that a share of at least level of the distribution does not exceed, corrected for its size
// as in conformal prediction, (n+1)·level of n, and interpolated.
func (w *window) quantile(level float64) float64 {
	n := len(w.sorted)
	at := float64(n+1)*level - 1
	switch {
	case at <= 0:
		return w.sorted[0]
	case at >= float64(n-1):
		return w.sorted[n-1]
	}
	i := int(at)
	return w.sorted[i] + (at-float64(i))*(w.sorted[i+1]-w.sorted[i])
}

// levels are where a published distribution is known; between them it is interpolated.
var levels = [...]float64{.02, .05, .1, .2, .3, .4, .5, .6, .7, .8, .85, .9, .95, .98}

// distribution is that of the ratio of observed to predicted time.
type distribution struct {
	ratios [len(levels)]float64 // at levels, ascending
	slopes [len(levels)]float64 // of the level from the ratio before
	target float64              // at the quantile of predictions, calibrated
}

func (w *window) distribution(level float64) (d distribution) {
	for i, l := range levels {
		d.ratios[i] = math.Exp(w.quantile(l))
		if i > 0 && d.ratios[i] > d.ratios[i-1] {
			d.slopes[i] = (l - levels[i-1]) / (d.ratios[i] - d.ratios[i-1])
		}
	}
	d.target = math.Exp(w.quantile(level))
	return d
}

// below returns the probability that a time whose ratio is to seconds is at most bound; inverse is 1/bound. It increases
// strictly with the bound as long as floating point can tell: the tails are powers.
func (d *distribution) below(bound, seconds, inverse float64) float64 {
	const last = len(levels) - 1
	if top := d.ratios[last] * seconds; bound >= top {
		x := top * inverse
		return 1 - (1-levels[last])*(x*x)*(x*x)
	}
	r := bound / seconds
	if r < d.ratios[0] {
		x := r / d.ratios[0]
		return levels[0] * (x * x) * (x * x)
	}
	i := 1
	for r >= d.ratios[i] {
		i++
	}
	return levels[i-1] + (r-d.ratios[i-1])*d.slopes[i]
}
