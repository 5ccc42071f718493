package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

// latencies are the rows that both the table and the comparison have.
func (r *result) latencies() *report.Table {
	t := &report.Table{Title: "Latency", Columns: report.Columns("", "mean", "p50", "p90", "p95", "p99", "max")}
	for _, row := range []struct {
		name string
		spread
	}{
		{"TTFT", r.TTFT}, {"TPOT", r.TPOT}, {"ITL", r.ITL}, {"longest ITL of a request", r.LongestITL}, {"end to end", r.E2E},
		{"TTFT from when it was sent", r.TTFTFromSend}, {"client late by", r.Client.Lag},
	} {
		cells := []string{row.name}
		for _, v := range []report.Number{row.Mean, row.P50, row.P90, row.P95, row.P99, row.Max} {
			cells = append(cells, report.Seconds(float64(v)))
		}
		t.Add(cells...)
	}
	return t
}

func (r *result) sloText() string {
	var parts []string
	for _, b := range []struct {
		name string
		v    report.Number
	}{{"TTFT", r.SLO.TTFT}, {"TPOT", r.SLO.TPOT}} {
		if v := float64(b.v); !math.IsNaN(v) {
			parts = append(parts, b.name+" up to "+report.Seconds(v))
		}
	}
	if len(parts) == 0 {
		return "any latency"
	}
	return strings.Join(parts, " and ")
}

func share(part, whole int) string { return report.Percent(float64(part) / float64(whole)) }

// facts are what there is beside latency.
func (r *result) facts() []report.Fact {
	f := []report.Fact{
		{Name: "requests", Value: report.Count(r.Requests)},
		{Name: "answered", Value: fmt.Sprintf("%s (%s)", report.Count(r.Answered), share(r.Answered, r.Requests))},
		{Name: "offered", Value: report.PerSecond(float64(r.Offered))},
		{Name: "goodput", Value: fmt.Sprintf("%s (%s)", report.PerSecond(float64(r.Goodput)), share(r.Good, r.Requests))},
		{Name: "output tokens", Value: report.PerSecond(float64(r.OutputRate))},
		{Name: "prompt tokens cached", Value: report.Percent(float64(r.HitRatio))},
	}
	if r.LateTurns > 0 {
		f = append(f, report.Fact{Name: "turns behind a late answer", Value: report.Count(r.LateTurns)})
	}
	return append(f,
		report.Fact{Name: "client used", Value: fmt.Sprintf("%.2f cores", float64(r.Client.Cores))},
		report.Fact{Name: "client CPU an event", Value: report.Seconds(float64(r.Client.CPUPerEvent))})
}

func (r *result) errorTable() *report.Table {
	t := &report.Table{Title: "Errors", Columns: report.Columns("how", "requests")}
	for _, how := range slices.Sorted(maps.Keys(r.Details)) {
		t.Add(how, report.Count(r.Details[how]))
	}
	return t
}

