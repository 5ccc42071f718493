package stats

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// A Statistic is a figure about a series, of which the i-th element counts weights[i] times. A resample is its weights, so
// that a quantile of one takes no sorting.
type Statistic func(weights []int32) float64

// QuantileOf is a quantile of the values that are not NaN.
func QuantileOf(values []float64, q float64) Statistic {
	order := make([]int32, 0, len(values))
	for i, v := range values {
		if !math.IsNaN(v) {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(values[a], values[b]) })
	return func(weights []int32) float64 {
		total := 0
		for _, i := range order {
			total += int(weights[i])
		}
		if total == 0 {
			return math.NaN()
		}
		left := rank(total, q)
		for _, i := range order {
			if left -= int(weights[i]); left < 0 {
				return values[i]
			}
		}
		return math.NaN() // not reached: the rank is below the total
	}
}

// MeanOf is the mean of the values that are not NaN.
func MeanOf(values []float64) Statistic {
	return func(weights []int32) float64 {
		sum, total := 0.0, 0.0
		for i, v := range values {
			if w := float64(weights[i]); w > 0 && !math.IsNaN(v) {
				sum += w * v
				total += w
			}
		}
		return sum / total
	}
}

// RatioOf is the sum of the numerators over the sum of the denominators.
func RatioOf(numerators, denominators []float64) Statistic {
	return func(weights []int32) float64 {
		n, d := 0.0, 0.0
		for i, w := range weights {
			n += float64(w) * numerators[i]
			d += float64(w) * denominators[i]
		}
		return n / d
	}
}

// Series is a statistic of the requests of one run, in order of arrival.
type Series struct {
	// Length is how many elements there are, and Block how many consecutive ones are drawn together.
	Length, Block int
	Statistic     Statistic
}

// Bootstrap is how resampling is done. The zero value of a field means its default.
type Bootstrap struct {
	// Rounds is how many resamples are drawn. Default 1,000; a round takes about 4 ns for each element of both series.
	Rounds int
	Seed   uint64
}

// Difference estimates the statistic of other less that of base, two independent runs, by the percentiles of a circular
// block bootstrap (Politis and Romano, 1992). Rounds without a value, such as a quantile of nothing, are passed over; if
// that is more than one in twenty, the range is not known.
func (b Bootstrap) Difference(base, other Series) Interval {
	return b.compare(base, other, func(x, y float64) float64 { return y - x })
}

// Ratio estimates the statistic of other over that of base, like Difference.
func (b Bootstrap) Ratio(base, other Series) Interval {
	return b.compare(base, other, func(x, y float64) float64 { return y / x })
}

func (b Bootstrap) compare(base, other Series, f func(x, y float64) float64) Interval {
	b.Rounds = cmp.Or(b.Rounds, 1000)
	r := rand.New(rand.NewPCG(b.Seed, 0x626f6f74))
	x, y := newResampler(base), newResampler(other)
	at := Interval{f(x.whole(), y.whole()), math.NaN(), math.NaN()}
	values := make([]float64, 0, b.Rounds)
	for range b.Rounds {
		if v := f(x.draw(r), y.draw(r)); !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	if len(values) >= b.Rounds-b.Rounds/20 && len(values) > 0 {
		slices.Sort(values)
		at.Low, at.High = Quantile(values, (1-Level)/2), Quantile(values, 1-(1-Level)/2)
	}
	return at
}

type resampler struct {
	Series
	weights []int32
}

func newResampler(s Series) *resampler { return &resampler{s, make([]int32, s.Length)} }

// whole is the statistic of the series itself.
func (s *resampler) whole() float64 {
	for i := range s.weights {
		s.weights[i] = 1
	}
	return s.Statistic(s.weights)
}

// draw is the statistic of a resample: as many elements as there are, in blocks that begin anywhere and go on from the end at
// the start.
func (s *resampler) draw(r *rand.Rand) float64 {
	if s.Length == 0 {
		return math.NaN()
	}
	clear(s.weights)
	for left := s.Length; left > 0; {
		n := min(left, max(s.Block, 1))
		left -= n
		from := r.IntN(s.Length)
		for i := from; i < from+n; i++ {
			s.weights[i%s.Length]++
		}
	}
	return s.Statistic(s.weights)
}

// BlockLength is how many consecutive values of a series a block should have, for the circular bootstrap of the mean to err
// least: 1 where the values do not depend on each other. NaNs are passed over. From Politis and White, "Automatic Block-Length
// Selection for the Dependent Bootstrap" (2004), with the correction of 2009; it works on the ranks of the values, for
// latencies have long tails.
func BlockLength(values []float64) int {
	ranks := ranksOf(values)
	n := len(ranks)
	if n < 10 {
		return 1
	}
	const inARow = 5
	longest := min(n-1, int(math.Ceil(math.Sqrt(float64(n))))+inARow)
	covariance := make([]float64, longest+1)
	m := mean(ranks)
	for k := range covariance {
		for i := k; i < n; i++ {
			covariance[k] += (ranks[i] - m) * (ranks[i-k] - m) / float64(n)
		}
	}
	if covariance[0] == 0 {
		return 1
	}
	// The series forgets after the lag behind which so many correlations in a row are no more than noise.
	noise := 2 * math.Sqrt(math.Log10(float64(n))/float64(n)) * covariance[0]
	lag, quiet := 0, 0
	for k := 1; k <= longest && quiet < inARow; k++ {
		if quiet++; math.Abs(covariance[k]) >= noise {
			lag, quiet = k, 0
		}
	}
	if lag == 0 {
		return 1
	}
	window := min(2*lag, longest)
	g, spectrum := 0.0, covariance[0]
	for k := 1; k <= window; k++ {
		taper := min(1, 2*(1-float64(k)/float64(window)))
		g += 2 * taper * float64(k) * covariance[k]
		spectrum += 2 * taper * covariance[k]
	}
	block := math.Cbrt(2 * g * g / (4.0 / 3 * spectrum * spectrum) * float64(n))
	most := math.Ceil(min(3*math.Sqrt(float64(n)), float64(n)/3))
	return int(math.Round(min(max(block, 1), most)))
}

// ranksOf returns the place of each value that is not NaN among the sorted ones; equal values have the mean of their places.
func ranksOf(values []float64) []float64 {
	var kept []float64
	for _, v := range values {
		if !math.IsNaN(v) {
			kept = append(kept, v)
		}
	}
	sorted := slices.Clone(kept)
	slices.Sort(sorted)
	for i, v := range kept {
		low, _ := slices.BinarySearch(sorted, v)
		high, _ := slices.BinarySearch(sorted, math.Nextafter(v, math.Inf(1)))
		kept[i] = float64(low+high-1) / 2
	}
	return kept
}
