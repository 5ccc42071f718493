package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestQuantileIsWhatItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-10, 10), 1, 60).Draw(t, "values")
		// Hundredths: of most others, floating point cannot say whether a share is reached exactly.
		percent := rapid.IntRange(0, 100).Draw(t, "percent")
		slices.Sort(values)
		got := Quantile(values, float64(percent)/100)
		share := func(below func(v float64) bool) int {
			n := 0
			for _, v := range values {
				if below(v) {
					n += 100
				}
			}
			return n
		}
		require.Contains(t, values, got)
		require.GreaterOrEqual(t, share(func(v float64) bool { return v <= got }), percent*len(values), "at least the share is not above")
		if got > values[0] {
			require.Less(t, share(func(v float64) bool { return v < got }), percent*len(values), "and no smaller value will do")
		}
	})
}

func TestQuantileOfKnownValues(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for percent := 1; percent <= 100; percent++ {
		assert.Equal(t, float64(percent), Quantile(hundred, float64(percent)/100), "of the numbers 1 to 100")
	}
	assert.True(t, math.IsNaN(Quantile([]float64{}, 0.5)))
	assert.Equal(t, Summary{Count: 4, Mean: 2.5, Min: 1, P50: 2, P90: 4, P95: 4, P99: 4, Max: 4}, Summarise([]float64{4, 1, 3, 2}))
}

func TestWeightedQuantileIsThatOfTheResample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 5), 1, 30).Draw(t, "values")
		weights := rapid.SliceOfN(rapid.Int32Range(0, 3), len(values), len(values)).Draw(t, "weights")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		var resample []float64
		for i, w := range weights {
			for range w {
				resample = append(resample, values[i])
			}
		}
		slices.Sort(resample)
		want, got := Quantile(resample, q), QuantileOf(values, q)(weights)
		require.True(t, want == got || math.IsNaN(want) && math.IsNaN(got), "%v, want %v", got, want)
	})
}

func TestStudentQuantiles(t *testing.T) {
	// From a printed table; two-sided 95 % and, last, 99 %.
	for _, tt := range []struct{ p, freedom, want float64 }{
		{0.975, 1, 12.706}, {0.975, 2, 4.303}, {0.975, 4, 2.776}, {0.975, 9, 2.262}, {0.975, 29, 2.045}, {0.975, 1000, 1.962}, {0.995, 9, 3.250},
	} {
		assert.InDelta(t, tt.want, studentQuantile(tt.p, tt.freedom), 0.0006, "p %v, %v degrees", tt.p, tt.freedom)
	}
	// With two degrees of freedom there is a closed form.
	for _, v := range []float64{0, 0.1, 1, 3, 20} {
		assert.InDelta(t, 0.5+v/(2*math.Sqrt(2+v*v)), studentShare(v, 2), 1e-12)
	}
}

func TestIntervalsOfFewRuns(t *testing.T) {
	one := Mean([]float64{3})
	assert.Equal(t, 3.0, one.Estimate)
	assert.False(t, one.Known())
	assert.False(t, one.Excludes(0), "nothing is excluded by what is not known")

	i := Mean([]float64{1, 2, 3, 4, 5})
	assert.InDelta(t, 3, i.Estimate, 1e-12)
	assert.InDelta(t, 3-2.776*math.Sqrt(2.5/5), i.Low, 1e-3)
	assert.InDelta(t, 3+2.776*math.Sqrt(2.5/5), i.High, 1e-3)

	_, err := PairedDifference([]float64{1}, []float64{1, 2})
	assert.EqualError(t, err, "1 runs against 2: want pairs")
	r, err := PairedRatio([]float64{1, 2}, []float64{0, 2})
	require.NoError(t, err)
	assert.True(t, math.IsNaN(r.Estimate), "0 has no logarithm")
	r, err = PairedRatio([]float64{1, 2, 4}, []float64{2, 4, 8})
	require.NoError(t, err)
	assert.InDelta(t, 2, r.Estimate, 1e-12)
	assert.True(t, r.Excludes(1))
}

// coverage is how often the interval of an experiment contains the truth.
func coverage(trials int, truth float64, experiment func(r *rand.Rand) Interval) (share, width float64) {
	r := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range trials {
		i := experiment(r)
		if !i.Excludes(truth) {
			hits++
		}
		width += (i.High - i.Low) / float64(trials)
	}
	return float64(hits) / float64(trials), width
}

func TestIntervalsOverSeedsCover(t *testing.T) {
	if raceEnabled {
		t.Skip("there is no concurrency in it")
	}
	const seeds, trials = 10, 4000
	const margin = 0.014 // four standard errors of the measured coverage
	share, _ := coverage(trials, 5, func(r *rand.Rand) Interval {
		runs := make([]float64, seeds)
		for i := range runs {
			runs[i] = 5 + 2*r.NormFloat64()
		}
		return Mean(runs)
	})
	assert.InDelta(t, Level, share, margin, "normal figures")

	// A seed makes all figures larger or smaller by a factor; a policy takes a tenth off.
	runs := func(r *rand.Rand) (base, other []float64) {
		for range seeds {
			hard := math.Exp(0.5 * r.NormFloat64())
			base = append(base, 200*hard*math.Exp(0.05*r.NormFloat64()))
			other = append(other, 180*hard*math.Exp(0.05*r.NormFloat64()))
		}
		return base, other
	}
	share, paired := coverage(trials, 0.9, func(r *rand.Rand) Interval {
		i, err := PairedRatio(runs(r))
		require.NoError(t, err)
		return i
	})
	assert.InDelta(t, Level, share, margin, "ratios of lognormal figures")
	_, unpaired := coverage(trials, 0.9, func(r *rand.Rand) Interval {
		base, _ := runs(r)
		_, other := runs(r)
		i, err := PairedRatio(base, other)
		require.NoError(t, err)
		return i
	})
	assert.Less(t, paired, unpaired/5, "pairing takes out what the seeds share")
}

