package policy_test

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// Two conversations, turn by turn: each stays where its prefix is.
func ExampleDefault() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"},
	}})
	index, _ := prefix.New(prefix.Options{})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})

	home := map[int]string{}
	for turn := 1; turn <= 3; turn++ {
		for conversation := range 2 {
			text := fmt.Appendf(nil, "conversation %d: ", conversation)
			text = append(text, make([]byte, 2000*turn)...)
			d, _ := sched.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Text: text}})
			if turn == 1 {
				home[conversation] = d.Endpoint.ID
				defer d.Done() // still running while the other one starts
			} else {
				fmt.Println(turn, d.Endpoint.ID == home[conversation], d.CachedTokens)
				d.Done()
			}
		}
	}
	fmt.Println(home[0] != home[1])
	// Output:
	// 2 true 496
	// 2 true 496
	// 3 true 992
	// 3 true 992
	// true
}

// Round robin takes turns, whatever the load.
func ExampleRoundRobin() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"}, {ID: "c", Address: "10.0.0.3:8000"},
	}})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: policy.RoundRobin()})
	for range 4 {
		d, _ := sched.Pick(context.Background(), &scheduling.Request{})
		fmt.Print(d.Endpoint.ID, " ")
	}
	// Output: a b c a
}
