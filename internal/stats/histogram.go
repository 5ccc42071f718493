package stats

import (
	"math"
	"math/bits"
	"time"
)

// A Histogram counts durations in buckets that are at most 1/128 wide relative to their values, from a nanosecond up, so a
// quantile is off by less than 0.8 %. The zero value is empty and ready to use; it costs up to 60 KB. It is not safe for
// concurrent use.
type Histogram struct {
	counts []uint64
	n      uint64
	sum    float64
	sumSq  float64
	max    time.Duration
}

const subBits = 7 // 128 buckets for each power of two

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	exp := max(0, bits.Len64(v)-subBits-1)
	return exp<<subBits + int(v>>exp)
}

// bucketRange returns the least value of a bucket and the least of the next.
func bucketRange(i int) (low, high float64) {
	exp := max(0, i>>subBits-1)
	v := float64(i - exp<<subBits)
	return math.Ldexp(v, exp), math.Ldexp(v+1, exp)
}

// Add counts a duration n times; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration, n int) {
	i := bucketOf(d)
	if i >= len(h.counts) {
		h.counts = append(h.counts, make([]uint64, i+1-len(h.counts))...)
	}
	h.counts[i] += uint64(n)
	h.n += uint64(n)
	h.sum += float64(d) * float64(n)
	h.sumSq += float64(d) * float64(d) * float64(n)
	h.max = max(h.max, d)
}

// Count is how many durations were added.
func (h *Histogram) Count() int { return int(h.n) }

// Mean is exact; 0 if empty.
func (h *Histogram) Mean() time.Duration { return time.Duration(h.mean()) }

// StdDev is the standard deviation; 0 if empty.
func (h *Histogram) StdDev() time.Duration {
	mean := h.mean()
	return time.Duration(math.Sqrt(max(0, h.sumSq/max(1, float64(h.n))-mean*mean)))
}

func (h *Histogram) mean() float64 { return h.sum / max(1, float64(h.n)) }

// Max is the longest; 0 if empty.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q of all is at most; 0 if empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(max(q, 0), 1) * float64(h.n)
	below := 0.0
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		if below+float64(c) >= rank {
			low, high := bucketRange(i)
			return min(time.Duration(low+(high-low)*max(0, rank-below)/float64(c)), h.max)
		}
		below += float64(c)
	}
	return h.max
}

// Bins yields the buckets that are not empty: their upper end and the share of all durations up to there. It is the
// empirical distribution function.
func (h *Histogram) Bins(yield func(upTo time.Duration, share float64) bool) {
	below := uint64(0)
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		below += c
		_, high := bucketRange(i)
		if !yield(min(time.Duration(high), h.max), float64(below)/float64(h.n)) {
			return
		}
	}
}

// Merge adds all that another histogram counts.
func (h *Histogram) Merge(o *Histogram) {
	if len(o.counts) > len(h.counts) {
		h.counts = append(h.counts, make([]uint64, len(o.counts)-len(h.counts))...)
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.sumSq += o.sumSq
	h.max = max(h.max, o.max)
}
