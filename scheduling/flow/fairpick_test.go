package flow

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/stretchr/testify/require"
)

// backlog is a controller in which so many tenants wait for an endpoint that is taken.
func backlog(b testing.TB, tenants int) (*Controller, *lane) {
	b.Helper()
	gate := &Gate{Limits: Limits{MaxRequests: 1}}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "a:1", Model: "m"}}})
	require.NoError(b, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
	require.NoError(b, err)
	c, err := New(sched, Options{Gate: gate, MaxRequests: tenants + 1, MaxTenants: tenants + 1, TTL: -1})
	require.NoError(b, err)
	b.Cleanup(c.Close)
	for i := range tenants + 1 {
		r := &scheduling.Request{Model: "m", Tenant: fmt.Sprint(i), Prompt: scheduling.Prompt{Text: make([]byte, 4*(i*7919%1000))}}
		c.Ask(context.Background(), r, func(scheduling.Decision, error) {})
	}
	require.EqualValues(b, tenants, c.waiting.Load())
	return c, c.lanes[anyLanes]
}

// BenchmarkFairPick chooses whose turn it is among tenants that all have something waiting, and charges for it.
func BenchmarkFairPick(b *testing.B) {
	const tenants = 100_000
	b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
		c, l := backlog(b, tenants)
		c.mu.Lock()
		defer c.mu.Unlock()
		now := time.Now()
		b.ReportAllocs()
		start, _ := cputime.Used()
		for b.Loop() {
			w := c.head(c.turn(l), now)
			c.charge(w.node, w.cost, true, now)
		}
		end, _ := cputime.Used()
		b.ReportMetric(float64(end-start)/float64(b.N), "cpu-ns/op")
	})
}

func TestFairPickDoesNotAllocate(t *testing.T) {
	c, l := backlog(t, 1000)
	now := time.Now()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		c.mu.Lock()
		w := c.head(c.turn(l), now)
		c.charge(w.node, w.cost, true, now)
		c.mu.Unlock()
	}))
}
