package stats

import (
	"math"
	"time"
)

// A Histogram counts durations in bins that grow by 1 %, from 1 µs to 1,000 s; what is outside counts in the first or the last.
// It takes 17 KB however many it counts. A quantile is within half a per cent of a value that occurred. The zero value is
// empty. It is not safe for concurrent use.
type Histogram struct {
	bins  [histogramBins]uint64
	count uint64
	sum   time.Duration
	max   time.Duration
}

const (
	histogramMin    = time.Microsecond
	histogramGrowth = 1.01
	histogramBins   = 2084 // ceil(ln(1e9) / ln(1.01)) and the one below
)

var perBin = 1 / math.Log(histogramGrowth)

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	if d > histogramMin {
		i = min(1+int(math.Log(float64(d)/float64(histogramMin))*perBin), histogramBins-1)
	}
	h.bins[i]++
	h.count++
	h.sum += d
	h.max = max(h.max, d)
}

// Count is how many durations were counted.
func (h *Histogram) Count() uint64 { return h.count }

// Mean is the mean duration in seconds; NaN if there is none.
func (h *Histogram) Mean() float64 { return h.sum.Seconds() / float64(h.count) }

// Max is the longest duration in seconds; NaN if there is none.
func (h *Histogram) Max() float64 {
	if h.count == 0 {
		return math.NaN()
	}
	return h.max.Seconds()
}

// Quantile estimates a quantile in seconds; NaN if nothing was counted.
func (h *Histogram) Quantile(q float64) float64 {
	if h.count == 0 {
		return math.NaN()
	}
	left := uint64(rank(int(h.count), q))
	for i, n := range h.bins {
		if left < n {
			middle := histogramMin.Seconds() * math.Pow(histogramGrowth, float64(i)-0.5)
			return min(middle, h.max.Seconds())
		}
		left -= n
	}
	return h.Max() // not reached: the rank is below the count
}
