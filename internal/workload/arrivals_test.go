package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gaps draws n gaps of a process, in seconds.
func gaps(t *testing.T, a Arrivals, rate float64, n int) []float64 {
	t.Helper()
	require.NoError(t, a.validate("Arrivals"))
	p := a.start(rate, rand.New(rand.NewPCG(1, 2)))
	list := make([]float64, n)
	for i := range list {
		list[i] = p.next().Seconds()
	}
	return list
}

func meanAndCV(values []float64) (mean, cv float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		cv += (v - mean) * (v - mean) / float64(len(values))
	}
	return mean, math.Sqrt(cv) / mean
}

func TestGapsHaveTheirMeanAndSpread(t *testing.T) {
	for _, cv := range []float64{0, 0.2, 0.5, 1, 2, 5} {
		want := cv
		if cv == 0 {
			want = 1
		}
		mean, got := meanAndCV(gaps(t, Arrivals{CV: cv}, 20, 400_000))
		// The error of the mean is cv/sqrt(n); of a cv of bursts it is larger, since their fourth moment is.
		assert.InDelta(t, 1.0/20, mean, 5*want/math.Sqrt(400_000)/20, "mean for cv %v", cv)
		assert.InDelta(t, want, got, 0.03*want, "cv %v", cv)
	}
}

// counts is how many arrivals there are in each bin of a period, over the whole of n arrivals.
func counts(list []float64, period float64, bins int) (perSecond []float64, end float64) {
	perSecond = make([]float64, bins)
	at := 0.0
	for _, gap := range list {
		at += gap
		perSecond[int(math.Mod(at, period)/period*float64(bins))]++
	}
	for i := range perSecond {
		perSecond[i] /= at / float64(bins)
	}
	return perSecond, at
}

func TestRatesFollowTheCurve(t *testing.T) {
	day := 100 * time.Second
	for _, cv := range []float64{0.5, 1, 3} {
		list := gaps(t, Arrivals{CV: cv, Curve: Diurnal(day, 0.8)}, 50, 500_000)
		rates, end := counts(list, day.Seconds(), 8)
		assert.InDelta(t, 50, float64(len(list))/end, 1.5, "the mean rate stays")
		for i, rate := range rates {
			low, high := 2*math.Pi*float64(i)/8, 2*math.Pi*float64(i+1)/8
			want := 50 * (1 - 0.8*(math.Sin(high)-math.Sin(low))/(high-low))
			assert.InDelta(t, want, rate, 0.05*want+0.5*cv, "cv %v, part %d of the day", cv, i)
		}
	}
	steps := []Step{{10 * time.Second, 1}, {5 * time.Second, 0}, {5 * time.Second, 2}}
	rates, _ := counts(gaps(t, Arrivals{Curve: steps}, 30, 200_000), 20, 4)
	for i, want := range []float64{30, 30, 0, 60} {
		assert.InDelta(t, want, rates[i], 0.03*want, "step %d", i)
	}
}

func TestArrivalsStopAndGo(t *testing.T) {
	a := Arrivals{On: 2 * time.Second, Off: 6 * time.Second}
	list := gaps(t, a, 25, 400_000)
	mean, cv := meanAndCV(list)
	assert.InDelta(t, 1.0/25, mean, 0.002, "the mean rate stays")
	assert.Greater(t, cv, 3.0)
	long := 0.0
	for _, gap := range list {
		if gap > 0.5 { // at 100 a second while on, this is a pause
			long++
		}
	}
	total := mean * float64(len(list))
	assert.InDelta(t, math.Exp(-0.5/6)*total/8, long, 0.1*total/8, "one pause of 6 s on average for each 8 s")
}

func TestArrivalsAreChecked(t *testing.T) {
	a := Arrivals{CV: -1, Curve: []Step{{0, 1}, {time.Second, -1}, {time.Second, math.NaN()}}, On: -1, Off: 5}
	err := a.validate("Arrivals")
	for _, problem := range []string{"Arrivals.CV is -1", "Curve[0].For is 0s", "Curve[1].Factor is -1", "Curve[2].Factor is NaN", "On and Off are -1ns and 5ns"} {
		require.ErrorContains(t, err, problem)
	}
	require.ErrorContains(t, Arrivals{Curve: []Step{{time.Second, 0}}}.validate("A"), "A.Curve is 0 on average, want at least 0.001")
	require.ErrorContains(t, Arrivals{CV: math.Inf(1)}.validate("A"), "A.CV is +Inf")
}

func TestLengthsHaveTheirMeanAndSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	draw := func(l Lengths) (list []float64) {
		require.NoError(t, l.validate("Input"))
		for range 100_000 {
			list = append(list, float64(l.draw(r, nil)))
		}
		return list
	}
	for _, cv := range []float64{0.3, 1, 2} {
		mean, got := meanAndCV(draw(Lengths{Mean: 1000, CV: cv}))
		assert.InDelta(t, 1000, mean, 20)
		assert.InDelta(t, cv, got, 0.05*cv+0.01)
	}
	mean, cv := meanAndCV(draw(Lengths{Mean: 77}))
	assert.InDelta(t, 77, mean, 1e-6)
	assert.InDelta(t, 0, cv, 1e-9)
	seen := map[float64]int{}
	for _, v := range draw(Lengths{Values: []int{5, 5, 9, 2000}, Max: 100}) {
		seen[v]++
	}
	assert.Len(t, seen, 3)
	assert.InDelta(t, 50_000, seen[5], 1000)
	assert.InDelta(t, 25_000, seen[100], 1000)

	err := Lengths{Mean: 5, CV: 200, Values: []int{0}, Max: -1}.validate("Input")
	for _, problem := range []string{"Input has Values and also Mean or CV", "Input.CV is 200", "Input.Max is -1", "Input.Values[0] is 0"} {
		require.ErrorContains(t, err, problem)
	}
	require.ErrorContains(t, Lengths{CV: 1}.validate("Input"), "Input.Mean is 0, want 1")
}

func BenchmarkChats(b *testing.B) {
	for name, o := range map[string]ChatOptions{
		"chats":  {},
		"single": {Turns: 1, Input: Lengths{Mean: 1000, CV: 1}, Output: Lengths{Mean: 200, CV: 1}, Arrivals: Arrivals{CV: 3, Curve: Diurnal(24*time.Hour, 0.5)}},
	} {
		b.Run("kind="+name, func(b *testing.B) {
			source, err := Chats(o)
			require.NoError(b, err)
			b.ReportAllocs()
			n := 0
			for range source {
				if n++; n > b.N {
					break
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

func ExampleMerge() {
	steady, err := Chats(ChatOptions{Seed: 1, RequestsPerSecond: 8, Turns: 1, Input: Lengths{Mean: 500, CV: 1}, Output: Lengths{Mean: 100},
		Tenants: []Tenant{{Name: "steady"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	noisy, err := Chats(ChatOptions{Seed: 2, RequestsPerSecond: 2, Turns: 1, Input: Lengths{Mean: 8000}, Output: Lengths{Mean: 100},
		Tenants: []Tenant{{Name: "noisy", Priority: -1}}, Arrivals: Arrivals{On: 10 * time.Second, Off: time.Minute}})
	if err != nil {
		fmt.Println(err)
		return
	}
	sent := map[string]int{}
	for r := range Limit(Merge(steady, noisy), 20_000) {
		sent[r.Tenant]++
	}
	fmt.Println(sent["steady"] > 3*sent["noisy"], sent["steady"] < 5*sent["noisy"])
	// Output: true true
}
