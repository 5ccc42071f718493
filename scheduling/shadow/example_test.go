package shadow_test

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/shadow"
)

// Requests are placed by round robin; what would a prefix-aware policy do?
func Example() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80"}}})
	index, _ := prefix.New(prefix.Options{})
	profile := policy.RoundRobin()
	profile.Producers = []scheduling.Producer{&prefix.Producer{Index: index}} // so that there is a match to compare by
	live, _ := scheduling.New(pool, scheduling.Options{Profile: profile, Seed: 1})

	candidate, _ := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	next, err := shadow.New(shadow.Options{Name: "next", Scheduler: candidate})
	if err != nil {
		fmt.Println(err)
		return
	}
	live.Observe(1, next)

	for range 2 { // twice the same prompt
		d, _ := live.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Text: make([]byte, 6400)}})
		d.Done()
	}
	stats := next.Stats()
	fmt.Println("disagreed on", stats.Disagreed, "of", stats.Compared(), "choices, with", stats.CachedGained, "more tokens cached")
	// Output: disagreed on 1 of 2 choices, with 1600 more tokens cached
}
