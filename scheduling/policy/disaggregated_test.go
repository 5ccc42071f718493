package policy_test

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

func ExampleDisaggregated() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "decode", Address: "10.0.0.1:8000", Role: scheduling.Decode},
		{ID: "prefill", Address: "10.0.0.2:8000", Role: scheduling.Prefill},
	}})
	prompts, _ := prefix.New(prefix.Options{})
	media, _ := prefix.New(prefix.Options{})
	sched, _ := scheduling.New(pool, scheduling.Options{Stages: policy.Disaggregated(prompts, media)})
	request := &scheduling.Request{Prompt: scheduling.Prompt{Text: make([]byte, 4000)}} // about 1000 tokens
	for range 2 {
		d, _ := sched.Pick(context.Background(), request)
		if leg, ran := d.Stage("prefill"); ran {
			fmt.Println("prefill on", leg.Endpoint.ID, pool.InFlight(leg.Slot()))
		}
		fmt.Println("decode on", d.Endpoint.ID, pool.InFlight(d.Slot()))
		d.Done()
	}
	// Output:
	// prefill on prefill {1 1000 1000}
	// decode on decode {1 0 1000}
	// decode on decode {1 8 1000}
}
