package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what the clients of a policy saw. Times are simulated.
type result struct {
	Name           string `json:"name"`
	Requests       int    `json:"requests"`
	Errors         int    `json:"errors"`
	TTFT50         number `json:"ttft_p50_ms"`
	TTFT95         number `json:"ttft_p95_ms"`
	TPOT50         number `json:"tpot_p50_ms"`
	PrefixHitRatio number `json:"prefix_hit_ratio"`
	OutputRate     number `json:"output_tokens_per_s"`

	prefillLoad number         // the share of what the engines could prefill
	causes      map[string]int // errors
}

// number is a figure that may be missing: NaN, which is null in JSON. What is there has four decimals.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(float64(n)*1e4) / 1e4)
}

// summarise makes a result of outcomes. Only requests that ended well count in times and tokens.
func summarise(name string, outcomes []outcome, fleetPrefillRate float64) result {
	r := result{Name: name, Requests: len(outcomes), causes: map[string]int{}}
	var ttft, tpot []time.Duration
	var input, cached, output int
	var end time.Duration
	for _, o := range outcomes {
		if o.err != nil {
			r.Errors++
			r.causes[o.err.Error()]++
			continue
		}
		ttft = append(ttft, o.ttft)
		if o.output > 1 {
			tpot = append(tpot, o.tpot)
		}
		input += o.input
		cached += o.cached
		output += o.output
		end = max(end, o.ended)
	}
	r.TTFT50, r.TTFT95 = quantile(ttft, 0.5), quantile(ttft, 0.95)
	r.TPOT50 = quantile(tpot, 0.5)
	r.PrefixHitRatio = ratio(float64(cached), float64(input))
	r.OutputRate = ratio(float64(output), end.Seconds())
	r.prefillLoad = ratio(float64(input-cached), end.Seconds()*fleetPrefillRate)
	return r
}

// quantile returns the value, in milliseconds, that at least a share q of the values is not above.
func quantile(values []time.Duration, q float64) number {
	if len(values) == 0 {
		return number(math.NaN())
	}
	slices.Sort(values)
	i := int(math.Ceil(q*float64(len(values)))) - 1
	return number(float64(values[max(0, i)]) / float64(time.Millisecond))
}

func ratio(a, b float64) number {
	if b == 0 {
		return number(math.NaN())
	}
	return number(a / b)
}

func writeJSON(w io.Writer, results []result) error {
	return json.NewEncoder(w).Encode(map[string]any{"policies": results})
}

// writeTable writes the comparison and its sum.
func writeTable(w io.Writer, results []result) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\trequests\terrors\tTTFT p50\tTTFT p95\tTPOT p50\tprefix hits\ttokens/s\tprefill load\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Name, r.Requests, r.Errors,
			r.TTFT50.text("%.0f ms", 1), r.TTFT95.text("%.0f ms", 1), r.TPOT50.text("%.1f ms", 1),
			r.PrefixHitRatio.text("%.1f %%", 100), r.OutputRate.text("%.0f", 1), r.prefillLoad.text("%.0f %%", 100))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s(prefill load: prompt tokens that no cache served, against what the engines could prefill in the whole run)\n\n%s\n",
		b.String(), comparison(results[0], results[1]))
	return err
}

func (n number) text(format string, unit float64) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return fmt.Sprintf(format, float64(n)*unit)
}

// comparison says in a line how a policy did against a baseline.
func comparison(base, other result) string {
	parts := []string{}
	if times := float64(other.PrefixHitRatio / base.PrefixHitRatio); !math.IsNaN(times) && !math.IsInf(times, 0) {
		parts = append(parts, fmt.Sprintf("%.1fx the prefix hit ratio", times))
	}
	change := func(name string, a, b number) {
		if c := 100 * float64(b/a-1); !math.IsNaN(c) && !math.IsInf(c, 0) {
			parts = append(parts, fmt.Sprintf("%s %+.0f %%", name, c))
		}
	}
	change("TTFT p50", base.TTFT50, other.TTFT50)
	change("TTFT p95", base.TTFT95, other.TTFT95)
	change("TPOT p50", base.TPOT50, other.TPOT50)
	change("tokens/s", base.OutputRate, other.OutputRate)
	if len(parts) == 0 {
		parts = append(parts, "nothing to compare")
	}
	line := fmt.Sprintf("%s against %s: %s", other.Name, base.Name, strings.Join(parts, ", "))
	if base.Errors+other.Errors > 0 {
		line += fmt.Sprintf("; %d errors against %d", other.Errors, base.Errors)
	}
	return line
}
