package flow_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/stretchr/testify/require"
)

// newController is a controller over so many endpoints, a and so on, that take so many requests at once each.
func newController(t testing.TB, endpoints, each int, o flow.Options) *flow.Controller {
	t.Helper()
	var list []scheduling.Endpoint
	for i := range endpoints {
		list = append(list, scheduling.Endpoint{ID: string(rune('a' + i)), Address: "10.0.0.1:8000", Model: "m"})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	if o.Gate == nil {
		o.Gate = &flow.Gate{}
	}
	o.Gate.MaxRequests = each
	return over(t, pool, o)
}

func over(t testing.TB, pool *scheduling.Pool, o flow.Options) *flow.Controller {
	t.Helper()
	sched, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{Filters: []scheduling.Filter{o.Gate}}})
	require.NoError(t, err)
	c, err := flow.New(sched, o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// BenchmarkAcquireUncontended is Acquire and the end of the reservation where nobody waits, over one endpoint and a profile of
// the gate alone. own-ns/op is the processor time that this takes beyond Pick and Done of the same profile without flow
// control, which take pick-ns/op.
func BenchmarkAcquireUncontended(b *testing.B) {
	c := newController(b, 1, 1000, flow.Options{})
	ctx := context.Background()
	r := &scheduling.Request{Model: "m", Tenant: "t", Prompt: scheduling.Prompt{Text: make([]byte, 4000)}}
	b.ReportAllocs()
	began, _ := cputime.Used()
	for b.Loop() {
		d, err := c.Acquire(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		d.Done()
	}
	between, _ := cputime.Used()
	for range b.N {
		d, err := c.Scheduler().Pick(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		d.Done()
	}
	ended, _ := cputime.Used()
	perOp := func(d time.Duration) float64 { return float64(d) / float64(b.N) }
	b.ReportMetric(perOp(ended-between), "pick-ns/op")
	b.ReportMetric(perOp(between-began)-perOp(ended-between), "own-ns/op")
}

// BenchmarkDispatch is the life of a request that has to wait: so many clients, each of which asks again once it was served,
// share one place. cpu-ns/op is the processor time of all of it, which other load on the machine does not stretch as much.
func BenchmarkDispatch(b *testing.B) {
	for _, flows := range []int{10, 5000} {
		b.Run(fmt.Sprintf("waiters=5000/flows=%d", flows), func(b *testing.B) {
			c := newController(b, 1, 1, flow.Options{MaxRequests: 10_000, MaxLabels: 10})
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			hold, err := c.Acquire(ctx, &scheduling.Request{Model: "m"})
			require.NoError(b, err)
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for i := range 5000 {
				all.Go(func() {
					r := &scheduling.Request{Model: "m", Tenant: fmt.Sprint(i % flows), Prompt: scheduling.Prompt{Text: make([]byte, 400)}}
					for {
						d, err := c.Acquire(ctx, r)
						if err != nil {
							return
						}
						if left.Add(-1) == 0 {
							stop()
						}
						d.Done()
					}
				})
			}
			for c.Stats().Waiting < 5000 {
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			before, _ := cputime.Used()
			b.ResetTimer()
			hold.Done()
			<-ctx.Done()
			b.StopTimer()
			after, _ := cputime.Used()
			b.ReportMetric(float64(after-before)/float64(b.N), "cpu-ns/op")
			all.Wait()
		})
	}
}

// BenchmarkDrain is the time from the opening of the gate, by an endpoint that comes, until a backlog is granted.
func BenchmarkDrain(b *testing.B) {
	const backlog = 4000
	b.Run(fmt.Sprintf("backlog=%d", backlog), func(b *testing.B) {
		b.ReportAllocs()
		used := time.Duration(0)
		for range b.N {
			b.StopTimer()
			c := newController(b, 1, 1, flow.Options{Gate: &flow.Gate{Decode: &flow.Limits{MaxRequests: 2 * backlog}}})
			hold, err := c.Acquire(context.Background(), &scheduling.Request{Model: "m"})
			require.NoError(b, err)
			var all sync.WaitGroup
			for i := range backlog {
				all.Go(func() {
					if _, err := c.Acquire(context.Background(), &scheduling.Request{Model: "m", Tenant: fmt.Sprint(i % 10)}); err != nil {
						b.Error(err)
					}
				})
			}
			for c.Stats().Waiting < backlog {
				time.Sleep(time.Millisecond)
			}
			before, _ := cputime.Used()
			b.StartTimer()
			require.NoError(b, c.Pool().Upsert(scheduling.Endpoint{ID: "large", Address: "10.0.0.2:8000", Model: "m", Role: scheduling.Decode}))
			all.Wait()
			b.StopTimer()
			after, _ := cputime.Used()
			used += after - before
			hold.Done()
		}
		b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/op")
	})
}

// BenchmarkCancelStorm is clients that wait in Acquire and leave, in waves of a hundred, until each has its answer and its place
// in the queue is free. p99-us is how long after its context's end that was.
func BenchmarkCancelStorm(b *testing.B) {
	const wave = 100
	c := newController(b, 1, 1, flow.Options{MaxRequests: 2 * wave})
	hold, err := c.Acquire(context.Background(), &scheduling.Request{Model: "m"})
	require.NoError(b, err)
	defer hold.Done()
	var took []time.Duration
	var spent time.Duration
	for b.Loop() {
		var left [wave]time.Time
		cancels := make([]func(), wave)
		var all sync.WaitGroup
		for i := range wave {
			ctx, cancel := context.WithCancel(context.Background())
			cancels[i] = cancel
			all.Go(func() {
				_, _ = c.Acquire(ctx, &scheduling.Request{Model: "m", Tenant: fmt.Sprint(i % 10)})
				left[i] = time.Now()
			})
		}
		for c.Stats().Waiting < wave {
			runtime.Gosched()
		}
		start := time.Now()
		for _, cancel := range cancels {
			cancel()
		}
		all.Wait()
		spent += time.Since(start)
		require.Zero(b, c.Stats().Waiting)
		for _, at := range left {
			took = append(took, at.Sub(start))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/spent.Seconds(), "cancels/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
