package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/inferloom/inferloom/accel"
)

// figures are relative errors of estimates, and how many measurements lie in their intervals.
type figures struct {
	errors []float64
	inside int
}

func (f *figures) add(measured time.Duration, e accel.Interval[time.Duration]) {
	f.errors = append(f.errors, math.Abs(float64(e.Value)/float64(measured)-1))
	if e.Low <= measured && measured <= e.High {
		f.inside++
	}
}

func (f *figures) quantile(q float64) float64 {
	slices.Sort(f.errors)
	if len(f.errors) == 0 {
		return math.NaN()
	}
	return f.errors[min(int(q*float64(len(f.errors))), len(f.errors)-1)]
}

func (f *figures) mean() float64 {
	sum := 0.
	for _, e := range f.errors {
		sum += e
	}
	return sum / float64(len(f.errors))
}

func (f *figures) coverage() float64 { return float64(f.inside) / float64(len(f.errors)) }

func (f *figures) String() string {
	return fmt.Sprintf("%5.1f | %5.1f | %5.1f | %5.1f", 100*f.quantile(.5), 100*f.mean(), 100*f.quantile(.9), 100*f.coverage())
}

// both are the figures of the two times.
type both struct{ tpot, ttft figures }

func (b *both) add(c *accel.Calibration, m measurement) error {
	e, err := c.Estimate(m.Deployment, m.Workload)
	if err != nil {
		return fmt.Errorf("%s: %w", m.config, err)
	}
	b.tpot.add(m.TPOT, e.TPOT)
	b.ttft.add(m.TTFT, e.TTFT)
	return nil
}

// held is whether a split holds a configuration out: one in five.
func held(seed int, config string) bool {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", seed, config)
	return h.Sum64()>>11%5 == 0
}

func points(ms []measurement) []accel.Point {
	out := make([]accel.Point, len(ms))
	for i, m := range ms {
		out[i] = m.Point
	}
	return out
}

func split(all []measurement, out func(measurement) bool) (rest, held []measurement) {
	for _, m := range all {
		if out(m) {
			held = append(held, m)
		} else {
			rest = append(rest, m)
		}
	}
	return rest, held
}

const tableHead = "| | rows | median % | mean % | p90 % | in interval % |\n|---|---|---|---|---|---|\n"

func line(w io.Writer, name string, f *figures) {
	fmt.Fprintf(w, "| %s | %d | %s |\n", name, len(f.errors), f)
}

// splits evaluates fits that have not seen the configurations that they estimate, for a number of seeds.
func splits(w io.Writer, all []measurement, seeds int) ([]both, error) {
	var out []both
	pooled := map[string]*both{}
	byEvidence := map[string]*both{}
	for seed := 1; seed <= seeds; seed++ {
		rest, test := split(all, func(m measurement) bool { return held(seed, m.config) })
		c, err := accel.Fit(points(rest))
		if err != nil {
			return nil, err
		}
		var b both
		for _, m := range test {
			groups := []string{"all"}
			if m.quant {
				groups = append(groups, "precision stated")
			}
			if m.quant && m.dp {
				groups = append(groups, "and attention_dp_size stated")
			}
			for _, g := range groups {
				if pooled[g] == nil {
					pooled[g] = &both{}
				}
				if err := pooled[g].add(c, m); err != nil {
					return nil, err
				}
			}
			if err := b.add(c, m); err != nil {
				return nil, err
			}
			e, _ := c.Estimate(m.Deployment, m.Workload)
			k := "evidence: " + e.Evidence.String()
			if byEvidence[k] == nil {
				byEvidence[k] = &both{}
			}
			_ = byEvidence[k].add(c, m)
		}
		out = append(out, b)
	}
	for _, q := range []struct {
		name string
		of   func(*both) *figures
	}{{"TPOT", func(b *both) *figures { return &b.tpot }}, {"TTFT", func(b *both) *figures { return &b.ttft }}} {
		fmt.Fprintf(w, "\n%s, configurations held out\n\n%s", q.name, tableHead)
		for i := range out {
			line(w, fmt.Sprintf("split %d", i+1), q.of(&out[i]))
		}
		for _, g := range []string{"all", "precision stated", "and attention_dp_size stated"} {
			line(w, "splits together: "+g, q.of(pooled[g]))
		}
		for _, k := range slices.Sorted(maps.Keys(byEvidence)) {
			line(w, k, q.of(byEvidence[k]))
		}
	}
	return out, nil
}

// leaveOut evaluates fits that have not seen anything of a group.
func leaveOut(w io.Writer, title string, all []measurement, group func(measurement) string) error {
	names := map[string]bool{}
	for _, m := range all {
		names[group(m)] = true
	}
	var pooled both
	of := map[string]*both{}
	for name := range names {
		rest, test := split(all, func(m measurement) bool { return group(m) == name })
		c, err := accel.Uncalibrated().Calibrate(points(rest)) // without intervals
		if err != nil {
			return err
		}
		of[name] = &both{}
		for _, m := range test {
			if err := of[name].add(c, m); err != nil {
				return err
			}
			_ = pooled.add(c, m)
		}
	}
	fmt.Fprintf(w, "\n%s (median / mean / p90 %%)\n\n| | rows | TPOT | TTFT |\n|---|---|---|---|\n", title)
	of["together"] = &pooled
	for _, name := range slices.Sorted(maps.Keys(of)) {
		b := of[name]
		short := func(f *figures) string {
			return fmt.Sprintf("%.1f / %.1f / %.1f", 100*f.quantile(.5), 100*f.mean(), 100*f.quantile(.9))
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s |\n", name, len(b.tpot.errors), short(&b.tpot), short(&b.ttft))
	}
	return nil
}

// peak evaluates what is physically possible: every part at its peak, no overhead.
func peak(w io.Writer, all []measurement) error {
	var b both
	for _, m := range all {
		e, err := accel.Uncalibrated().Estimate(m.Deployment, m.Workload)
		if err != nil {
			return fmt.Errorf("%s: %w", m.config, err)
		}
		e.TPOT.Value, e.TTFT.Value = e.TPOT.Low, e.TTFT.Low
		b.tpot.add(m.TPOT, e.TPOT)
		b.ttft.add(m.TTFT, e.TTFT)
	}
	line(w, "all at peak, TPOT", &b.tpot)
	line(w, "all at peak, TTFT", &b.ttft)
	return nil
}

// plain evaluates a calibration as it is.
func plain(w io.Writer, name string, c *accel.Calibration, all []measurement) (both, error) {
	var b both
	for _, m := range all {
		if err := b.add(c, m); err != nil {
			return b, err
		}
	}
	line(w, name+", TPOT", &b.tpot)
	line(w, name+", TTFT", &b.ttft)
	return b, nil
}
