package sim

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/latency/llmd"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

func predictive(name string, profile func(*prefix.Index) scheduling.Profile) Policy {
	return Policy{Name: name, New: func(e Env) (scheduling.Profile, error) {
		index, err := e.NewIndex()
		if err != nil {
			return scheduling.Profile{}, err
		}
		model, err := latency.New(latency.Options{MaxEndpoints: e.MaxEndpoints, Now: e.Now})
		p := profile(index)
		p.Producers = append(p.Producers, &latency.Producer{Model: model})
		return p, err
	}}
}

type accuracy struct {
	n, covered float64
	ratios     []float64
}

func (a *accuracy) add(predicted, took time.Duration) {
	a.n++
	if took <= predicted {
		a.covered++
	}
	a.ratios = append(a.ratios, predicted.Seconds()/took.Seconds())
}

func (a *accuracy) String() string {
	slices.Sort(a.ratios)
	q := func(l float64) float64 { return a.ratios[int(l*float64(len(a.ratios)-1))] }
	return fmt.Sprintf("%6.0f: covered %5.1f %%, ratios %.2f %.2f %.2f %.2f %.2f", a.n, 100*a.covered/a.n, q(.05), q(.25), q(.5), q(.75), q(.95))
}

func TestExplore(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip()
	}
	trace := mooncake(t, os.Getenv("MOONCAKE_TRACE"))
	for name, source := range map[string]func(seed uint64, rate float64) workload.Source{
		"chats":    func(seed uint64, rate float64) workload.Source { return chats(t, seed, rate) },
		"mooncake": func(seed uint64, rate float64) workload.Source { return rotated(trace, int(seed), 10, rate) },
	} {
		for _, p := range []func(*prefix.Index) scheduling.Profile{policy.Default, chanceRefusing(.5)} {
			for _, load := range []float64{.5, .8, 1, 1.3} {
				var first, between, early, earlyBetween accuracy
				for seed := range uint64(3) {
					n, m := 0, 0
					_, err := Run(context.Background(), Config{
						Seed: seed, Policy: predictive("default", p), Fleet: []Group{{Count: 16, Engine: small}},
						Workload: source(seed, 20*load), Duration: 10 * time.Minute,
						SLO: SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond},
					}, Observer{Outcome: func(o *Outcome) {
						if took, ok := o.TTFT(); ok {
							if n++; n > 50 {
								first.add(o.PredictedTTFT, took)
								if n < 150 {
									early.add(o.PredictedTTFT, took)
								}
							}
						}
						if took, ok := o.TPOT(); ok {
							if m++; m > 50 {
								between.add(o.PredictedTPOT, took)
								if m < 150 {
									earlyBetween.add(o.PredictedTPOT, took)
								}
							}
						}
					}})
					require.NoError(t, err)
				}
				fmt.Println(name, load)
				fmt.Println("  ttft", &first, "  tpot", &between)
				fmt.Println("  early ttft", &early, "  tpot", &earlyBetween)
			}
		}
	}
}

func TestDrift(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip()
	}
	for _, rate := range []float64{4, 8} {
		var first, between [6]accuracy
		at := 5 * time.Minute
		for seed := range uint64(10) {
			n, m := 0, 0
			var faults []Fault
			for i := range 16 {
				faults = append(faults, Fault{At: at, Kind: Slow, Endpoint: i, For: time.Hour, By: 2})
			}
			_, err := Run(context.Background(), Config{
				Seed: seed, Policy: predictive("default", policy.Default), Fleet: []Group{{Count: 16, Engine: small}},
				Workload: chats(t, seed, rate), Duration: 10 * time.Minute, Faults: Faults{Schedule: faults},
			}, Observer{Outcome: func(o *Outcome) {
				bin := func(n *int) int {
					if o.Arrived < at {
						if o.Arrived > at/2 {
							return 0
						}
						return 5
					}
					*n++
					switch {
					case *n <= 50:
						return 1
					case *n <= 100:
						return 2
					case *n <= 200:
						return 3
					}
					return 4
				}
				if took, ok := o.TTFT(); ok {
					first[bin(&n)].add(o.PredictedTTFT, took)
				}
				if took, ok := o.TPOT(); ok {
					between[bin(&m)].add(o.PredictedTPOT, took)
				}
			}})
			require.NoError(t, err)
		}
		for i := range first {
			fmt.Println(rate, i, "  ttft", &first[i], "  tpot", &between[i])
		}
	}
}

func llmdPredicted(index *prefix.Index) scheduling.Profile {
	running := llmd.NewRunning()
	slo := llmd.SLO{Running: running}
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}, running},
		Filters: []scheduling.Filter{
			llmd.Admitter{SLO: slo},
			filter.PrefixAffinity{Threshold: .99, MaxPenaltyMs: -1}, llmd.HeadroomTier{SLO: slo},
			filter.PrefixAffinity{Threshold: .8, MaxPenaltyMs: 5000},
		},
		Scorers: []scheduling.Weighted{{Scorer: llmd.LatencyScorer{SLO: slo}}},
		Picker:  picker.WeightedRandom{},
	}
}

func meets(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Scorers:   []scheduling.Weighted{{Scorer: latency.Meets{}}},
	}
}

func chance(share, hopeless float64) func(*prefix.Index) scheduling.Profile {
	return func(index *prefix.Index) scheduling.Profile {
		p := policy.Default(index)
		p.Filters = []scheduling.Filter{latency.Chance{Share: share, Hopeless: hopeless}}
		return p
	}
}

func chanceRefusing(least float64) func(*prefix.Index) scheduling.Profile {
	return func(index *prefix.Index) scheduling.Profile {
		p := policy.Default(index)
		p.Filters = []scheduling.Filter{latency.Admit{Least: least}, latency.Chance{Hopeless: 1e-9}}
		return p
	}
}

func refusing(index *prefix.Index) scheduling.Profile {
	p := meets(index)
	p.Filters = []scheduling.Filter{latency.Admit{}}
	return p
}

func TestGoodput(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip()
	}
	trace := mooncake(t, os.Getenv("MOONCAKE_TRACE"))
	for name, source := range map[string]func(seed uint64, rate float64) workload.Source{
		"chats":    func(seed uint64, rate float64) workload.Source { return chats(t, seed, rate) },
		"mooncake": func(seed uint64, rate float64) workload.Source { return rotated(trace, int(seed), 10, rate) },
	} {
		for _, load := range []float64{.8, 1, 1.3} {
			for _, p := range []Policy{
				predictive("ch.3", chance(.95, .3)),
				predictive("ch.5", chance(.95, .5)),
				predictive("ch.7", chance(.95, .7)),
				predictive("cr.3", chanceRefusing(.3)),
				predictive("cr.5", chanceRefusing(.5)),
				predictive("cr.7", chanceRefusing(.7)),
			} {
				var all [4]float64
				for seed := range uint64(2) {
					res, err := Run(context.Background(), Config{
						Seed: seed, Policy: p, Fleet: []Group{{Count: 16, Engine: small}}, Workload: source(seed, load*20), Duration: 8 * time.Minute, WarmUp: 2 * time.Minute,
						SLO: SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond},
					})
					require.NoError(t, err)
					all[0] += 50 * res.GoodShare()
					all[1] += 500 * res.TTFT.Mean().Seconds()
					all[2] += 500 * res.TPOT.Mean().Seconds()
					all[3] += 50 * res.HitRatio()
				}
				fmt.Printf("%s %.1f %-10s good %.1f %% ttft %.0f tpot %.1f hits %.1f\n", name, load, p.Name, all[0], all[1], all[2], all[3])
			}
		}
	}
}