// write writes the result for a terminal.
func (r *result) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b)
	if err := r.latencies().WriteText(&b); err != nil {
		return err
	}
	fmt.Fprintln(&b)
	if len(r.Details) > 0 {
		if err := r.errorTable().WriteText(&b); err != nil {
			return err
		}
		fmt.Fprintln(&b)
	}
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "%-27s %s\n", f.Name, f.Value)
	}
	fmt.Fprintf(&b, "%-27s %s\n", "good is", r.sloText())
	for _, text := range r.warnings() {
		fmt.Fprintf(&b, "! %s\n", text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cdf is the distribution function of one figure in several runs.
func cdf(title string, bound report.Number, names []string, of func(i int) []float64) *report.Chart {
	sorted := make([][]float64, len(names))
	for i := range names {
		sorted[i] = slices.DeleteFunc(of(i), math.IsNaN)
		slices.Sort(sorted[i])
	}
	return report.Distribution(title, "answered requests", max(0, float64(bound)), names, func(i int, q float64) float64 { return stats.Quantile(sorted[i], q) })
}

// course cuts the window into up to this many parts.
const courseParts = 40

// course shows the run over time.
func (r *result) course() []report.Part {
	window, warmup := float64(r.WindowSeconds), float64(r.WarmupSeconds)
	n := min(courseParts, max(1, r.Requests/10))
	type bin struct {
		ttft, hits []float64
		all, good  int
	}
	bins := make([]bin, n)
	for i, due := range r.Samples.Due {
		b := &bins[min(max(int((float64(due)-warmup)/window*float64(n)), 0), n-1)]
		b.all++
		b.good += r.Samples.Good[i]
		if v := float64(r.Samples.TTFT[i]); !math.IsNaN(v) {
			b.ttft = append(b.ttft, v)
		}
		if v := float64(r.Samples.Cached[i]); !math.IsNaN(v) {
			b.hits = append(b.hits, v)
		}
	}
	series := func(name string, of func(b *bin) float64) report.Series {
		s := report.Series{Name: name}
		for i := range bins {
			s.X = append(s.X, warmup+window*(float64(i)+0.5)/float64(n))
			s.Y = append(s.Y, of(&bins[i]))
		}
		return s
	}
	width := window / float64(n)
	x := report.Axis{Label: "time at which requests were due", Format: report.Seconds}
	quantile := func(q float64) func(*bin) float64 {
		return func(b *bin) float64 {
			slices.Sort(b.ttft)
			return stats.Quantile(b.ttft, q)
		}
	}
	parts := []report.Part{
		&report.Chart{Title: "TTFT over time", X: x, Y: report.Axis{Label: "TTFT", Format: report.Seconds, FromZero: true}, Series: []report.Series{
			series("p50", quantile(0.5)), series("p95", quantile(0.95)),
		}},
		&report.Chart{Title: "Requests over time", X: x, Y: report.Axis{Label: "requests a second", Format: report.PerSecond, FromZero: true}, Series: []report.Series{
			series("offered", func(b *bin) float64 { return float64(b.all) / width }),
			series("good", func(b *bin) float64 { return float64(b.good) / width }),
		}},
	}
	if !math.IsNaN(float64(r.HitRatio)) {
		parts = append(parts, &report.Chart{Title: "Prompt tokens cached over time", X: x, Y: report.Axis{Label: "mean over requests", Format: report.Percent, FromZero: true, To: 1}, Series: []report.Series{
			series("cached", func(b *bin) float64 { return stats.Mean(b.hits).Estimate }),
		}})
	}
	return parts
}

func (r *result) page() report.Page {
	p := report.Page{
		Title: "Load test of " + r.Model,
		Lead:  fmt.Sprintf("%s, sent to %s as %s over %s. Latency counts from the moment at which a request was due.", capital(r.Workload), r.URL, r.Endpoint, report.Seconds(float64(r.WindowSeconds))),
		Facts: r.facts(), Warnings: r.warnings(), Made: r.Began, Method: methods,
		Commands: []string{r.commandLine()},
	}
	p.Sections = append(p.Sections, report.Section{Title: "Latency", Note: "of " + report.Count(r.Answered) + " answered requests", Parts: []report.Part{
		r.latencies(),
		cdf("TTFT", r.SLO.TTFT, []string{r.Model}, func(int) []float64 { return floats(r.Samples.TTFT) }),
		cdf("TPOT", r.SLO.TPOT, []string{r.Model}, func(int) []float64 { return floats(r.Samples.TPOT) }),
	}})
	p.Sections = append(p.Sections, report.Section{Title: "Over time", Note: "good is " + r.sloText(), Parts: r.course()})
	if len(r.Details) > 0 {
		p.Sections = append(p.Sections, report.Section{Title: "Errors", Parts: []report.Part{r.errorTable()}})
	}
	return p
}

var methods = []string{
	"Open loop: a request is due when the workload says, however slow answers are. TTFT is from then to the first token, so that time spent waiting for a connection or for the client counts. A later turn of a chat is due when the answer before it is complete, if that is later.",
	"TPOT is the time from the first token to the last over the tokens after the first. ITL is each gap between two events that bring tokens; quantiles of it are within half a per cent.",
	"Goodput is requests that were answered completely within both bounds of the SLO, over the time in which the counted requests were due. A request that failed meets no bound, and is in no latency.",
	"A quantile is the smallest value that at least so many requests are not above.",
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func (r *result) commandLine() string { return report.CommandLine(command, r.Command) }

const command = "go run ./examples/loadtest"
