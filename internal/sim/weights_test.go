package sim

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
	"github.com/stretchr/testify/require"
)

var weights = flag.String("weights", "", "print the tables of docs/lab.md that compare policies on this workload: chats, mooncake or all (minutes)")

// requestsOnly is the default policy without prompt tokens in flight: requests weigh 2 instead.
func requestsOnly(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.Overload{}},
		Scorers: []scheduling.Weighted{
			{Scorer: scorer.Prefix{}, Weight: 3}, {Scorer: scorer.InFlightRequests{}, Weight: 2},
			{Scorer: scorer.Queue{}, Weight: 1}, {Scorer: scorer.KVUtilization{}, Weight: 1}, {Scorer: scorer.LoRA{}, Weight: 1},
		},
	}
}

// TestWeights prints, for each workload, the load that policies bear, and then, at one load that those which look at all
// endpoints' loads bear, each policy's figures and its difference from the default policy, paired over ten seeds. A seed is other
// chats, or the trace begun at another tenth of it.
func TestWeights(t *testing.T) {
	if *weights == "" {
		t.Skip("takes minutes: -weights all")
	}
	const (
		endpoints = 16
		seeds     = 10
		length    = 15 * time.Minute
		share     = 0.9 // of what the least capable of the policies that look at load bears
	)
	fleet := []Group{{Count: endpoints, Engine: small}}
	policies := append(Policies(), ProfilePolicy("requests only", requestsOnly))
	sources := map[string]func(seed uint64, rate float64) workload.Source{
		"chats": func(seed uint64, rate float64) workload.Source { return chats(t, seed, rate) },
	}
	if path := os.Getenv("MOONCAKE_TRACE"); path != "" {
		trace := mooncake(t, path)
		sources["mooncake"] = func(seed uint64, rate float64) workload.Source { return rotated(trace, int(seed), seeds, rate) }
	}
	for name, source := range sources {
		if *weights != "all" && *weights != name {
			continue
		}
		least := math.Inf(1)
		fmt.Printf("\n%s: load that is borne, in requests/s of %d endpoints\n", name, endpoints)
		for _, p := range policies {
			found, err := FindCapacity(context.Background(), Config{Seed: 1, Policy: p, Fleet: fleet, Duration: length},
				func(load float64) (workload.Source, error) { return source(1, load*endpoints), nil }, CapacityOptions{Precision: 0.03})
			require.NoError(t, err)
			fmt.Printf("| `%s` | %.1f |\n", p.Name, found.Load*endpoints)
			if slices.Contains([]string{"default", "requests only", "least-request", "oracle"}, p.Name) {
				least = min(least, found.Load*endpoints)
			}
		}
		rate := share * least
		fmt.Printf("\n%s at %.1f requests/s\n", name, rate)
		by := map[string][]*Result{}
		for _, p := range policies {
			for seed := range uint64(seeds) {
				result, err := Run(context.Background(), Config{
					Seed: seed, Policy: p, Fleet: fleet, Workload: source(seed, rate), Duration: length, WarmUp: 3 * time.Minute,
					SLO: SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond},
				})
				require.NoError(t, err)
				by[p.Name] = append(by[p.Name], result)
			}
			column := func(value func(*Result) float64) string {
				var own, less []float64
				for i, r := range by[p.Name] {
					own = append(own, value(r))
					less = append(less, value(r)-value(by["default"][i]))
				}
				mean, _ := interval(own)
				diff, half := interval(less)
				if p.Name == "default" {
					return digits(mean, 3)
				}
				sign := ""
				if diff > 0 {
					sign = "+"
				}
				return fmt.Sprintf("%s (%s%s ± %s)", digits(mean, 3), sign, digits(diff, 2), digits(half, 1))
			}
			fmt.Printf("| `%s` | %s | %s | %s | %s | %s |\n", p.Name,
				column(func(r *Result) float64 { return r.TTFT.Mean().Seconds() * 1000 }),
				column(func(r *Result) float64 { return r.TTFT.Quantile(0.95).Seconds() * 1000 }),
				column(func(r *Result) float64 { return r.TPOT.Mean().Seconds() * 1000 }),
				column(func(r *Result) float64 { return 100 * r.GoodShare() }),
				column(func(r *Result) float64 { return 100 * r.HitRatio() }))
		}
	}
}

// digits prints a number with so many significant digits, and without an exponent.
func digits(v float64, n int) string {
	if v == 0 {
		return "0"
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-float64(n-1))
	return strconv.FormatFloat(math.Round(v/unit)*unit, 'f', max(0, -int(math.Round(math.Log10(unit)))), 64)
}

// interval returns the mean of ten values and half the width of its 95 % interval by Student's t.
func interval(values []float64) (mean, half float64) {
	const t9 = 2.262 // nine degrees of freedom
	for _, v := range values {
		mean += v / float64(len(values))
	}
	sum := 0.0
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	n := float64(len(values))
	return mean, t9 * math.Sqrt(sum/(n-1)/n)
}

// rotated is a trace begun at the part-th of so many parts, and begun again with other content when it is over.
func rotated(trace []workload.Request, part, parts int, rate float64) workload.Source {
	n := len(trace)
	first := part * n / parts
	length := trace[n-1].At + time.Second
	scale := float64(n) / length.Seconds() / rate
	return func(yield func(workload.Request, error) bool) {
		for i := first; ; i++ {
			lap := i / n
			w := trace[i%n]
			w.At = time.Duration(float64(w.At+time.Duration(lap)*length-trace[first].At) * scale)
			w.Session += lap * n
			w.Conversation += lap * n
			pieces := slices.Clone(w.Messages[0].Pieces)
			for j := range pieces {
				pieces[j].ID += uint64(lap) << 40
			}
			w.Messages = []workload.Message{{Role: workload.User, Pieces: pieces}}
			if !yield(w, nil) {
				return
			}
		}
	}
}
