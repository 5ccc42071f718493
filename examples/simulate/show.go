package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

// table is a row a policy, with means over the seeds.
func (c *comparison) table() *report.Table {
	t := &report.Table{
		Title: "Policies", Columns: report.Columns("policy", "bears", "load", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95", "goodput", "good", "prefix hits", "imbalance", "not completed"),
		Note: fmt.Sprintf("Means over %d seeds. Bears: the rate that the policy can just keep up with. Load: the rate of the comparison as a share of that; above %s no latency is given. "+
			"Imbalance: the standard deviation of requests on the endpoints over their mean.", c.seeds, report.Percent(latencyLimit)),
	}
	for _, k := range c.contenders {
		cell := func(key string) string {
			i := slices.IndexFunc(metrics, func(m metric) bool { return m.key == key })
			return metrics[i].format(stats.Mean(k.values(metrics[i])).Estimate)
		}
		load := report.Percent(k.load)
		if k.overloaded() {
			load += " !"
		}
		t.Add(k.policy.Name, report.PerSecond(k.capRate), load, cell("ttft_p50_s"), cell("ttft_p95_s"), cell("tpot_p50_s"), cell("tpot_p95_s"),
			cell("goodput_per_s"), cell("good_share"), cell("hit_ratio"), cell("imbalance"), cell("errors"))
	}
	return t
}

// differences are those of all others to the baseline: of figures by ratio, and of shares.
func (c *comparison) differences() (ratios, shares *report.Differences, err error) {
	base := c.base()
	note := fmt.Sprintf("Each seed's difference is taken between runs with the same requests; the interval is Student's t over %d seeds.", c.seeds)
	if c.config.traffic.Trace != "" {
		note += " With a trace, seeds move requests by up to a second: the intervals do not say what other traffic would change."
	}
	ratios = &report.Differences{Title: "Against " + base.policy.Name, Note: note, Format: report.Change, None: 1, Log: true}
	shares = &report.Differences{Title: "Shares, against " + base.policy.Name, Format: report.Points}
	for _, k := range c.contenders {
		if k == base {
			continue
		}
		for _, m := range metrics {
			if m.latency && (k.overloaded() || base.overloaded()) {
				continue
			}
			i, err := difference(base, k, m)
			if err != nil {
				return nil, nil, err
			}
			into := ratios
			if m.share {
				into = shares
			}
			into.Rows = append(into.Rows, report.Difference{Group: k.policy.Name, Name: m.name, Interval: i, Better: m.better})
		}
	}
	return ratios, shares, nil
}

// sweepTable is goodput by load.
func (c *comparison) sweepTable() *report.Table {
	t := &report.Table{
		Title: "Goodput by load", Columns: []report.Column{{Name: "load", Words: true}, {Name: "offered"}},
		Note: fmt.Sprintf("Requests within the SLO a second, with 95 %% intervals over %d seeds. Load is a share of what the weakest policy bears. The simulation goes on for two minutes behind the last arrival.", c.seeds),
	}
	for _, k := range c.contenders {
		t.Columns = append(t.Columns, report.Column{Name: k.policy.Name})
	}
	for _, p := range c.sweep {
		cells := []string{report.Percent(p.load), report.PerSecond(p.offered)}
		for i := range c.contenders {
			v := goodput(p.runs[i])
			cells = append(cells, fmt.Sprintf("%s ±%.2g", report.PerSecond(v.Estimate), v.High-v.Estimate))
		}
		t.Add(cells...)
	}
	return t
}

func goodput(runs []*figures) stats.Interval {
	v := make([]float64, len(runs))
	for i, f := range runs {
		v[i] = f.goodput
	}
	return stats.Mean(v)
}

// warnings say what makes the figures less than they seem.
func (c *comparison) warnings() []string {
	var w []string
	for _, k := range c.contenders {
		if k.overloaded() {
			w = append(w, fmt.Sprintf("%s is at %s of what it bears: its latency grows for as long as one looks, so that none is given. Its goodput counts.", k.policy.Name, report.Percent(k.load)))
		}
	}
	if c.seeds < 10 {
		w = append(w, fmt.Sprintf("%d seeds are few; intervals are wide, and under ten not to be trusted where figures are skewed.", c.seeds))
	}
	if n := c.contenders[0].runs[0].requests; n < 500 {
		w = append(w, fmt.Sprintf("%d measured requests in a run are few: a 99th percentile rests on %d of them. -duration makes runs longer.", n, n/100))
	}
	return w
}

// intro says in a few lines what is compared.
func (c *comparison) intro() string {
	return fmt.Sprintf("%d SIMULATED engines; %s. Compared at %s/s, %d seeds, %s after a warm-up of %v.",
		c.endpoints, c.traffic, report.Plain(c.offered), c.seeds, c.window(), c.warmup)
}

func (c *comparison) window() string {
	if c.duration > 0 {
		return (c.duration - c.warmup).String()
	}
	return "all of the trace"
}

func (c *comparison) sloText() string {
	var parts []string
	for _, b := range []struct {
		name string
		v    time.Duration
	}{{"TTFT", c.slo.TTFT}, {"TPOT", c.slo.TPOT}} {
		if b.v > 0 {
			parts = append(parts, b.name+" up to "+report.Seconds(b.v.Seconds()))
		}
	}
	if len(parts) == 0 {
		return "any complete answer"
	}
	return "a complete answer with " + strings.Join(parts, " and ")
}

// write writes all for a terminal.
func (c *comparison) write(w io.Writer) error {
	ratios, shares, err := c.differences()
	if err != nil {
		return err
	}
	parts := []interface{ WriteText(io.Writer) error }{c.table()}
	if len(c.contenders) > 1 {
		parts = append(parts, ratios, shares)
	}
	if len(c.sweep) > 0 {
		parts = append(parts, c.sweepTable())
	}
	if c.tuned != nil {
		parts = append(parts, c.tuned.table(c.objective))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nGood is %s.\n", c.intro(), c.sloText())
	for _, p := range parts {
		fmt.Fprintln(&b)
		if err := p.WriteText(&b); err != nil {
			return err
		}
	}
	for _, text := range c.warnings() {
		fmt.Fprintf(&b, "! %s\n", text)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// cdf is the distribution function of each policy that is not overloaded, over all seeds.
func (c *comparison) cdf(title string, bound time.Duration, of func(*figures) *stats.Histogram) *report.Chart {
	var names []string
	var all []*stats.Histogram
	for _, k := range c.contenders {
		if k.overloaded() {
			continue
		}
		h := new(stats.Histogram)
		for _, f := range k.runs {
			h.Merge(of(f))
		}
		names, all = append(names, k.policy.Name), append(all, h)
	}
	return report.Distribution(title, "completed requests", bound.Seconds(), names, func(i int, q float64) float64 { return quantile(all[i], q) })
}

// course is a figure over time, the mean over seeds.
func (c *comparison) course(title, label string, format report.Format, of func(sample) float64) *report.Chart {
	chart := &report.Chart{Title: title, X: report.Axis{Label: "simulated time", Format: report.Seconds}, Y: report.Axis{Label: label, Format: format, FromZero: true}}
	for _, k := range c.contenders {
		sums, counts := map[time.Duration]float64{}, map[time.Duration]int{}
		for _, f := range k.runs {
			for _, s := range f.samples {
				if v := of(s); !math.IsNaN(v) && (c.duration == 0 || s.at <= c.duration) {
					sums[s.at] += v
					counts[s.at]++
				}
			}
		}
		var at []time.Duration
		for t := range sums {
			at = append(at, t)
		}
		slices.SortFunc(at, cmp.Compare[time.Duration])
		every := max(1, len(at)/120)
		s := report.Series{Name: k.policy.Name}
		for i := 0; i < len(at); i += every {
			s.X = append(s.X, at[i].Seconds())
			s.Y = append(s.Y, sums[at[i]]/float64(counts[at[i]]))
		}
		chart.Series = append(chart.Series, s)
	}
	return chart
}

func (c *comparison) sweepChart() *report.Chart {
	chart := &report.Chart{
		Title: "Goodput against load", Wide: true, Note: "Bands are 95 % intervals over the seeds.",
		X: report.Axis{Label: "offered requests a second", Format: report.PerSecond},
		Y: report.Axis{Label: "requests a second within the SLO", Format: report.PerSecond, FromZero: true},
	}
	for i, k := range c.contenders {
		s := report.Series{Name: k.policy.Name}
		for _, p := range c.sweep {
			v := goodput(p.runs[i])
			s.X, s.Y = append(s.X, p.offered), append(s.Y, v.Estimate)
			s.Low, s.High = append(s.Low, v.Low), append(s.High, v.High)
		}
		chart.Series = append(chart.Series, s)
	}
	return chart
}

func (c *comparison) page(began time.Time) (report.Page, error) {
	ratios, shares, err := c.differences()
	if err != nil {
		return report.Page{}, err
	}
	p := report.Page{
		Title: "Policies compared in simulation", Lead: capital(c.traffic) + ". The scheduler is the production code; the engines, the network and time are simulated.",
		Facts: []report.Fact{
			{Name: "simulated engines", Value: report.Count(c.endpoints)}, {Name: "offered", Value: report.PerSecond(c.offered)},
			{Name: "requests in a run", Value: report.Count(c.contenders[0].runs[0].requests)}, {Name: "seeds", Value: report.Count(c.seeds)},
		},
		Warnings: c.warnings(), Modelled: modelled, NotModelled: notModelled, Made: began,
		Method: append(slices.Clone(methods), "Good is "+c.sloText()+"."), Commands: []string{report.CommandLine("go run ./examples/simulate", c.args)},
	}
	parts := []report.Part{c.table()}
	if len(c.contenders) > 1 {
		if len(ratios.Rows) > 0 {
			parts = append(parts, ratios)
		}
		parts = append(parts, shares)
	}
	p.Sections = append(p.Sections, report.Section{Title: "Comparison", Note: fmt.Sprintf("at %s, %d seeds, the same requests for all", report.PerSecond(c.offered), c.seeds), Parts: parts})
	p.Sections = append(p.Sections, report.Section{Title: "Latency", Note: "of completed requests, all seeds together", Parts: []report.Part{
		c.cdf("TTFT", c.slo.TTFT, func(f *figures) *stats.Histogram { return &f.ttft }),
		c.cdf("TPOT", c.slo.TPOT, func(f *figures) *stats.Histogram { return &f.tpot }),
	}})
	if len(c.sweep) > 0 {
		p.Sections = append(p.Sections, report.Section{Title: "Load", Note: "under overload only goodput says something", Parts: []report.Part{c.sweepChart(), c.sweepTable()}})
	}
	p.Sections = append(p.Sections, report.Section{Title: "Over time", Note: "means over the seeds", Parts: []report.Part{
		c.course("Prefix hits", "share of prompt tokens", report.Percent, func(s sample) float64 { return s.hits }),
		c.course("Load imbalance", "deviation over mean", report.Plain, func(s sample) float64 { return s.imbalance }),
		c.course("Requests in flight", "on all endpoints", report.Plain, func(s sample) float64 { return s.inFlight }),
	}})
	if c.tuned != nil {
		p.Sections = append(p.Sections, report.Section{Title: "Tuning", Note: "of the default policy's weights for " + c.objective.metric.name, Parts: []report.Part{c.tuned.chart(), c.tuned.table(c.objective)}})
	}
	return p, nil
}

// chart shows the finalists by what they trade.
func (t *tuned) chart() *report.Chart {
	chart := &report.Chart{
		Title: "Finalists", Wide: true, Note: "Each point is a combination of weights; the line is the Pareto front. Lower and further left is better.",
		X: report.Axis{Label: "TTFT p95", Format: report.Seconds, Room: true}, Y: report.Axis{Label: "TPOT p95", Format: report.Seconds, Room: true},
	}
	var front report.Series
	for i, c := range t.finalists {
		x, y := mean(c.held, func(f *figures) float64 { return f.ttft95 }), mean(c.held, func(f *figures) float64 { return f.tpot95 })
		name := fmt.Sprintf("number %d", i+1)
		if c == t.defaults {
			name = "default"
		}
		chart.Series = append(chart.Series, report.Series{Name: name, X: []float64{x}, Y: []float64{y}})
		if c.front {
			front.X, front.Y = append(front.X, x), append(front.Y, y)
		}
	}
	if len(front.X) > 1 {
		order := make([]int, len(front.X))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(front.X[a], front.X[b]) })
		line := report.Series{Name: "Pareto front"}
		for _, i := range order {
			line.X, line.Y = append(line.X, front.X[i]), append(line.Y, front.Y[i])
		}
		chart.Series = append(chart.Series, line)
	}
	return chart
}

var (
	modelled = append([]string{
		"The scheduler under test is the production code: filters, scorers, picker, ledger and prefix index; so is its view of the engines, as old as -scrape says",
		"Later turns of a chat wait for the answer to the turn before",
	}, engine.Modelled...)
	notModelled = append([]string{
		"The network, and the gateway's own time: they take no time here; clients that give up or try again",
	}, engine.NotModelled...)
	methods = []string{
		"Each policy meets the same requests at the same times, once for each seed; differences are taken seed by seed, so that what makes a seed hard for all does not widen the interval. Intervals contain the truth with a probability of 95 % each; with twenty, expect one to miss.",
		"What a policy bears is found by bisection, to 5 %, on traffic of seeds that the comparison does not use (the median of three; one with a trace): the greatest rate at which, in the second half of a run, as many requests complete as arrive, but for 2 %. In runs of minutes it can be off by a tenth.",
		"Latency is given up to 95 % of that. Above, queues grow for as long as one looks, and any latency could be had by choosing the length of the run; then goodput is compared, with two minutes after the last arrival to complete.",
		"A quantile of a run is within 0.8 % of a value that occurred; figures of a policy are means over its runs. Latency is of completed requests only, which is why the share of those not completed is beside it.",
	}
)

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func splitList(s string) []string { return strings.Split(s, ",") }
