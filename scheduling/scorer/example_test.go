package scorer_test

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Two seconds to load an adapter, or two seconds of prefill behind others: both are seconds, so they need no weights.
func ExampleCost() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "fast", Address: "10.0.0.1:8000", Model: "m", Adapters: []string{"legal"}, Labels: map[string]string{"tokens-per-second": "20000"}},
		{ID: "slow", Address: "10.0.0.2:8000", Model: "m", Adapters: []string{"legal"}, Labels: map[string]string{"tokens-per-second": "5000"}},
	}})
	pool.Report(
		scheduling.State{Endpoint: "fast", Adapters: &scheduling.AdapterState{Max: 4}},
		scheduling.State{Endpoint: "slow", Adapters: &scheduling.AdapterState{Max: 4, Active: []string{"legal"}}},
	)
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{
		Terms: []scorer.Term{
			&scorer.PrefillTime{TokensPerSecond: scorer.Capacity{Label: "tokens-per-second"}},
			scorer.AdapterTime{Load: 2},
		},
	}}}}})
	for _, tokens := range []int{1000, 50_000} {
		d, _ := sched.Pick(context.Background(), &scheduling.Request{
			Model: "m", Adapter: "legal", Prompt: scheduling.Prompt{Tokens: make([]uint32, tokens)},
		})
		fmt.Printf("%d tokens: %s, %.1f s\n", tokens, d.Endpoint.ID, 1/d.Score-1)
		d.Done()
	}
	// Output:
	// 1000 tokens: slow, 0.2 s
	// 50000 tokens: fast, 4.5 s
}
