package flow_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

func Example() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "10.0.0.1:8000", Model: "llama"}}})
	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 1}}
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
	control, _ := flow.New(sched, flow.Options{Gate: gate, MaxRequests: 2})
	defer control.Close()

	ctx := context.Background()
	running, _ := control.Acquire(ctx, &scheduling.Request{Model: "llama", Tenant: "first"})
	for _, who := range []struct {
		tenant   string
		priority int
	}{{"batch", -1}, {"chat", 0}, {"urgent", 1}} {
		control.Ask(ctx, &scheduling.Request{Model: "llama", Tenant: who.tenant, Priority: who.priority}, func(d scheduling.Decision, err error) {
			if refused, ok := errors.AsType[*flow.Rejected](err); ok {
				fmt.Println(who.tenant, refused.Outcome, refused.Status())
				return
			}
			fmt.Println(who.tenant, "runs on", d.Endpoint.ID)
			d.Done()
		})
	}
	running.Done()
	// Output:
	// batch displaced 429
	// urgent runs on a
	// chat runs on a
}
