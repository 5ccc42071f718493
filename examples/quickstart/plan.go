package main

import (
	"fmt"
	"os"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/workload"
)

const (
	// requestsPerEngine is the rate of generated chats, in requests a simulated second. Under round robin it keeps the
	// engines' prefill a bit more than half busy once conversations have their later turns.
	requestsPerEngine = 0.56
	// conversationSpan is the time of the trace that a run of generated chats stands for: pauses between turns are shortened
	// in proportion, so that a run of minutes holds whole conversations.
	conversationSpan = 15 * time.Minute
	// drainTime is what a run keeps for requests to complete after the last arrival, if that is not more than half of it. The
	// longest answer of the trace, 2,000 tokens, takes a minute.
	drainTime = 75 * time.Second
	// outputToken and inputToken are what a token adds to the time of a request when engines are busy: a guess, to plan with.
	outputToken = 40 * time.Millisecond
	inputToken  = 200 * time.Microsecond
)

// plan returns the requests of a run, in order of arrival, and says on notes what they are. All times in it are simulated.
func (b *bench) plan() ([]workload.Request, error) {
	w := window{end: time.Duration(float64(b.duration) * b.timeScale)}
	w.last = w.end - min(w.end/2, drainTime)
	if b.trace != "" {
		return b.replay(w)
	}
	o := workload.ChatOptions{
		Seed: b.seed, RequestsPerSecond: requestsPerEngine * float64(b.engines), SystemPrompts: 4,
		PauseScale: min(1, w.last.Seconds()/conversationSpan.Seconds()),
	}
	source, err := workload.Chats(o)
	if err != nil {
		return nil, err
	}
	plan, left, err := w.take(source)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.notes, "workload: %s.\n  Generated multi-turn chats behind %d system prompts; lengths, turns and repeated prefixes are distributed as in\n"+
		"  %s. Rate: %.2f requests/s an engine. Scaled down for a short run:\n  pauses between turns, to %.2f of the trace's.\n",
		describe(plan, left), o.SystemPrompts, workload.ChatsSource, requestsPerEngine, o.PauseScale)
	return plan, nil
}

// replay returns the beginning of the trace.
func (b *bench) replay(w window) ([]workload.Request, error) {
	wrong := func(err error) error { return program.UsageError{Err: fmt.Errorf("-trace is %q: %w", b.trace, err)} }
	f, err := os.Open(b.trace)
	if err != nil {
		return nil, wrong(err)
	}
	defer f.Close()
	plan, left, err := w.take(workload.Mooncake(f))
	if err != nil {
		return nil, wrong(err)
	}
	fmt.Fprintf(b.notes, "workload: %s.\n  The beginning of the trace %s at its own rate, in simulated time.\n", describe(plan, left), b.trace)
	return plan, nil
}

// window is a run's time: requests arrive until last, and are cut off at end.
type window struct{ last, end time.Duration }

// take returns the requests of a source that arrive in the window. It leaves out, and counts, those that will probably not
// be complete at its end: a very long one that arrives late, or a late turn of a conversation whose answers are long.
func (w window) take(source workload.Source) (plan []workload.Request, left int, err error) {
	answered := map[int]time.Duration{} // a session's latest turn, probably
	for r, err := range source {
		if err != nil {
			return nil, 0, err
		}
		if r.At > w.last {
			break
		}
		due := max(r.At, answered[r.Session])
		complete := due + time.Duration(r.InputTokens)*inputToken + time.Duration(r.OutputTokens)*outputToken
		answered[r.Session] = complete
		if due > w.last || complete > w.end {
			left++
			continue
		}
		plan = append(plan, r)
	}
	if len(plan) == 0 {
		return nil, left, fmt.Errorf("no request that fits into %v of simulated time", w.end)
	}
	return plan, left, nil
}

func describe(plan []workload.Request, left int) string {
	input, output := 0, 0
	sessions := map[int]bool{}
	for _, r := range plan {
		input += r.InputTokens
		output += r.OutputTokens
		sessions[r.Session] = true
	}
	n := len(plan)
	text := fmt.Sprintf("%d requests of %d sessions in %.0f s, on average %d prompt and %d answer tokens",
		n, len(sessions), plan[n-1].At.Seconds(), input/n, output/n)
	if left > 0 {
		text += fmt.Sprintf("; %d left out, which would not end in time", left)
	}
	return text
}
