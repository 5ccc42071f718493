package sim

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

var predictions = flag.Bool("predictions", false, "print the tables of docs/latency.md (a minute)")

// watched is the default policy with predictions that nobody goes by.
func watched(quantile float64) Policy {
	return Policy{Name: "default", New: func(e Env) (scheduling.Profile, error) {
		index, err := e.NewIndex()
		if err != nil {
			return scheduling.Profile{}, err
		}
		model, err := latency.New(latency.Options{MaxEndpoints: e.MaxEndpoints, Now: e.Now, Quantile: quantile})
		p := policy.Default(index)
		p.Producers = append(p.Producers, &latency.Producer{Model: model})
		return p, err
	}}
}

// accuracy is how predictions turned out.
type accuracy struct {
	covered int
	offs    []float64 // shares of the time that it took
}

func (a *accuracy) add(predicted, took time.Duration) {
	if took <= predicted {
		a.covered++
	}
	a.offs = append(a.offs, math.Abs(predicted.Seconds()-took.Seconds())/took.Seconds())
}

func (a *accuracy) coverage() float64 { return float64(a.covered) / float64(max(1, len(a.offs))) }

func (a *accuracy) off() float64 {
	slices.Sort(a.offs)
	return a.offs[len(a.offs)/2]
}

// observe adds the outcomes of both times to where they belong, nil being nowhere. Outcomes are numbered as they come.
func observe(where func(o *Outcome, n int) (first, between *accuracy)) Observer {
	n := 0
	return Observer{Outcome: func(o *Outcome) {
		first, between := where(o, n)
		n++
		if took, ok := o.TTFT(); ok && first != nil {
			first.add(o.PredictedTTFT, took)
		}
		if took, ok := o.TPOT(); ok && between != nil {
			between.add(o.PredictedTPOT, took)
		}
	}}
}

var goal = SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond}

// Predicted P90s cover 90 % of the times they are of, from the fiftieth answer on and again from the two hundredth after the
// fleet has become twice as slow.
func TestPredictedCoverage(t *testing.T) {
	var first, between, drifted, driftedBetween accuracy
	var faults []Fault
	const endpoints, drift = 8, 20 * time.Minute
	for i := range endpoints {
		faults = append(faults, Fault{At: drift, Kind: Slow, Endpoint: i, For: time.Hour, By: 2})
	}
	after := 0
	_, err := Run(context.Background(), Config{
		Seed: 1, Policy: watched(.9), Fleet: []Group{{Count: endpoints, Engine: small}}, Workload: chats(t, 1, 4), Duration: 45 * time.Minute,
		Faults: Faults{Schedule: faults}, SLO: goal,
	}, observe(func(o *Outcome, n int) (*accuracy, *accuracy) {
		if o.Finished < drift && n >= 50 {
			return &first, &between
		}
		if o.Arrived >= drift {
			if after++; after > 200 {
				return &drifted, &driftedBetween
			}
		}
		return nil, nil
	}))
	require.NoError(t, err)
	for name, a := range map[string]*accuracy{"TTFT": &first, "TPOT": &between, "TTFT after drift": &drifted, "TPOT after drift": &driftedBetween} {
		require.Greater(t, len(a.offs), 2000, name)
		require.InDelta(t, .9, a.coverage(), .015, name)
	}
}

// At 1.3 times the load that the fleet bears, going by the probability to meet the SLO gives more answers within it than
// llm-d's rules with the same predictions.
func TestObjectivesBeatHeadroom(t *testing.T) {
	good := func(name string) float64 {
		result, err := Run(context.Background(), Config{
			Seed: 1, Policy: MustPolicy(name), Fleet: []Group{{Count: 8, Engine: small}}, Workload: chats(t, 1, 13), Duration: 8 * time.Minute,
			WarmUp: 2 * time.Minute, SLO: goal,
		})
		require.NoError(t, err)
		return result.Goodput()
	}
	require.Greater(t, good("objectives"), 1.3*good("llm-d-predicted-latency"))
}

