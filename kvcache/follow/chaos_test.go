package follow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// unsteady is an engine whose connections are cut and which is replaced by a new process now and then.
type unsteady struct {
	cache
	network      memory
	live, replay string
	queue        int // batches that a subscriber can be behind
	buffer       int // batches that can be replayed; 0: there is no replay
	stop         func()
}

func (u *unsteady) start() {
	ctx, cancel := context.WithCancel(context.Background())
	live, replay := u.network.listen(u.live), u.network.listen(u.replay)
	done := make(chan struct{})
	p := u.Publisher
	go func() { defer close(done); _ = p.Serve(ctx, live, replay) }()
	u.stop = func() { cancel(); <-done }
}

// cut ends all connections; what is published meanwhile is lost to subscribers.
func (u *unsteady) cut(r *rand.Rand) {
	u.stop()
	for range r.IntN(4) {
		u.step(r)
	}
	u.start()
}

// restart replaces the process.
func (u *unsteady) restart(r *rand.Rand) {
	u.stop()
	u.Publisher, u.held = u.publisher(), map[int]int{}
	for u.buffer > 0 && r.IntN(10) > 0 { // without a replay, one that has come just as far as the old one is taken for it
		u.step(r)
	}
	u.start()
}

func (u *unsteady) publisher() *events.Publisher {
	return events.NewPublisher(events.PublisherOptions{Queue: u.queue, Buffer: u.buffer})
}

// flood publishes more than a subscriber's queue takes, at once.
func (u *unsteady) flood(r *rand.Rand) {
	for range 2*u.queue + 20 {
		u.step(r)
	}
}

// Whatever happens to connections, processes, queues and pods: once an engine has said one thing more, the index does not claim a block
// that it does not hold; and with a replay that has everything, it knows all. Of three engines one has no replay, and one's is short.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testChaos(t, seed) }) })
	}
}

func testChaos(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	x, err := kvcache.New(kvcache.Options{MaxBytes: 1 << 20, MaxPods: 64})
	require.NoError(t, err)
	network := newMemory()
	f, err := New(Options{Index: x, Dial: network.dial, MinBackoff: 10 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, ReplayTimeout: time.Second})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer cancel()

	var engines []*unsteady
	var specs []Engine
	for id := range uint32(3) {
		u := &unsteady{network: network, live: fmt.Sprintf("e%d:1", id), replay: fmt.Sprintf("e%d:2", id), queue: 5, buffer: []int{0, 8, 1 << 20}[id]}
		u.Publisher, u.held = u.publisher(), map[int]int{}
		u.start()
		defer func() { u.stop() }()
		e := Engine{Name: fmt.Sprint(id), Pod: kvcache.Pod{ID: id, Generation: 1}, Endpoint: "tcp://" + u.live, Model: "m"}
		if u.buffer > 0 {
			e.Replay = "tcp://" + u.replay
		}
		engines, specs = append(engines, u), append(specs, e)
	}
	require.NoError(t, f.Set(specs))
	for range 40 {
		i := r.IntN(len(engines))
		u := engines[i]
		switch r.IntN(8) {
		case 0:
			u.cut(r)
		case 1:
			u.restart(r)
		case 2:
			u.flood(r)
		case 3: // the endpoint leaves, and comes back as another
			late := slices.Clone(specs)
			require.NoError(t, f.Set(slices.Delete(late, i, i+1)))
			u.step(r)
			specs[i].Pod.Generation++
			require.NoError(t, f.Set(specs))
		default:
			for range 1 + r.IntN(5) {
				u.step(r)
			}
		}
		time.Sleep(time.Second) // longer than any pause
		for i, u := range engines {
			u.Publish(&events.Batch{Time: r.Float64(), Rank: -1}) // a step in which nothing happens
			time.Sleep(time.Second)
			synctest.Wait()
			for n := range prompts {
				got := held(x, uint32(i), prompt(n, promptBlocks))
				require.LessOrEqual(t, got, u.held[n], "engine %d prompt %d", i, n)
				if i == 2 {
					require.Equal(t, u.held[n], got, "prompt %d", n)
				}
			}
		}
	}
}
