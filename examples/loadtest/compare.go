package main

import (
	"fmt"
	"io"
	"math"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

// comparison is two runs with the differences between them.
type comparison struct {
	old, new *result
	// latency is the new run's over the old one's, shares is new less old.
	latency, shares *report.Differences
}

// meaning says what the intervals are, and what they are not.
var meaning = []string{
	"Intervals are of a block bootstrap over the requests of each run, in blocks as long as the run remembers (requests that are due together are slow together). They say what another stretch of the same traffic against the same servers would change. They do not say what another start of the server, another machine or another hour would: for that, repeat both runs.",
	"Each interval contains the truth with a probability of about 95 %; of twenty comparisons without any difference, one is expected to show one.",
}

func compare(old, new *result) *comparison {
	c := &comparison{old: old, new: new}
	// One block length for all figures of a run: the longest that any of them needs.
	block := func(r *result) int {
		b := 1
		for _, column := range [][]report.Number{r.Samples.TTFT, r.Samples.TPOT, r.Samples.E2E} {
			b = max(b, stats.BlockLength(floats(column)))
		}
		return b
	}
	blocks := [2]int{block(old), block(new)}
	series := func(r *result, i int, s stats.Statistic) stats.Series {
		return stats.Series{Length: len(r.Samples.Due), Block: blocks[i], Statistic: s}
	}
	boot := stats.Bootstrap{Seed: 1}
	c.latency = &report.Differences{
		Title: "Latency, new against old", Format: report.Change, None: 1, Log: true,
		Note: fmt.Sprintf("95 %% intervals by the block bootstrap, in blocks of %d and %d requests.", blocks[0], blocks[1]),
	}
	for _, figure := range []struct {
		name   string
		column func(*result) []float64
	}{
		{"TTFT", func(r *result) []float64 { return floats(r.Samples.TTFT) }},
		{"TPOT", func(r *result) []float64 { return floats(r.Samples.TPOT) }},
		{"end to end", func(r *result) []float64 { return floats(r.Samples.E2E) }},
	} {
		a, b := figure.column(old), figure.column(new)
		add := func(name string, of func(values []float64) stats.Statistic) {
			c.latency.Rows = append(c.latency.Rows, report.Difference{
				Group: figure.name, Name: name, Better: -1, Interval: boot.Ratio(series(old, 0, of(a)), series(new, 1, of(b))),
			})
		}
		add("mean", stats.MeanOf)
		for _, q := range []float64{0.5, 0.95, 0.99} {
			if q == 0.99 && min(len(a), len(b)) < 500 {
				continue // it would rest on fewer than five requests
			}
			add(fmt.Sprintf("p%.0f", 100*q), func(values []float64) stats.Statistic { return stats.QuantileOf(values, q) })
		}
	}
	c.shares = &report.Differences{Title: "Shares, new against old", Format: report.Points}
	add := func(name string, of func(*result) []float64) {
		c.shares.Rows = append(c.shares.Rows, report.Difference{Name: name, Group: "share of requests", Better: 1,
			Interval: boot.Difference(series(old, 0, stats.MeanOf(of(old))), series(new, 1, stats.MeanOf(of(new))))})
	}
	add("answered", func(r *result) []float64 {
		v := floats(r.Samples.TTFT)
		for i := range v {
			v[i] = oneIf(!math.IsNaN(v[i]))
		}
		return v
	})
	add("good", func(r *result) []float64 {
		v := make([]float64, len(r.Samples.Good))
		for i, good := range r.Samples.Good {
			v[i] = float64(good)
		}
		return v
	})
	if !math.IsNaN(float64(old.HitRatio)) && !math.IsNaN(float64(new.HitRatio)) {
		add("cached part of the prompt, mean", func(r *result) []float64 { return floats(r.Samples.Cached) })
	}
	return c
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// table is both runs side by side.
func (c *comparison) table() *report.Table {
	t := &report.Table{Title: "Runs", Columns: report.Columns("", "old", "new")}
	add := func(name string, of func(r *result) string) { t.Add(name, of(c.old), of(c.new)) }
	add("began", func(r *result) string { return r.Began.UTC().Format("2006-01-02 15:04:05") })
	add("requests", func(r *result) string { return report.Count(r.Requests) })
	add("answered", func(r *result) string { return share(r.Answered, r.Requests) })
	add("offered", func(r *result) string { return report.PerSecond(float64(r.Offered)) })
	add("goodput", func(r *result) string { return report.PerSecond(float64(r.Goodput)) })
	add("output tokens", func(r *result) string { return report.PerSecond(float64(r.OutputRate)) })
	add("prompt tokens cached", func(r *result) string { return report.Percent(float64(r.HitRatio)) })
	add("TTFT p50", func(r *result) string { return report.Seconds(float64(r.TTFT.P50)) })
	add("TTFT p95", func(r *result) string { return report.Seconds(float64(r.TTFT.P95)) })
	add("TPOT p50", func(r *result) string { return report.Seconds(float64(r.TPOT.P50)) })
	add("TPOT p95", func(r *result) string { return report.Seconds(float64(r.TPOT.P95)) })
	add("client late by, p99", func(r *result) string { return report.Seconds(float64(r.Client.Lag.P99)) })
	return t
}

// warnings say what else is different between the runs.
func (c *comparison) warnings() []string {
	var w []string
	for _, d := range []struct{ what, old, new string }{
		{"workload", c.old.Workload, c.new.Workload},
		{"model", c.old.Model, c.new.Model},
		{"endpoint", c.old.Endpoint, c.new.Endpoint},
		{"SLO", c.old.sloText(), c.new.sloText()},
	} {
		if d.old != d.new {
			w = append(w, fmt.Sprintf("the runs have not the same %s: %s, and %s. Differences may be due to that.", d.what, d.old, d.new))
		}
	}
	if a, b := float64(c.old.HitRatio), float64(c.new.HitRatio); math.Abs(a-b) > 0.1 {
		w = append(w, fmt.Sprintf("%s of the prompt tokens were cached in the old run and %s in the new one. A second run of the same workload with the same -seed finds the prompts of the first in the server's caches: restart it in between, or change -seed.",
			report.Percent(a), report.Percent(b)))
	}
	for _, r := range []struct {
		name string
		*result
	}{{"old", c.old}, {"new", c.new}} {
		for _, text := range r.warnings() {
			w = append(w, r.name+" run: "+text)
		}
	}
	return w
}

func (c *comparison) write(w io.Writer) error {
	for _, part := range []interface{ WriteText(io.Writer) error }{c.table(), c.latency, c.shares} {
		if err := part.WriteText(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	for _, text := range c.warnings() {
		fmt.Fprintf(w, "! %s\n", text)
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n", meaning[0], meaning[1])
	return err
}

// comparisonJSON is a difference for machines.
type comparisonJSON struct {
	Figure   string        `json:"figure"`
	Unit     string        `json:"unit"` // ratio: new over old; difference: new less old, of shares
	Estimate report.Number `json:"estimate"`
	Low      report.Number `json:"low"`
	High     report.Number `json:"high"`
	Verdict  string        `json:"verdict"`
}

func (c *comparison) rows() []comparisonJSON {
	rows := []comparisonJSON{}
	for _, d := range []struct {
		unit string
		*report.Differences
	}{{"ratio", c.latency}, {"difference", c.shares}} {
		for _, r := range d.Rows {
			i := r.Interval
			rows = append(rows, comparisonJSON{r.Group + " " + r.Name, d.unit, report.Number(i.Estimate), report.Number(i.Low), report.Number(i.High), d.Verdict(r)})
		}
	}
	return rows
}

func (c *comparison) page(args []string) report.Page {
	names := []string{"old", "new"}
	runs := []*result{c.old, c.new}
	chart := func(title string, bound report.Number, of func(*result) []report.Number) *report.Chart {
		return cdf(title, bound, names, func(i int) []float64 { return floats(of(runs[i])) })
	}
	return report.Page{
		Title: "Two load tests compared", Lead: "Old: " + c.old.Workload + ", " + c.old.URL + ". New: " + c.new.Workload + ", " + c.new.URL + ".",
		Warnings: c.warnings(), Made: c.new.Began,
		Sections: []report.Section{
			{Title: "Differences", Note: "95 % intervals", Parts: []report.Part{c.latency, c.shares, c.table()}},
			{Title: "Distributions", Parts: []report.Part{
				chart("TTFT", c.new.SLO.TTFT, func(r *result) []report.Number { return r.Samples.TTFT }),
				chart("TPOT", c.new.SLO.TPOT, func(r *result) []report.Number { return r.Samples.TPOT }),
			}},
		},
		Method:   append(append([]string{}, meaning...), methods...),
		Commands: []string{c.old.commandLine(), c.new.commandLine(), report.CommandLine(command, args)},
	}
}