// TestPredictions prints how predictions turn out, and what policies that go by them are good for.
func TestPredictions(t *testing.T) {
	if !*predictions {
		t.Skip("takes a minute: -predictions")
	}
	const endpoints, seeds = 16, 5
	fleet := []Group{{Count: endpoints, Engine: small}}
	sources := map[string]func(seed uint64, rate float64) workload.Source{
		"chats": func(seed uint64, rate float64) workload.Source { return chats(t, seed, rate) },
	}
	if path := os.Getenv("MOONCAKE_TRACE"); path != "" {
		trace := mooncake(t, path)
		sources["mooncake"] = func(seed uint64, rate float64) workload.Source {
			source, err := workload.Rotate(trace, int(seed)*len(trace)/seeds, rate)
			require.NoError(t, err)
			return source
		}
	}
	const borne = 20. // requests a second: docs/lab.md
	for name, source := range sources {
		for _, load := range []float64{.5, .8, 1} {
			var result [2][2]accuracy // by quantile and time
			for i, quantile := range []float64{.9, .5} {
				for seed := range uint64(seeds) {
					_, err := Run(context.Background(), Config{
						Seed: seed, Policy: watched(quantile), Fleet: fleet, Workload: source(seed, load*borne), Duration: 10 * time.Minute,
					}, observe(func(_ *Outcome, n int) (*accuracy, *accuracy) {
						if n < 50 {
							return nil, nil
						}
						return &result[i][0], &result[i][1]
					}))
					require.NoError(t, err)
				}
			}
			fmt.Printf("| %s | %.1f | %.1f %% | %.0f %% | %.1f %% | %.0f %% |\n", name, load, 100*result[0][0].coverage(), 100*result[1][0].off(),
				100*result[0][1].coverage(), 100*result[1][1].off())
		}
	}
	drift(t)
	policies := []Policy{MustPolicy("default"), MustPolicy("llm-d-predicted-latency"), MustPolicy("objectives")}
	for name, more := range map[string]func(*prefix.Index, *latency.Model) scheduling.Profile{
		"`Meets` alone": func(index *prefix.Index, model *latency.Model) scheduling.Profile {
			return scheduling.Profile{
				Producers: []scheduling.Producer{&prefix.Producer{Index: index}, &latency.Producer{Model: model}},
				Scorers:   []scheduling.Weighted{{Scorer: latency.Meets{}}},
			}
		},
		"objectives, nothing refused": func(index *prefix.Index, model *latency.Model) scheduling.Profile {
			p := policy.Objectives(index, model)
			p.Filters = p.Filters[1:]
			return p
		},
	} {
		policies = append(policies, predictive(name, "", more))
	}
	for name, source := range sources {
		for _, load := range []float64{.8, 1, 1.15, 1.3} {
			for _, p := range policies {
				var goods, ttfts []float64
				for seed := range uint64(seeds) {
					result, err := Run(context.Background(), Config{
						Seed: seed, Policy: p, Fleet: fleet, Workload: source(seed, load*borne), Duration: 10 * time.Minute, WarmUp: 2 * time.Minute, SLO: goal,
					})
					require.NoError(t, err)
					goods, ttfts = append(goods, 100*result.GoodShare()), append(ttfts, 1000*result.TTFT.Quantile(.95).Seconds())
				}
				good, ttft := stats.Mean(goods), stats.Mean(ttfts)
				fmt.Printf("| %s | %.2f | %s | %.1f ± %.1f %% | %.0f ms |\n", name, load, p.Name, good.Estimate, good.High-good.Estimate, ttft.Estimate)
			}
		}
	}
}

// drift prints how long predictions of medians are off after all engines have become twice as slow.
func drift(t *testing.T) {
	var first, between [5]accuracy
	const at, endpoints = 5 * time.Minute, 16
	var faults []Fault
	for i := range endpoints {
		faults = append(faults, Fault{At: at, Kind: Slow, Endpoint: i, For: time.Hour, By: 2})
	}
	for seed := range uint64(10) {
		n := 0
		_, err := Run(context.Background(), Config{
			Seed: seed, Policy: watched(.5), Fleet: []Group{{Count: endpoints, Engine: small}}, Workload: chats(t, seed, 6), Duration: 10 * time.Minute,
			Faults: Faults{Schedule: faults},
		}, observe(func(o *Outcome, _ int) (*accuracy, *accuracy) {
			bin := 0
			if o.Arrived >= at {
				n++
				bin, _ = slices.BinarySearch([]int{0, 50, 100, 200}, n)
			}
			return &first[bin], &between[bin]
		}))
		require.NoError(t, err)
	}
	for i, name := range []string{"before", "1 to 50", "51 to 100", "101 to 200", "from 201"} {
		fmt.Printf("| %s | %.0f %% | %.0f %% |\n", name, 100*first[i].off(), 100*between[i].off())
	}
}
