package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
)

// world has one class of endpoints whose times are known.
type world struct {
	t      require.TestingT
	model  *Model
	random *rand.Rand
	now    time.Time
	slow   map[scheduling.Slot]float64 // factor
}

func newWorld(t require.TestingT, seed uint64, o Options) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1000, 0), slow: map[scheduling.Slot]float64{}}
	o.Now = func() time.Time { return w.now }
	var err error
	w.model, err = New(o)
	require.NoError(t, err)
	w.model.class(&scheduling.Endpoint{Model: "m"})
	return w
}

// load draws what a pick might see.
func (w *world) load() (v [counts]float32) {
	v[prompt] = float32(math.Exp(5 + 4*w.random.Float64()))
	v[uncached] = v[prompt] * w.random.Float32()
	if w.random.IntN(2) == 0 {
		v[ahead] = float32(w.random.IntN(30_000))
	}
	v[requests] = float32(w.random.IntN(60))
	v[kvTokens] = v[requests] * 2000
	return v
}

// truth is how long a request takes, with a spread of its own: a prior off by a factor of 3 and more.
func (w *world) truth(target int, v *[counts]float32, slot scheduling.Slot) time.Duration {
	s := .05 + float64(v[uncached]+v[ahead])/5000
	if target == tpot {
		s = .03 + .0004*float64(v[requests]) + 1e-7*float64(v[kvTokens])
	}
	factor := w.slow[slot]
	if factor == 0 {
		factor = 1
	}
	return time.Duration(s * factor * math.Exp(.2*w.random.NormFloat64()) * float64(time.Second))
}

func (w *world) predict(v [counts]float32, slot scheduling.Slot) *scheduling.Prediction {
	p := &scheduling.Prediction{Basis: scheduling.Basis{Slot: slot, Generation: 1, Values: v}, Meets: 1}
	factors := w.model.local(slot, 1, w.now.UnixNano())
	for target := range targets {
		seconds, d := (*w.model.classes.Load())[0].current.Load()[target].estimate(target, &v, factors[target])
		*[]*float64{&p.TTFT, &p.TPOT}[target] = seconds * d.target
	}
	return p
}

func (w *world) observe(target int, p *scheduling.Prediction) time.Duration {
	took := w.truth(target, &p.Basis.Values, p.Basis.Slot)
	w.now = w.now.Add(100 * time.Millisecond)
	if target == ttft {
		w.model.ObserveTTFT(p, took)
	} else {
		w.model.ObserveTPOT(p, took)
	}
	return took
}

// run observes n requests over 8 endpoints and returns how far medians are off, as the median share, and what is covered.
func (w *world) run(target, n int) (off, covered float64) {
	var offs []float64
	for range n {
		slot := scheduling.Slot(w.random.IntN(8))
		p := w.predict(w.load(), slot)
		issued := p.TTFT
		if target == tpot {
			issued = p.TPOT
		}
		took := w.observe(target, p).Seconds()
		if took <= issued {
			covered++
		}
		offs = append(offs, math.Abs(issued-took)/took)
	}
	slices.Sort(offs)
	return offs[n/2], covered / float64(n)
}

func TestLearns(t *testing.T) {
	for target, name := range []string{"TTFT", "TPOT"} {
		t.Run(name, func(t *testing.T) {
			medians := newWorld(t, 1, Options{Quantile: .5})
			medians.run(target, 50)
			off, _ := medians.run(target, 100)
			require.Less(t, off, .2, "after 50 observations")
			medians.slow = map[scheduling.Slot]float64{0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2}
			medians.run(target, 200)
			off, _ = medians.run(target, 200)
			require.Less(t, off, .2, "200 observations after a twofold drift")

			high := newWorld(t, 1, Options{})
			high.run(target, 50)
			_, covered := high.run(target, 5000)
			require.InDelta(t, .9, covered, .015)
			high.slow = medians.slow
			high.run(target, 200)
			_, covered = high.run(target, 5000)
			require.InDelta(t, .9, covered, .015, "after a drift")
		})
	}
}

