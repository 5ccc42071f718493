package engine

import (
	"math"
	"slices"
)

// nonNegativeLeastSquares tries all sets of coefficients that are above zero; there are few.
func nonNegativeLeastSquares(x [][]float64, y []float64) []float64 {
	k := len(x[0])
	best, least := make([]float64, k), math.Inf(1)
	for set := range 1 << k {
		c, ok := leastSquares(x, y, set)
		if !ok || slices.Min(c) < 0 {
			continue
		}
		sum := 0.0
		for i := range x {
			e := -y[i]
			for j := range c {
				e += c[j] * x[i][j]
			}
			sum += e * e
		}
		if sum < least*(1-1e-9) {
			best, least = c, sum
		}
	}
	return best
}

// leastSquares solves the normal equations for the coefficients in the set, the others zero.
func leastSquares(x [][]float64, y []float64, set int) (c []float64, ok bool) {
	k := len(x[0])
	var in []int
	for j := range k {
		if set&(1<<j) != 0 {
			in = append(in, j)
		}
	}
	scale := make([]float64, k)
	for j := range k {
		for i := range x {
			scale[j] = max(scale[j], math.Abs(x[i][j]))
		}
	}
	a := make([][]float64, len(in))
	for r, j := range in {
		if scale[j] == 0 {
			return nil, false
		}
		a[r] = make([]float64, len(in)+1)
		for i := range x {
			for s, l := range in {
				a[r][s] += x[i][j] / scale[j] * x[i][l] / scale[l]
			}
			a[r][len(in)] += x[i][j] / scale[j] * y[i]
		}
	}
	for p := range a {
		pivot := p
		for r := p + 1; r < len(a); r++ {
			if math.Abs(a[r][p]) > math.Abs(a[pivot][p]) {
				pivot = r
			}
		}
		a[p], a[pivot] = a[pivot], a[p]
		if math.Abs(a[p][p]) < 1e-12 {
			return nil, false
		}
		for r := range a {
			if r != p {
				f := a[r][p] / a[p][p]
				for s := p; s < len(a[p]); s++ {
					a[r][s] -= f * a[p][s]
				}
			}
		}
	}
	c = make([]float64, k)
	for r, j := range in {
		c[j] = a[r][len(in)] / a[r][r] / scale[j]
	}
	return c, true
}

// quantile is the value at rank q of the sorted values.
func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v)%2 == 0 && q == 0.5 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[int(q*float64(len(v)-1)+0.5)]
}
