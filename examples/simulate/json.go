package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

const resultFormat = "inferloom-simulate-1"

type interval struct {
	Estimate report.Number `json:"estimate"`
	Low      report.Number `json:"low"`
	High     report.Number `json:"high"`
}

func intervalOf(i stats.Interval) interval {
	return interval{report.Number(i.Estimate), report.Number(i.Low), report.Number(i.High)}
}

func numbers(v []float64) []report.Number {
	n := make([]report.Number, len(v))
	for i, x := range v {
		n[i] = report.Number(x)
	}
	return n
}

// writeJSON writes all figures. Latencies of overloaded policies are null; runs are in order of the seeds.
func (c *comparison) writeJSON(w io.Writer, began time.Time) error {
	type policy struct {
		Name       string                     `json:"name"`
		Capacity   report.Number              `json:"bears_per_s"`
		Load       report.Number              `json:"load"`
		Overloaded bool                       `json:"overloaded"`
		Mean       map[string]interval        `json:"mean"`
		Runs       map[string][]report.Number `json:"runs"`
	}
	type row struct {
		Policy  string   `json:"policy"`
		Figure  string   `json:"figure"`
		Unit    string   `json:"unit"` // ratio, or difference of shares
		Value   interval `json:"value"`
		Verdict string   `json:"verdict"`
	}
	type point struct {
		Load    report.Number       `json:"load"`
		Offered report.Number       `json:"offered_per_s"`
		Goodput map[string]interval `json:"goodput_per_s"`
	}
	type tunedRow struct {
		Weights map[string]float64 `json:"weights"`
		Default bool               `json:"default"`
		TTFT95  report.Number      `json:"ttft_p95_s"`
		TPOT95  report.Number      `json:"tpot_p95_s"`
		Good    report.Number      `json:"good_share"`
		Against interval           `json:"objective_against_default"`
		Front   bool               `json:"pareto_front"`
	}
	out := struct {
		Format      string        `json:"format"`
		Simulated   bool          `json:"simulated"`
		Traffic     string        `json:"traffic"`
		Endpoints   int           `json:"endpoints"`
		Seeds       int           `json:"seeds"`
		Offered     report.Number `json:"offered_per_s"`
		Baseline    string        `json:"baseline"`
		Policies    []policy      `json:"policies"`
		Differences []row         `json:"differences"`
		Sweep       []point       `json:"sweep,omitempty"`
		Tuned       []tunedRow    `json:"tuned,omitempty"`
		Warnings    []string      `json:"warnings"`
		Command     []string      `json:"command"`
		Versions    string        `json:"versions"`
		Began       time.Time     `json:"began"`
	}{
		Format: resultFormat, Simulated: true, Traffic: c.traffic, Endpoints: c.endpoints, Seeds: c.seeds, Offered: report.Number(c.offered),
		Baseline: c.base().policy.Name, Differences: []row{}, Warnings: append([]string{}, c.warnings()...), Command: c.args, Versions: report.Versions(), Began: began,
	}
	for _, k := range c.contenders {
		p := policy{Name: k.policy.Name, Capacity: report.Number(k.capRate), Load: report.Number(k.load), Overloaded: k.overloaded(), Mean: map[string]interval{}, Runs: map[string][]report.Number{}}
		for _, m := range metrics {
			v := k.values(m)
			p.Mean[m.key], p.Runs[m.key] = intervalOf(stats.Mean(v)), numbers(v)
		}
		out.Policies = append(out.Policies, p)
	}
	ratios, shares, err := c.differences()
	if err != nil {
		return err
	}
	for _, d := range []struct {
		unit string
		*report.Differences
	}{{"ratio", ratios}, {"difference", shares}} {
		for _, r := range d.Rows {
			out.Differences = append(out.Differences, row{r.Group, r.Name, d.unit, intervalOf(r.Interval), d.Verdict(r)})
		}
	}
	for _, p := range c.sweep {
		at := point{Load: report.Number(p.load), Offered: report.Number(p.offered), Goodput: map[string]interval{}}
		for i, k := range c.contenders {
			at.Goodput[k.policy.Name] = intervalOf(goodput(p.runs[i]))
		}
		out.Sweep = append(out.Sweep, at)
	}
	if t := c.tuned; t != nil {
		for _, k := range t.finalists {
			diff, _ := t.against(k, c.objective)
			r := tunedRow{
				Weights: map[string]float64{}, Default: k == t.defaults, Front: k.front, Against: intervalOf(diff),
				TTFT95: report.Number(mean(k.held, func(f *figures) float64 { return f.ttft95 })),
				TPOT95: report.Number(mean(k.held, func(f *figures) float64 { return f.tpot95 })),
				Good:   report.Number(mean(k.held, func(f *figures) float64 { return f.goodShare })),
			}
			for i, name := range t.names {
				r.Weights[name] = k.weights[i]
			}
			out.Tuned = append(out.Tuned, r)
		}
	}
	return json.NewEncoder(w).Encode(out)
}
