package scheduling_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Gold keeps endpoints of one tier. It searches their labels once a layout.
type Gold struct{ tiers scheduling.PerLayout[[]bool] }

func (g *Gold) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	gold := g.tiers.Of(c.Snapshot, func(s *scheduling.Snapshot) []bool {
		return scheduling.BySlot(s, func(e *scheduling.Endpoint) bool { return e.Labels["tier"] == "gold" })
	})
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return !gold[slot] })
}

func ExamplePerLayout() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000", Labels: map[string]string{"tier": "tin"}},
		{ID: "b", Address: "10.0.0.2:8000", Labels: map[string]string{"tier": "gold"}},
	}})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{new(Gold)}}})
	d, _ := sched.Pick(context.Background(), &scheduling.Request{})
	defer d.Done()
	fmt.Println(d.Endpoint.ID)
	// Output: b
}