// One endpoint that is twice as slow is known as such, until it has not been seen for long, or is replaced.
func TestKnowsSlowEndpoint(t *testing.T) {
	w := newWorld(t, 1, Options{})
	w.slow[3] = 2
	w.run(ttft, 1000)
	v := [counts]float32{prompt: 1000, uncached: 1000}
	require.InDelta(t, 2, w.predict(v, 3).TTFT/w.predict(v, 4).TTFT, .4)
	w.now = w.now.Add(time.Minute) // its half-life
	require.InDelta(t, 1.5, w.predict(v, 3).TTFT/w.predict(v, 4).TTFT, .3)
	require.Equal(t, [targets]float64{1, 1}, w.model.local(3, 2, 0), "another generation")
	stale := w.predict(v, 3)
	next := w.predict(v, 3)
	next.Basis.Generation = 2
	w.model.ObserveTTFT(next, time.Second)
	w.model.ObserveTTFT(stale, time.Second) // of the one that was replaced
	require.Equal(t, uint32(2), w.model.places[3].current.Load().generation)
}

// Whatever has been observed, predictions are positive and finite, and grow with work and load.
func TestPredictionsAreMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), Options{})
		for range rapid.IntRange(0, 100).Draw(t, "observations") {
			p := w.predict(w.load(), scheduling.Slot(w.random.IntN(3)))
			took := time.Duration(rapid.SampledFrom([]float64{-1, 0, 1, 1e6, 1e9, 1e12, math.MaxInt64 - 1024}).Draw(t, "took"))
			w.model.ObserveTTFT(p, took)
			w.model.ObserveTPOT(p, took)
		}
		coefficients := (*w.model.classes.Load())[0].current.Load()
		v := w.load()
		for target := range targets {
			was, _ := coefficients[target].estimate(target, &v, 1)
			require.True(t, was > 0 && !math.IsInf(was, 0), "%v", was)
			for i := range v {
				more := v
				more[i] = 2*v[i] + 10
				if i == uncached {
					more[prompt] += more[i]
				}
				is, _ := coefficients[target].estimate(target, &more, 1)
				require.GreaterOrEqual(t, is, was*(1-1e-12), "count %d", i)
			}
			for regime := range coefficients[target].regimes {
				d := &coefficients[target].regimes[regime]
				require.True(t, slices.IsSorted(d.ratios[:]) && d.ratios[0] > 0 && !math.IsInf(d.target, 0) && d.target > 0, "%v", d)
			}
		}
	})
}

func TestImpossibleObservationsAreDropped(t *testing.T) {
	w := newWorld(t, 1, Options{})
	w.run(ttft, 100)
	before := w.model.Snapshot()
	good := w.predict(w.load(), 1)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, v := range []float32{nan, inf, -1, 1e30} {
		p := *good
		p.Basis.Values[ahead] = v
		w.model.ObserveTTFT(&p, time.Second)
		w.model.ObserveTPOT(&p, time.Second)
	}
	class := *good
	class.Basis.Class = 9
	w.model.ObserveTTFT(&class, time.Second)
	w.model.ObserveTTFT(&scheduling.Prediction{}, time.Second)
	w.model.ObserveTTFT(good, 0)
	w.model.ObserveTTFT(good, -time.Second)
	w.model.ObserveTTFT(good, 100*time.Hour)
	require.Equal(t, string(before), string(w.model.Snapshot()))
	slot := *good
	slot.Basis.Slot = 1 << 30
	w.model.ObserveTTFT(&slot, time.Second) // of no place: the class learns
	require.NotEqual(t, string(before), string(w.model.Snapshot()))
}

func TestTrafficDecays(t *testing.T) {
	w := newWorld(t, 1, Options{})
	at := int64(1e18)
	require.Zero(t, w.model.rate(1, at))
	for i := range 1000 {
		at += int64(100 * time.Millisecond)
		w.model.came(1, 300, at+int64(i)%2)
	}
	require.InDelta(t, 3000, w.model.rate(1, at), 60, "300 tokens every 100 ms")
	require.InDelta(t, 3000/math.E, w.model.rate(1, at+trafficSeconds*1e9), 30)
	require.InDelta(t, 3000, w.model.rate(1, at-1e9), 60, "a clock that goes back")
	w.model.came(1<<20, 1, at)
	require.Zero(t, w.model.rate(1<<20, at))
}
