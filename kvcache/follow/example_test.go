package follow_test

import (
	"context"
	"fmt"
	"net"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// publish stands for an engine that has stored two blocks of a prompt.
func publish(ctx context.Context) (live, replay string) {
	p := events.NewPublisher(events.PublisherOptions{})
	p.Publish(&events.Batch{Events: []events.Event{{
		Kind: events.Stored, Hashes: []uint64{71, 72}, Tokens: []uint32{1, 2, 3, 4, 5, 6, 7, 8}, BlockTokens: 4, Group: -1,
	}}})
	a, _ := net.Listen("tcp", "127.0.0.1:0")
	b, _ := net.Listen("tcp", "127.0.0.1:0")
	go p.Serve(ctx, a, b)
	return "tcp://" + a.Addr().String(), "tcp://" + b.Addr().String()
}

// told says when an engine has told something.
type told chan struct{}

func (t told) Apply(*events.Message) { t <- struct{}{} }
func (told) Lost(events.Loss)        {}

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	live, replay := publish(ctx)

	index, err := kvcache.New(kvcache.Options{})
	if err != nil {
		panic(err)
	}
	first := make(told, 1)
	f, err := follow.New(follow.Options{Index: index, Also: func(follow.Engine) events.Sink { return first }})
	if err != nil {
		panic(err)
	}
	engine := follow.Engine{
		Name: "10.0.0.7:8000", Pod: kvcache.Pod{ID: 3, Generation: 1}, Endpoint: live, Replay: replay, Model: "llama", BlockTokens: 4,
	}
	if err := f.Set([]follow.Engine{engine}); err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	<-first

	space := kvcache.Space{Model: "llama", BlockTokens: 4}
	chain := space.Append(nil, []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, nil)
	var m kvcache.Matches
	index.Match(chain, 4, []uint64{1 << 3}, &m)
	fmt.Println(m.Blocks[3]*4, "tokens are cached; problems:", f.Health()[0].Problems())

	cancel()
	<-done
	// Output: 8 tokens are cached; problems: []
}
