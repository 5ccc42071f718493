package kvcache_test

import (
	"fmt"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// An engine stores three blocks, moves the last to the CPU's memory, and is asked for a prompt that begins with them.
func Example() {
	x, err := kvcache.New(kvcache.Options{})
	if err != nil {
		panic(err)
	}
	pod := kvcache.Pod{ID: 3, Generation: 1}
	if err := x.Open(pod, kvcache.PodOptions{Name: "10.0.0.7:8000", Model: "llama"}); err != nil {
		panic(err)
	}

	tokens := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	x.ApplyBatch(pod, 0, &events.Batch{Events: []events.Event{
		{Kind: events.Stored, Tier: events.GPU, Group: -1, BlockTokens: 4, Hashes: []uint64{71, 72, 73}, Tokens: tokens},
		{Kind: events.Stored, Tier: events.CPU, Group: -1, Hashes: []uint64{73}}, // the engine's hash says which
		{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: []uint64{73}},
	}})

	space := kvcache.Space{Model: "llama", BlockTokens: 4}
	chain := space.Append(nil, append(tokens, 13, 14, 15, 16), nil)
	var m kvcache.Matches
	x.Match(chain, 4, []uint64{1 << 3}, &m)
	fmt.Println(m.Blocks[3], "blocks:", m.Tiers[kvcache.GPU][3], "in the GPU,", m.Tiers[kvcache.CPU][3], "beside it")
	// Output: 3 blocks: 2 in the GPU, 1 beside it
}
