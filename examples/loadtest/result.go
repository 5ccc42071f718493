package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/stats"
)

// result is what a run found, and the JSON of it. Times are in seconds; those that are not known are null.
type result struct {
	Format   string    `json:"format"` // resultFormat
	URL      string    `json:"url"`
	Model    string    `json:"model"`
	Endpoint string    `json:"endpoint"`
	Workload string    `json:"workload"`
	Began    time.Time `json:"began"`
	Command  []string  `json:"command"`
	Versions string    `json:"versions"`

	// WindowSeconds is the time in which the counted requests were due, behind a warm-up.
	WarmupSeconds report.Number `json:"warmup_s"`
	WindowSeconds report.Number `json:"window_s"`
	Interrupted   bool          `json:"interrupted"`

	Requests int            `json:"requests"` // counted
	Answered int            `json:"answered"`
	Good     int            `json:"good"` // within the SLO
	Errors   map[string]int `json:"errors"`
	Details  map[string]int `json:"error_details"`
	// WarmupRequests were sent during the warm-up; InterruptedRequests were under way when the run was interrupted. Neither count.
	WarmupRequests      int `json:"warmup_requests"`
	InterruptedRequests int `json:"interrupted_requests"`
	// LateTurns is how many counted requests were due later than the workload has it, as the answer before was late.
	LateTurns int `json:"late_turns"`

	SLO struct {
		TTFT report.Number `json:"ttft_s"`
		TPOT report.Number `json:"tpot_s"`
	} `json:"slo"`

	TTFT         spread `json:"ttft_s"`           // from when a request was due
	TTFTFromSend spread `json:"ttft_from_send_s"` // from when it was sent: without what it waited in this client
	TPOT         spread `json:"tpot_s"`
	ITL          spread `json:"itl_s"`
	LongestITL   spread `json:"longest_itl_s"` // of each request
	E2E          spread `json:"e2e_s"`         // to the last token

	Offered    report.Number `json:"offered_per_s"`
	Completed  report.Number `json:"completed_per_s"`
	Goodput    report.Number `json:"goodput_per_s"`
	OutputRate report.Number `json:"output_tokens_per_s"` // tokens that arrived in the window

	InputTokens  int           `json:"input_tokens"` // where the server reports them, as all below
	CachedTokens int           `json:"cached_tokens"`
	OutputTokens int           `json:"output_tokens"`
	HitRatio     report.Number `json:"hit_ratio"`    // of requests whose cached tokens are reported
	AnswerRatio  report.Number `json:"answer_ratio"` // output tokens over those asked for
	NoUsage      int           `json:"no_usage"`     // answers whose tokens were counted as events

	Client struct {
		Lag         spread        `json:"lag_s"`       // from due to ready to send
		Waited      int           `json:"waited"`      // requests that waited for one of -concurrency
		Wait        spread        `json:"wait_s"`      // of those
		Concurrency int           `json:"concurrency"` // -concurrency
		CPU         report.Number `json:"cpu_s"`
		Cores       report.Number `json:"cores"`
		CPUPerEvent report.Number `json:"cpu_per_event_s"` // all of this client's, over the events that it read
	} `json:"client"`

	// Samples are the counted requests in order of when they were due, a column each.
	Samples samples `json:"samples"`
}

const resultFormat = "inferloom-loadtest-1"

// spread describes a distribution.
type spread struct {
	Mean report.Number `json:"mean"`
	P50  report.Number `json:"p50"`
	P90  report.Number `json:"p90"`
	P95  report.Number `json:"p95"`
	P99  report.Number `json:"p99"`
	Max  report.Number `json:"max"`
}

// samples are columns of equal length. What did not happen is null.
type samples struct {
	Due    []report.Number `json:"due_s"`
	TTFT   []report.Number `json:"ttft_s"`
	TPOT   []report.Number `json:"tpot_s"`
	E2E    []report.Number `json:"e2e_s"`
	Cached []report.Number `json:"hit_ratio"`
	Good   []int           `json:"good"` // 1 if within the SLO
}

func spreadOf(values []float64) spread {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	s := stats.Summarise(values)
	n := func(v float64) report.Number { return report.Number(v) }
	return spread{n(s.Mean), n(s.P50), n(s.P90), n(s.P95), n(s.P99), n(s.Max)}
}

func spreadOfHistogram(h *stats.Histogram) spread {
	n := func(d time.Duration) report.Number {
		if h.Count() == 0 {
			return report.Number(unknown)
		}
		return report.Number(d.Seconds())
	}
	return spread{n(h.Mean()), n(h.Quantile(0.5)), n(h.Quantile(0.9)), n(h.Quantile(0.95)), n(h.Quantile(0.99)), n(h.Max())}
}

var unknown = math.NaN()

