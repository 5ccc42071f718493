package dashboard

import (
	"math"
	"time"
)

// A histogram has bins that grow by a tenth, from 0.1 ms to 1000 s; what is outside counts in the first or the last. A
// quantile is given as its bin's geometric middle, which is within sqrt(1.1)-1 = 4.9% of any value in the bin.
const (
	histogramMin    = 100 * time.Microsecond
	histogramGrowth = 1.1
	histogramBins   = 170 // ceil(log(1e7) / log(1.1))
)

// histogram counts durations. It takes 680 bytes.
type histogram [histogramBins]uint32

func (h *histogram) record(d time.Duration) { h[bin(d)]++ }

func bin(d time.Duration) int {
	if d <= histogramMin {
		return 0
	}
	i := int(math.Log(float64(d)/float64(histogramMin)) / math.Log(histogramGrowth))
	return min(i, histogramBins-1)
}

func (h *histogram) add(o *histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// quantile estimates the smallest recorded value that a part q of all values do not exceed; ok is false if there is none.
func (h *histogram) quantile(q float64) (v time.Duration, ok bool) {
	var total uint64
	for _, n := range h {
		total += uint64(n)
	}
	if total == 0 {
		return 0, false
	}
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	var seen uint64
	for i, n := range h {
		if seen += uint64(n); seen >= rank {
			return time.Duration(float64(histogramMin) * math.Pow(histogramGrowth, float64(i)+0.5)), true
		}
	}
	return 0, false // not reached: rank is at most total
}
