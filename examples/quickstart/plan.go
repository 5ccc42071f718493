package main

import (
	"fmt"
	"os"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
)

const (
	// requestsPerEngine is the rate of generated chats, in requests a simulated second. Under round robin it keeps the
	// engines' prefill about two thirds busy.
	requestsPerEngine = 0.56
	// pauseScale shortens the pauses between turns, so that minutes of simulated time hold whole conversations.
	pauseScale = 0.25
	// maxOutput bounds generated answers: the longest decide how long a run must be left to end.
	maxOutput = 1000
	// drain is the simulated time that a run keeps for requests to complete after the last arrival, if that is not more
	// than half of it.
	drain = 60 * time.Second
)

// plan returns the requests of a run, in order of arrival, and says on notes what they are.
func (b *bench) plan() ([]workload.Request, error) {
	if b.trace == "" {
		source, err := workload.Chats(workload.ChatOptions{
			Seed: b.seed, RequestsPerSecond: requestsPerEngine * float64(b.engines),
			PauseScale: pauseScale, MaxOutputTokens: maxOutput,
		})
		if err != nil {
			return nil, err
		}
		plan, err := b.take(source)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(b.notes, "workload: %s\n  generated multi-turn chats behind 4 system prompts; lengths, turns and shared prefixes distributed as in\n"+
			"  %s; scaled down: pauses between turns to a quarter,\n  answers to at most %d tokens; rate %.2f requests/s an engine\n",
			describe(plan), workload.ChatsSource, maxOutput, requestsPerEngine)
		return plan, nil
	}
	f, err := os.Open(b.trace)
	if err != nil {
		return nil, usageError{fmt.Errorf("-trace is %q: %w", b.trace, err)}
	}
	defer f.Close()
	plan, err := b.take(workload.Mooncake(f))
	if err != nil {
		return nil, usageError{fmt.Errorf("-trace is %q: %w", b.trace, err)}
	}
	fmt.Fprintf(b.notes, "workload: %s\n  the beginning of the trace %s at its own rate, in simulated time\n", describe(plan), b.trace)
	return plan, nil
}

// take returns the requests of a source that arrive while a run accepts any.
func (b *bench) take(source workload.Source) ([]workload.Request, error) {
	end := time.Duration(float64(b.duration-min(b.duration/2, scaled(drain, b.timeScale))) * b.timeScale)
	var plan []workload.Request
	for r, err := range source {
		if err != nil {
			return nil, err
		}
		if r.At > end {
			break
		}
		plan = append(plan, r)
	}
	if len(plan) == 0 {
		return nil, fmt.Errorf("no request within %v of simulated time", end)
	}
	return plan, nil
}

func describe(plan []workload.Request) string {
	input, output := 0, 0
	sessions := map[int]bool{}
	for _, r := range plan {
		input += r.InputTokens
		output += r.OutputTokens
		sessions[r.Session] = true
	}
	n := len(plan)
	return fmt.Sprintf("%d requests of %d sessions in %.0f s, on average %d prompt and %d answer tokens",
		n, len(sessions), plan[n-1].At.Seconds(), input/n, output/n)
}
