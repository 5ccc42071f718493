package matrix

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

// metric is a figure that is compared.
type metric struct {
	name   string
	of     func(*Figures) float64
	format report.Format
	better float64 // -1: less, +1: more
	share  bool    // compared by difference in percentage points and not by ratio
}

var metrics = []metric{
	{"TTFT p99", func(f *Figures) float64 { return f.TTFT99 }, report.Seconds, -1, false},
	{"TTFT p95", func(f *Figures) float64 { return f.TTFT95 }, report.Seconds, -1, false},
	{"TTFT mean", func(f *Figures) float64 { return f.TTFTMean }, report.Seconds, -1, false},
	{"Goodput", func(f *Figures) float64 { return f.Good }, report.Percent, 1, true},
	{"Prefix hits", func(f *Figures) float64 { return f.Hits }, report.Percent, 1, true},
}

// lookaheads are policies that know what no policy can: they are shown and are nobody's peer.
var lookaheads = []string{"oracle"}

func (t *Table) peer(p int) bool { return p > 0 && !slices.Contains(lookaheads, t.Policies[p].Name) }

func values(runs []Figures, of func(*Figures) float64) []float64 {
	v := make([]float64, len(runs))
	for i := range runs {
		v[i] = of(&runs[i])
	}
	return v
}

