package engineevents_test

import (
	"context"
	"errors"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/engineevents"
	"github.com/inferloom/inferloom/scheduling/policy"
)

// A scheduler that knows from the engines' events what they hold.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.7:8000", Model: "llama"}}})
	index, err2 := kvcache.New(kvcache.Options{})
	follower, err3 := follow.New(follow.Options{Index: index})
	watcher, err4 := engineevents.New(engineevents.Options{Pool: pool, Follower: follower, Port: 5557, ReplayPort: 5558})
	sched, err5 := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		panic(err)
	}
	go follower.Run(ctx)
	go watcher.Run(ctx)

	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: scheduling.Prompt{Tokens: []uint32{1, 2, 3}}})
	if err != nil {
		panic(err)
	}
	d.Done()
}