// summarise makes a result of a run's outcomes. It sorts them by when they were scheduled. Window is the end of the time in which
// requests were due.
func summarise(c config, outcomes []outcome, gaps *stats.Histogram, until time.Duration) *result {
	r := &result{Format: resultFormat, URL: c.url, Model: c.model, Endpoint: c.endpoint, Errors: map[string]int{}, Details: map[string]int{}}
	slices.SortStableFunc(outcomes, func(a, b outcome) int { return cmp.Compare(a.scheduled, b.scheduled) })
	window := (until - c.warmup).Seconds()
	r.WarmupSeconds, r.WindowSeconds = report.Number(c.warmup.Seconds()), report.Number(window)
	r.SLO.TTFT, r.SLO.TPOT = bound(c.slo.ttft), bound(c.slo.tpot)

	var ttft, fromSend, tpot, e2e, longest, lag, wait []float64
	var asked, answeredTokens, answeredEvents, reported, eventsInWindow int
	for i := range outcomes {
		o := &outcomes[i]
		eventsInWindow += o.inWindow
		if o.scheduled < c.warmup {
			r.WarmupRequests++
			continue
		}
		if o.class == interrupted {
			r.InterruptedRequests++
			continue
		}
		r.Requests++
		if o.due > o.scheduled {
			r.LateTurns++
		}
		if o.class != notSent && o.sent > 0 {
			lag = append(lag, o.lag.Seconds())
			if o.waited > time.Millisecond {
				wait = append(wait, o.waited.Seconds())
			}
		}
		row := [5]float64{o.scheduled.Seconds(), unknown, unknown, unknown, unknown}
		good := 0
		if o.class == answered {
			r.Answered++
			row[1], row[3] = o.ttft().Seconds(), o.e2e().Seconds()
			fromSend = append(fromSend, (o.first - o.sent).Seconds())
			longest = append(longest, o.longestGap.Seconds())
			if v, ok := o.tpot(); ok {
				row[2] = v.Seconds()
			}
			if o.good(c.slo) {
				good = 1
			}
			asked += o.asked
			answeredTokens += o.tokens()
			answeredEvents += o.events
			if o.output < 0 {
				r.NoUsage++
			} else {
				r.OutputTokens += o.output
			}
			if o.input >= 0 {
				r.InputTokens += o.input
			}
			if o.cached >= 0 && o.input > 0 {
				r.CachedTokens += o.cached
				reported += o.input
				row[4] = float64(o.cached) / float64(o.input)
			}
		} else {
			r.Errors[string(o.class)]++
			r.Details[string(o.class)+": "+o.detail]++
		}
		r.Good += good
		s := &r.Samples
		for k, column := range []*[]report.Number{&s.Due, &s.TTFT, &s.TPOT, &s.E2E, &s.Cached} {
			*column = append(*column, report.Number(row[k]))
		}
		s.Good = append(s.Good, good)
		ttft, tpot, e2e = append(ttft, row[1]), append(tpot, row[2]), append(e2e, row[3])
	}
	tokensInWindow := eventsInWindow
	if answeredEvents > 0 {
		// Engines may put several tokens into an event; how many in the mean is known once answers are complete.
		tokensInWindow = eventsInWindow * answeredTokens / answeredEvents
	}
	r.TTFT, r.TTFTFromSend, r.TPOT, r.E2E, r.LongestITL = spreadOf(ttft), spreadOf(fromSend), spreadOf(tpot), spreadOf(e2e), spreadOf(longest)
	r.ITL = spreadOfHistogram(gaps)
	per := func(n int) report.Number { return report.Number(float64(n) / window) }
	r.Offered, r.Completed, r.Goodput, r.OutputRate = per(r.Requests), per(r.Answered), per(r.Good), per(tokensInWindow)
	r.HitRatio = report.Number(float64(r.CachedTokens) / float64(reported))
	r.AnswerRatio = report.Number(float64(answeredTokens) / float64(asked))
	r.Client.Lag, r.Client.Wait, r.Client.Waited, r.Client.Concurrency = spreadOf(lag), spreadOf(wait), len(wait), c.concurrency
	return r
}

func bound(d time.Duration) report.Number {
	if d == 0 {
		return report.Number(unknown)
	}
	return report.Number(d.Seconds())
}

// warnings say what makes the figures less than they seem.
func (r *result) warnings() []string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	if r.Interrupted {
		add("interrupted: the figures are of the %s until then; %d requests under way are not counted, the slow ones rather than the quick.",
			report.Seconds(float64(r.WindowSeconds)), r.InterruptedRequests)
	}
	if lag, ttft := float64(r.Client.Lag.P99), float64(r.TTFT.P50); lag > 0.005 && lag > ttft/20 {
		add("this client was late: one request in a hundred was ready to be sent %s or more after it was due, which is in its latency. It used %.1f cores.",
			report.Seconds(lag), float64(r.Client.Cores))
	}
	if r.Client.Waited > 0 {
		add("%s of %s requests waited for one of the %d connections of -concurrency, half of them %s or longer, which is in their latency.",
			report.Count(r.Client.Waited), report.Count(r.Requests), r.Client.Concurrency, report.Seconds(float64(r.Client.Wait.P50)))
	}
	if ratio := float64(r.AnswerRatio); ratio < 0.9 {
		add("answers had %s of the tokens that the workload asks for: the model ended them. With vLLM and SGLang -ignore-eos makes them as long as asked.", report.Percent(ratio))
	}
	if r.NoUsage > 0 {
		add("%d answers came without token counts: their tokens were counted as events, which can hold several.", r.NoUsage)
	}
	if r.Requests > 0 && r.Requests < 100 {
		add("%d requests are few: the 99th percentile is the slowest one.", r.Requests)
	}
	return w
}

func (r *result) writeJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// readResult reads what writeJSON wrote.
func readResult(path string) (*result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Format != resultFormat {
		return nil, fmt.Errorf("%s: format is %q, want a result of loadtest -json, %q", path, r.Format, resultFormat)
	}
	s := r.Samples
	for name, n := range map[string]int{"ttft_s": len(s.TTFT), "tpot_s": len(s.TPOT), "e2e_s": len(s.E2E), "hit_ratio": len(s.Cached), "good": len(s.Good)} {
		if n != len(s.Due) {
			return nil, fmt.Errorf("%s: samples.%s has %d values, want %d as samples.due_s", path, name, n, len(s.Due))
		}
	}
	return &r, nil
}

func floats(n []report.Number) []float64 {
	f := make([]float64, len(n))
	for i, v := range n {
		f[i] = float64(v)
	}
	return f
}