// queue is a series that remembers: each value is a part of the one before plus something new, from its stationary distribution.
func queue(r *rand.Rand, n int, memory, shift float64) []float64 {
	x := make([]float64, n)
	at := r.NormFloat64() / math.Sqrt(1-memory*memory)
	for i := range x {
		at = memory*at + r.NormFloat64()
		x[i] = at + shift
	}
	return x
}

func TestBootstrapCovers(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes seconds, and there is no concurrency in it")
	}
	const n, trials = 600, 250
	for _, tt := range []struct {
		name      string
		memory    float64
		block     func([]float64) int
		low, high float64
	}{
		{"independent", 0, BlockLength, 0.91, 0.98},
		{"remembering", 0.7, BlockLength, 0.86, 0.97},
		{"remembering, drawn one by one", 0.7, func([]float64) int { return 1 }, 0, 0.75},
	} {
		share, _ := coverage(trials, 0.5, func(r *rand.Rand) Interval {
			a, b := queue(r, n, tt.memory, 0), queue(r, n, tt.memory, 0.5)
			return Bootstrap{Rounds: 300, Seed: r.Uint64()}.Difference(
				Series{n, tt.block(a), QuantileOf(a, 0.5)}, Series{n, tt.block(b), QuantileOf(b, 0.5)})
		})
		t.Logf("%s: %.3f of the intervals contain the truth", tt.name, share)
		assert.GreaterOrEqual(t, share, tt.low, tt.name)
		assert.LessOrEqual(t, share, tt.high, tt.name)
	}
}

func TestBlockLengthGrowsWithMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	length := func(memory float64) int { return BlockLength(queue(r, 4000, memory, 0)) }
	assert.LessOrEqual(t, length(0), 6)
	assert.InDelta(t, 22, length(0.5), 14)
	assert.Greater(t, length(0.95), 2*length(0.5))
	assert.Equal(t, 1, BlockLength(make([]float64, 100)), "a constant remembers nothing")
	assert.Equal(t, 1, BlockLength([]float64{1, 2, 3}))
}

func TestBootstrapOfLittle(t *testing.T) {
	nothing := []float64{math.NaN(), math.NaN()}
	i := Bootstrap{}.Difference(Series{2, 1, QuantileOf(nothing, 0.5)}, Series{0, 1, QuantileOf(nil, 0.5)})
	assert.True(t, math.IsNaN(i.Estimate))
	assert.False(t, i.Known())
	same := []float64{4, 4, 4}
	i = Bootstrap{}.Ratio(Series{3, 1, MeanOf(same)}, Series{3, 2, RatioOf(same, []float64{2, 2, 2})})
	assert.Equal(t, Interval{0.5, 0.5, 0.5}, i)
}

func TestBootstrapDependsOnTheSeedOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	x, y := queue(r, 200, 0.5, 0), queue(r, 200, 0.5, 1)
	of := func(seed uint64) Interval {
		return Bootstrap{Rounds: 100, Seed: seed}.Difference(Series{200, 5, QuantileOf(x, 0.9)}, Series{200, 5, QuantileOf(y, 0.9)})
	}
	assert.Equal(t, of(1), of(1))
	assert.NotEqual(t, of(1), of(2))
}

func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, 1<<40), func(v int64) time.Duration { return time.Duration(v) }), 1, 200).Draw(t, "values")
		var h, half, other Histogram
		sum := 0.0
		for i, v := range values {
			h.Add(v, 1)
			sum += float64(v)
			if i%2 == 0 {
				half.Add(v, 1)
			} else {
				other.Add(v, 1)
			}
		}
		half.Merge(&other)
		require.InDelta(t, float64(h.Mean()), float64(half.Mean()), 1)
		slices.Sort(values)
		require.Equal(t, values[len(values)-1], h.Max())
		require.InDelta(t, sum/float64(len(values)), float64(h.Mean()), 1)
		for _, q := range []float64{0, 0.1, 0.5, 0.95, 1} {
			exact := float64(values[max(0, int(float64(len(values))*q+0.999999)-1)])
			require.InDelta(t, exact, float64(h.Quantile(q)), exact/128+1, "q %v of %v", q, values)
			require.Equal(t, h.Quantile(q), half.Quantile(q))
		}
		last := 0.0
		for upTo, share := range h.Bins {
			require.Greater(t, share, last)
			require.LessOrEqual(t, upTo, h.Max())
			last = share
		}
		require.Equal(t, 1.0, last)
	})
	var empty Histogram
	assert.Zero(t, empty.Quantile(0.5)+empty.Mean()+empty.Max()+empty.StdDev())
}

func BenchmarkBootstrap(b *testing.B) {
	const n = 10_000
	x := queue(rand.New(rand.NewPCG(1, 1)), n, 0.9, 0)
	s := Series{n, BlockLength(x), QuantileOf(x, 0.95)}
	b.ReportAllocs()
	for b.Loop() {
		Bootstrap{Rounds: 100}.Difference(s, s)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100/2/n, "ns/element")
}
