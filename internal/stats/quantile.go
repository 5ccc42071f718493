package stats

import (
	"math"
	"slices"
)

// Quantile returns the smallest of the values, which must be sorted, that at least a share q of them is not above; NaN if
// there is none.
func Quantile[T ~int64 | ~float32 | ~float64](sorted []T, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return float64(sorted[rank(len(sorted), q)])
}

// rank is the index of a quantile among n sorted values.
func rank(n int, q float64) int {
	// 0.07*100 is 7.000000000000001: without the tolerance its rank would be one too high.
	at := int(math.Ceil(q*float64(n) - 1e-9))
	return min(max(at, 1), n) - 1
}

// Summary describes a set of values.
type Summary struct {
	Count                              int
	Mean, Min, P50, P90, P95, P99, Max float64
}

// Summarise sorts values in place and describes them. NaNs must not be among them.
func Summarise(values []float64) Summary {
	slices.Sort(values)
	return Summary{
		Count: len(values), Mean: mean(values), Min: Quantile(values, 0), P50: Quantile(values, 0.5), P90: Quantile(values, 0.9),
		P95: Quantile(values, 0.95), P99: Quantile(values, 0.99), Max: Quantile(values, 1),
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values)) // NaN for none
}

// deviation is the standard deviation of a sample: of n values, over n-1.
func deviation(values []float64) float64 {
	m, sum := mean(values), 0.0
	for _, v := range values {
		sum += (v - m) * (v - m)
	}
	return math.Sqrt(sum / float64(len(values)-1))
}
