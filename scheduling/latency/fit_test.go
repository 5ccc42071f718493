package latency

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type observation struct {
	x        vector
	y, scale float64
}

func observations(random *rand.Rand, w *vector, n int, noise float64) []observation {
	list := make([]observation, n)
	for i := range list {
		o := &list[i]
		for j := range o.x {
			o.x[j] = 1 + 9*random.Float64()
		}
		o.y = o.x.dot(w) * math.Exp(noise*random.NormFloat64())
		o.scale = o.x.dot(w)
	}
	return list
}

// batch solves the normal equations of weighted least squares with a ridge by Gaussian elimination.
func batch(list []observation, prior *vector, keep float64) vector {
	var a [terms][terms + 1]float64
	for i, o := range list {
		weight := math.Pow(keep, float64(len(list)-1-i)) / (o.scale * o.scale)
		for j := range terms {
			for k := range terms {
				a[j][k] += weight * o.x[j] * o.x[k]
			}
			a[j][terms] += weight * o.x[j] * o.y
		}
	}
	for j := range terms {
		ridge := priorWeight / (prior[j] * prior[j])
		a[j][j] += ridge
		a[j][terms] += ridge * prior[j]
	}
	for j := range terms {
		for k := range terms {
			if k == j {
				continue
			}
			f := a[k][j] / a[j][j]
			for l := range a[k] {
				a[k][l] -= f * a[j][l]
			}
		}
	}
	var w vector
	for j := range w {
		w[j] = a[j][terms] / a[j][j]
	}
	return w
}

// Where no term would be negative, the recursive solution is that of all observations at once, forgetting included.
func TestRecursiveEqualsBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		prior, truth := vector{}, vector{}
		for i := range prior {
			prior[i], truth[i] = 1, .5+random.Float64()
		}
		keep := rapid.SampledFrom([]float64{1, .99, .9}).Draw(t, "keep")
		list := observations(random, &truth, rapid.IntRange(0, 300).Draw(t, "observations"), .01)
		var m moments
		w := prior
		for _, o := range list {
			m.observe(&o.x, o.y, o.scale, keep)
		}
		m.solve(&prior, &w, 100_000)
		want := batch(list, &prior, keep)
		for i := range want {
			if want[i] < 0 {
				return
			}
		}
		for i := range want {
			require.InDelta(t, want[i], w[i], 1e-3)
		}
	})
}

// Whatever was observed, the solution is the best without a negative term: moving any term makes it no better.
func TestSolutionIsOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var prior, truth vector
		for i := range prior {
			prior[i], truth[i] = math.Exp(random.NormFloat64()), random.NormFloat64() // negative ones cannot be had
		}
		var m moments
		for _, o := range observations(random, &truth, 100, 0) {
			m.observe(&o.x, o.y, 10, 1)
		}
		w := prior
		m.solve(&prior, &w, 100_000)
		loss := func(w *vector) float64 {
			sum := 0.
			for i := range terms {
				for j := range terms {
					sum += w[i] * m.XX[i][j] * w[j]
				}
				off := w[i]/prior[i] - 1
				sum += -2*w[i]*m.XY[i] + priorWeight*off*off
			}
			return sum
		}
		least := loss(&w)
		for i := range w {
			require.GreaterOrEqual(t, w[i], 0.)
			for _, d := range []float64{-.01, .01} {
				other := w
				other[i] = max(0, w[i]+d*prior[i])
				require.GreaterOrEqual(t, loss(&other), least-1e-6*math.Abs(least))
			}
		}
	})
}

// Replicas' moments add up, in any order, to those of one that saw it all.
func TestMomentsAdd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	truth := vector{1, 2, 3, 4, 5, 6, 7, 8}
	list := observations(random, &truth, 300, .1)
	var whole moments
	var parts [3]moments
	for i, o := range list {
		whole.observe(&o.x, o.y, o.scale, 1)
		parts[i%3].observe(&o.x, o.y, o.scale, 1)
	}
	for _, order := range [][3]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}} {
		var left, right moments // (a+b)+c and a+(b+c)
		left.add(&parts[order[0]])
		left.add(&parts[order[1]])
		left.add(&parts[order[2]])
		inner := parts[order[1]]
		inner.add(&parts[order[2]])
		right = parts[order[0]]
		right.add(&inner)
		for _, sum := range []*moments{&left, &right} {
			require.Equal(t, whole.N, sum.N)
			for i := range terms {
				require.InEpsilon(t, whole.XY[i], sum.XY[i], 1e-9)
				for j := range terms {
					require.InEpsilon(t, whole.XX[i][j], sum.XX[i][j], 1e-9)
				}
			}
		}
	}
}
