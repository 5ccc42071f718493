package stats

import (
	"fmt"
	"math"
)

// Level is the share of intervals that contain what they estimate, in all of this package.
const Level = 0.95

// Interval is an estimate and the range in which the truth is at Level. Where the range is not known, its ends are NaN.
type Interval struct{ Estimate, Low, High float64 }

// Known reports whether the range is known.
func (i Interval) Known() bool { return !math.IsNaN(i.Low) && !math.IsNaN(i.High) }

// Excludes reports whether the range is known and v is outside of it.
func (i Interval) Excludes(v float64) bool { return i.Known() && (v < i.Low || v > i.High) }

// Mean estimates the mean behind the figures of independent runs. It takes two for a range.
func Mean(runs []float64) Interval {
	m := mean(runs)
	if len(runs) < 2 {
		return Interval{m, math.NaN(), math.NaN()}
	}
	n := float64(len(runs))
	half := studentQuantile(1-(1-Level)/2, n-1) * deviation(runs) / math.Sqrt(n)
	return Interval{m, m - half, m + half}
}

// PairedDifference estimates the mean of other[i]-base[i], where both met the same conditions in run i.
func PairedDifference(base, other []float64) (Interval, error) {
	if err := paired(base, other); err != nil {
		return Interval{}, err
	}
	d := make([]float64, len(base))
	for i := range d {
		d[i] = other[i] - base[i]
	}
	return Mean(d), nil
}

// PairedRatio estimates other[i]/base[i], as the geometric mean over the runs, where both met the same conditions in run i.
// Ratios are compared in logarithms: twice as much and half as much are equally far from 1. A figure that is not above 0
// has no logarithm; the estimate is then NaN.
func PairedRatio(base, other []float64) (Interval, error) {
	if err := paired(base, other); err != nil {
		return Interval{}, err
	}
	d := make([]float64, len(base))
	for i := range d {
		if !(base[i] > 0) || !(other[i] > 0) {
			return Interval{math.NaN(), math.NaN(), math.NaN()}, nil
		}
		d[i] = math.Log(other[i] / base[i])
	}
	i := Mean(d)
	return Interval{math.Exp(i.Estimate), math.Exp(i.Low), math.Exp(i.High)}, nil
}

func paired(base, other []float64) error {
	if len(base) != len(other) {
		return fmt.Errorf("%d runs against %d: want pairs", len(base), len(other))
	}
	return nil
}