// against is how the policy under test differs from another in a cell: as a ratio, or as a difference of shares.
func (m *metric) against(c *Cell, other int) stats.Interval {
	own, base := values(c.Runs[0], m.of), values(c.Runs[other], m.of)
	compare := stats.PairedRatio
	if m.share {
		compare = stats.PairedDifference
	}
	i, err := compare(base, own)
	if err != nil { // not reached: all have the same seeds
		return stats.Interval{Estimate: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	return i
}

// verdict is -1 where the policy under test is significantly worse, +1 where it is better, else 0.
func (m *metric) verdict(i stats.Interval) int {
	none := 1.0
	if m.share {
		none = 0
	}
	switch {
	case !i.Excludes(none):
		return 0
	case (i.Estimate > none) == (m.better > 0):
		return 1
	}
	return -1
}

// best is the peer with the best mean in a cell; -1 if there is none.
func (t *Table) best(m *metric, c *Cell) int {
	best, score := -1, 0.0
	for p := range t.Policies {
		if !t.peer(p) {
			continue
		}
		if v := m.better * stats.Mean(values(c.Runs[p], m.of)).Estimate; best < 0 || v > score {
			best, score = p, v
		}
	}
	return best
}

// Summary is what the matrix says of the policy under test.
type Summary struct {
	// Cells is how many there are; by metric, Worse and Better is in how many the policy under test is significantly worse or
	// better than the best peer of that cell.
	Cells         int
	Worse, Better map[string]int
	// Ratios is the geometric mean over cells of its TTFT p99 over that of each other policy.
	Ratios map[string]float64
	// Hits is its prefix hits over the oracle's, the mean over cells in which the oracle hits at least 5 %, and LeastHits the
	// least; NaN without an oracle.
	Hits, LeastHits float64
}

// Summarise counts cells.
func (t *Table) Summarise() Summary {
	s := Summary{Cells: len(t.Cells), Worse: map[string]int{}, Better: map[string]int{}, Ratios: map[string]float64{}, Hits: math.NaN(), LeastHits: math.NaN()}
	for i := range metrics {
		m := &metrics[i]
		for j := range t.Cells {
			c := &t.Cells[j]
			best := t.best(m, c)
			if best < 0 {
				continue
			}
			switch m.verdict(m.against(c, best)) {
			case -1:
				s.Worse[m.name]++
			case 1:
				s.Better[m.name]++
			}
		}
	}
	for p := 1; p < len(t.Policies); p++ {
		sum := 0.0
		for j := range t.Cells {
			sum += math.Log(metrics[0].against(&t.Cells[j], p).Estimate)
		}
		s.Ratios[t.Policies[p].Name] = math.Exp(sum / float64(len(t.Cells)))
		if t.Policies[p].Name != "oracle" {
			continue
		}
		var ratios []float64
		hits := func(f *Figures) float64 { return f.Hits }
		for j := range t.Cells {
			own, oracle := stats.Mean(values(t.Cells[j].Runs[0], hits)).Estimate, stats.Mean(values(t.Cells[j].Runs[p], hits)).Estimate
			if oracle >= 0.05 {
				ratios = append(ratios, own/oracle)
			}
		}
		if len(ratios) > 0 {
			s.Hits, s.LeastHits = stats.Mean(ratios).Estimate, slices.Min(ratios)
		}
	}
	return s
}

// WriteMarkdown writes a summary and, for each metric, a table of all cells.
func (t *Table) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	own, s := t.Policies[0].Name, t.Summarise()
	fmt.Fprintf(&b, "%d cells, %d seeds in each (from %d), about %d requests a run of which the first quarter is not measured. Load is a share of the rate that `%s` bears. ",
		s.Cells, t.Seeds, t.FirstSeed+1, t.Requests, t.Reference.Name)
	fmt.Fprintf(&b, "Columns of other policies: `%s` against them, seed by seed, with the 95 %% interval of Student's t. **Bold**: `%s` is significantly worse than that policy. *: the best peer in that row, by the mean.\n\n", own, own)
	fmt.Fprintf(&b, "| `%s` against the best peer of each cell | significantly worse | no difference shown | significantly better |\n|---|---|---|---|\n", own)
	for _, m := range metrics {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", m.name, s.Worse[m.name], s.Cells-s.Worse[m.name]-s.Better[m.name], s.Better[m.name])
	}
	fmt.Fprintf(&b, "\n| TTFT p99 of `%s` over that of | geometric mean over all cells |\n|---|---|\n", own)
	for _, p := range t.Policies[1:] {
		fmt.Fprintf(&b, "| `%s` | %s |\n", p.Name, report.Change(s.Ratios[p.Name]))
	}
	if !math.IsNaN(s.Hits) {
		fmt.Fprintf(&b, "\nPrefix hits are %.1f %% of the oracle's, the mean over cells in which that hits at least 5 %%; %.1f %% in the worst of them.\n", 100*s.Hits, 100*s.LeastHits)
	}
	for i := range metrics {
		t.writeMetric(&b, &metrics[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) writeMetric(b *strings.Builder, m *metric) {
	fmt.Fprintf(b, "\n#### %s\n\n", m.name)
	reuse := m.name == "Prefix hits"
	b.WriteString("| workload | load | rate/s | `" + t.Policies[0].Name + "` |")
	if reuse {
		b.WriteString(" said before |")
	}
	for _, p := range t.Policies[1:] {
		b.WriteString(" `" + p.Name + "` |")
	}
	b.WriteString("\n|---|---|---|---|" + strings.Repeat("---|", len(t.Policies)-1))
	if reuse {
		b.WriteString("---|")
	}
	b.WriteString("\n")
	for i := range t.Cells {
		c := &t.Cells[i]
		fmt.Fprintf(b, "| %s | %.2f | %.3g | %s |", c.Scenario.Name, c.Load, c.Rate, m.format(stats.Mean(values(c.Runs[0], m.of)).Estimate))
		if reuse {
			fmt.Fprintf(b, " %s |", m.format(stats.Mean(values(c.Runs[0], func(f *Figures) float64 { return f.Reuse })).Estimate))
		}
		best := t.best(m, c)
		for p := 1; p < len(t.Policies); p++ {
			d := m.against(c, p)
			cell := fmt.Sprintf("%+.1f ± %.1f", 100*d.Estimate, 50*(d.High-d.Low))
			if !m.share {
				cell = fmt.Sprintf("%+.0f %% ± %.0f", 100*(d.Estimate-1), 50*(d.High-d.Low))
				if math.Abs(d.Estimate-1) < 0.1 {
					cell = fmt.Sprintf("%+.1f %% ± %.1f", 100*(d.Estimate-1), 50*(d.High-d.Low))
				}
			}
			if math.IsNaN(d.Estimate) {
				cell = "–"
			}
			if m.verdict(d) < 0 {
				cell = "**" + cell + "**"
			}
			if p == best {
				cell += "\\*"
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
}
