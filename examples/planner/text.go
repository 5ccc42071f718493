package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

func (a *answer) printText(w io.Writer) error {
	var b strings.Builder
	for i := range a.searches {
		if i > 0 {
			b.WriteString("\n")
		}
		a.searches[i].print(&b)
	}
	if a.placement != nil {
		a.placement.print(&b, a.best())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *search) print(b *strings.Builder) {
	p, r := &s.problem, s.result
	fmt.Fprintf(b, "%s on %d x %s, %v", p.Model.Name, p.Accelerators, p.System.Accelerator.Title, p.Engine)
	if p.Role != plan.Both {
		fmt.Fprintf(b, ", %v only", p.Role)
	}
	fmt.Fprintf(b, "\n%d tokens in", p.Input)
	if p.Cached > 0 {
		fmt.Fprintf(b, " (%d cached)", p.Cached)
	}
	fmt.Fprintf(b, ", %d out", p.Output)
	if p.Rate > 0 {
		fmt.Fprintf(b, ", %g requests/s", p.Rate)
	}
	if p.TTFT > 0 {
		fmt.Fprintf(b, ", TTFT at most %v", p.TTFT)
	}
	if p.TPOT > 0 {
		fmt.Fprintf(b, ", TPOT at most %v", p.TPOT)
	}
	b.WriteString("\n\n")

	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\tplan\tinstances\tkernel\tKV\tbatch\t"+unit(p)+"\tTTFT\tTPOT\t")
	if p.Price > 0 {
		fmt.Fprint(t, "cost/M\t")
	}
	fmt.Fprintln(t, "limit\tmost time")
	for i := range r.Plans {
		q := &r.Plans[i]
		instances := fmt.Sprint(q.Replicas)
		if q.Idle > 0 {
			instances += fmt.Sprintf(" (%d idle)", q.Idle)
		}
		ttft, tpot := duration(q.Estimate.TTFT), duration(q.Estimate.TPOT)
		if p.Role == plan.Decode {
			ttft = "-"
		}
		if p.Role == plan.Prefill {
			tpot = "-"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%v\t%d\t%s\t%s\t%s\t", i+1, q, instances, kernel(q), q.Deployment.Precision.KV,
			q.Deployment.MaxSequences, number(q.PerAccelerator, "%.0f"), ttft, tpot)
		if p.Price > 0 {
			fmt.Fprintf(t, "%s\t", number(q.Cost, "%.2f"))
		}
		fmt.Fprintf(t, "%s\t%v\n", q.Limit, q.Bottleneck)
	}
	t.Flush()

	best := &r.Plans[0]
	if len(best.Unmet) > 0 {
		fmt.Fprintf(b, "\nNothing meets every target. Plan 1 misses: %s.\n", strings.Join(best.Unmet, "; "))
	}
	fmt.Fprintf(b, "\nMemory of a device under plan 1, in GiB: %s.\n", memory(best.Memory))
	b.WriteString(evidence(best) + "\n")
	fmt.Fprintf(b, "%d cuts of the model, %d of them legal, %d estimates in %v", r.Cuts, r.Legal, r.Estimates, s.took.Round(time.Millisecond))
	if len(r.Refused) == 0 {
		b.WriteString("\n")
		return
	}
	b.WriteString("; refused:\n")
	t = tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, f := range r.Refused {
		fmt.Fprintf(t, "  %d\t%v\t%s\n", f.Cuts, f.Reason, f.Nearest)
	}
	t.Flush()
}

func unit(p *plan.Problem) string {
	if p.Role == plan.Prefill {
		return "tokens in/s each"
	}
	return "tokens/s each"
}

func kernel(p *plan.Plan) string {
	if p.Deployment.Parallelism.EP <= 1 || p.Deployment.Parallelism.DP <= 1 {
		return "-"
	}
	k := p.Deployment.AllToAll.String()
	if p.Deployment.TwoBatchOverlap {
		k += ", overlap"
	}
	return k
}

// duration and number write a value and the range that it may turn out in.
func duration(i accel.Interval[time.Duration]) string {
	return fmt.Sprintf("%s (%s-%s)", short(i.Value), short(i.Low), short(i.High))
}

func number(i accel.Interval[float64], format string) string {
	return fmt.Sprintf(format+" ("+format+"-"+format+")", i.Value, i.Low, i.High)
}

// short has three digits.
func short(d time.Duration) string {
	unit, s := time.Second, "s"
	if d < time.Second {
		unit, s = time.Millisecond, "ms"
	}
	v := float64(d) / float64(unit)
	digits := 2
	for x := v; x >= 10 && digits > 0; x /= 10 {
		digits--
	}
	return fmt.Sprintf("%.*f%s", digits, v, s)
}

func memory(m accel.Memory) string {
	var parts []string
	for _, p := range []struct {
		name  string
		bytes int64
	}{
		{"weights", m.Weights}, {"experts", m.Experts}, {"activations", m.Activations}, {"all-to-all buffers", m.AllToAll},
		{"reserve", m.Reserve}, {"KV cache", m.KVBudget},
	} {
		if p.bytes != 0 {
			parts = append(parts, fmt.Sprintf("%s %.1f", p.name, float64(p.bytes)/(1<<30)))
		}
	}
	return fmt.Sprintf("%s; of %.1f", strings.Join(parts, ", "), float64(m.Total)/(1<<30))
}

func evidence(p *plan.Plan) string {
	switch p.Estimate.Evidence {
	case accel.NoEvidence:
		return "Uncalibrated: nothing of this engine on this system has been measured. Lows and highs are bounds."
	case accel.EngineMeasured:
		return "Calibrated with other models on this engine and system; nine in ten measurements like those are in the ranges."
	case accel.ModelMeasured:
		return "Calibrated with this model on this engine and system, cut in another way; nine in ten measurements are in the ranges."
	}
	return "Calibrated with measurements of this deployment; nine in ten are in the ranges."
}

func (p *placement) print(b *strings.Builder, best *plan.Plan) {
	c := p.experts.Cluster
	fmt.Fprintf(b, "\nExperts: %d of each of %d layers in %d slots of each of %d ranks on %d nodes\n", p.experts.Experts, p.experts.Layers, c.SlotsPerGPU, c.GPUs, max(c.Nodes, 1))
	if m := p.migration; m != nil {
		fmt.Fprintf(b, "Balance was %.3f and becomes %.3f with %d copies of %.2f GiB in all, %d of them repairs\n", m.Before, m.Balance, m.Transfers, float64(m.Bytes)/(1<<30), m.Repairs)
	} else {
		fmt.Fprintf(b, "Balance %.3f, worst layer %.3f; no placement has more than %.3f\n", p.report.Balance, p.report.Worst, p.report.Bound)
	}
	for _, u := range p.report.Unmet[:min(3, len(p.report.Unmet))] {
		fmt.Fprintf(b, "Not met: %s\n", u)
	}
	if n := len(p.report.Unmet); n > 3 {
		fmt.Fprintf(b, "Not met: %d more\n", n-3)
	}
	loss(b, "rank", p.ranks)
	loss(b, "node", p.nodes)
}

// loss sums up what single losses would mean.
func loss(b *strings.Builder, what string, s []plan.Survivor) {
	if len(s) == 0 {
		return
	}
	worst, refit := s[0], true
	for _, u := range s {
		refit = refit && u.Refits
		if u.Orphans > worst.Orphans {
			worst = u
		}
	}
	fmt.Fprintf(b, "Loss of any %s: at worst (%s %d) %d experts have no replica left", what, what, worst.Lost, worst.Orphans)
	if refit {
		fmt.Fprintf(b, "; %d copies refit the rest, balance then %.3f\n", worst.Copies, worst.Balance)
	} else {
		b.WriteString("; the slots that are left do not hold all experts\n")
	}
}
