package scheduling_test

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

func Example() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000", Model: "llama"},
		{ID: "b", Address: "10.0.0.2:8000", Model: "llama"},
	}})
	index, _ := prefix.New(prefix.Options{})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})

	prompt := scheduling.Prompt{Text: make([]byte, 4000)} // about 1000 tokens
	first, _ := sched.Pick(context.Background(), &scheduling.Request{Model: "llama", Prompt: prompt})
	second, _ := sched.Pick(context.Background(), &scheduling.Request{Model: "llama", Prompt: prompt})
	fmt.Println(first.Endpoint == second.Endpoint, second.CachedTokens, pool.Total().Requests)
	first.Done()
	second.Done()
	fmt.Println(pool.Total().Requests)
	// Output:
	// true 992 2
	// 0
}

func Example_stages() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "p", Address: "10.0.0.1:8000", Role: scheduling.Prefill},
		{ID: "d", Address: "10.0.0.2:8000", Role: scheduling.Decode},
	}})
	takes := func(phase scheduling.Role) scheduling.Profile {
		return scheduling.Profile{Filters: []scheduling.Filter{filter.Role{Phase: phase}}}
	}
	sched, _ := scheduling.New(pool, scheduling.Options{Stages: []scheduling.Stage{
		{Name: "decode", Profile: takes(scheduling.Decode)},
		{Name: "prefill", Profile: takes(scheduling.Prefill), After: []string{"decode"}, Takes: scheduling.Prefill, When: condition.Uncached{Tokens: 512}},
	}})
	for _, length := range []int{100, 1000} {
		d, _ := sched.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, length)}})
		where := d.Endpoint.ID
		if prefill, ran := d.Stage("prefill"); ran {
			where = prefill.Endpoint.ID
		}
		fmt.Printf("%d tokens: prefill on %s, decode on %s\n", length, where, d.Endpoint.ID)
		d.Done()
	}
	// Output:
	// 100 tokens: prefill on d, decode on d
	// 1000 tokens: prefill on p, decode on d
}

// NearestZone is a filter in ten lines.
type NearestZone struct{ Zone string }

func (f NearestZone) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	kept := slots[:0]
	for _, slot := range slots {
		if c.Endpoint(slot).Labels["zone"] == f.Zone {
			kept = append(kept, slot)
		}
	}
	return kept
}

func ExampleFilter() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000", Labels: map[string]string{"zone": "north"}},
		{ID: "b", Address: "10.0.0.2:8000", Labels: map[string]string{"zone": "south"}},
	}})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Filters: []scheduling.Filter{NearestZone{"south"}},
	}})
	d, _ := sched.Pick(context.Background(), &scheduling.Request{})
	defer d.Done()
	fmt.Println(d.Endpoint.ID)
	// Output: b
}
