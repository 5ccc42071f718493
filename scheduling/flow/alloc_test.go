//go:build !race

// The race detector makes sync.Pool drop what it is given, at random.

package flow_test

import (
	"context"
	"testing"

	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/stretchr/testify/require"
)

func TestAcquireDoesNotAllocate(t *testing.T) {
	for name, o := range map[string]flow.Options{
		"plain":   {},
		"limited": {Tenant: flow.Tenant{MaxInFlight: 10, Rate: 1e9}, RefuseLate: true, Gate: &flow.Gate{Adaptive: &flow.Adaptive{}}},
		"groups":  {Separator: "/"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newController(t, 3, 10, o)
			r := request("org/team/user", 0, 1000)
			ctx := context.Background()
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				d, err := c.Acquire(ctx, r)
				if err != nil {
					t.Fatal(err)
				}
				d.FirstToken()
				d.Tokens(500)
				d.Done()
			}))
		})
	}
}
