package matrix

import (
	"flag"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

var (
	parted   = flag.String("parts", "", "print the table of docs/lab.md that leaves parts of the default policy out, keeping runs in this file (minutes)")
	gateways = flag.String("gateways", "", "print the table of docs/lab.md of several gateways, keeping runs in this file (minutes)")
	traced   = flag.String("traces", "", "folder of traces for -parts")
)

// without is the default policy with something else in it.
func without(name string, effort scorer.Effort, filters ...scheduling.Filter) sim.Policy {
	return sim.ProfilePolicy(name, func(index *prefix.Index) scheduling.Profile {
		p := policy.Default(index)
		p.Scorers, p.Filters = []scheduling.Weighted{{Scorer: effort}}, filters
		return p
	})
}

const nothing = 1e-9 // 0 means the standard value

// TestParts compares the default policy with itself without one of its parts.
func TestParts(t *testing.T) {
	if *parted == "" {
		t.Skip("takes minutes: -parts FILE")
	}
	all, err := Scenarios(*traced, false)
	require.NoError(t, err)
	bound := filter.Overload{Slack: 16}
	table, err := Run(t.Context(), Options{
		Scenarios: all, Loads: []float64{0.9}, Store: *parted, FirstSeed: 5000,
		Policies: []sim.Policy{
			sim.MustPolicy("default"),
			without("uncached tokens once", scorer.Effort{Uncached: 1, Crowd: 1e300}, bound),
			without("no crowding", scorer.Effort{Crowd: 1e300}, bound),
			without("no requests", scorer.Effort{PerRequest: nothing}, bound),
			without("four times the requests", scorer.Effort{PerRequest: 256}, bound),
			without("no adapters", scorer.Effort{AdapterTokens: nothing}, bound),
			without("no bound", scorer.Effort{}),
			without("a bound of 8", scorer.Effort{}, filter.Overload{}),
		},
	})
	require.NoError(t, err)
	fmt.Println("| without | TTFT p99 | worst | TTFT mean | good, points | worst | prefix hits, points |\n|---|---|---|---|---|---|---|")
	for p := 1; p < len(table.Policies); p++ {
		fmt.Printf("| %s |%s\n", table.Policies[p].Name, table.changes(0, p))
	}
}

// TestGateways compares policies where four gateways do not see each other's requests.
func TestGateways(t *testing.T) {
	if *gateways == "" {
		t.Skip("takes minutes: -gateways FILE")
	}
	var all []Scenario
	for _, s := range scenario(t, "chats", "templates", "retrieval", "agents", "lengths") {
		for _, n := range []int{1, 4, 16} {
			other := s
			other.Config.Gateways = n
			other.Name = fmt.Sprintf("%s, %d gateways", s.Name, n)
			all = append(all, other)
		}
	}
	table, err := Run(t.Context(), Options{
		Scenarios: all, Loads: []float64{0.8}, Store: *gateways, Seeds: 5, FirstSeed: 6000,
		Policies: []sim.Policy{
			sim.MustPolicy("default"), sim.MustPolicy("llm-d"), sim.MustPolicy("llm-d-token-load"),
			without("blind to others", scorer.Effort{PerQueued: nothing}, filter.Overload{Slack: 16}),
		},
	})
	require.NoError(t, err)
	require.NoError(t, table.WriteMarkdown(t.Output()))
}

// changes is what another policy has instead of a base, over all cells: geometric means of ratios, means of differences, and the
// worst cell of some.
func (t *Table) changes(base, other int) string {
	ratio := func(m *metric) (mean, worst float64) {
		sum := 0.0
		for i := range t.Cells {
			v := stats.Mean(values(t.Cells[i].Runs[other], m.of)).Estimate / stats.Mean(values(t.Cells[i].Runs[base], m.of)).Estimate
			sum += math.Log(v)
			worst = max(worst, v)
		}
		return 100 * (math.Exp(sum/float64(len(t.Cells))) - 1), 100 * (worst - 1)
	}
	points := func(m *metric) (mean, worst float64) {
		for i := range t.Cells {
			v := 100 * (stats.Mean(values(t.Cells[i].Runs[other], m.of)).Estimate - stats.Mean(values(t.Cells[i].Runs[base], m.of)).Estimate)
			mean += v / float64(len(t.Cells))
			worst = min(worst, v)
		}
		return mean, worst
	}
	p99, worst := ratio(&metrics[0])
	average, _ := ratio(&metrics[2])
	good, least := points(&metrics[3])
	hits, _ := points(&metrics[4])
	return fmt.Sprintf(" %+.1f %% | %+.1f %% | %+.1f %% | %+.1f | %+.1f | %+.1f |", p99, worst, average, good, least, hits)
}
