package prefix_test

import (
	"fmt"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// An index by itself: endpoints 0 and 1 with room for 1000 blocks each.
func Example() {
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		panic(err)
	}
	a, b := kvcache.Pod{ID: 0, Generation: 1}, kvcache.Pod{ID: 1, Generation: 1}
	for _, pod := range []kvcache.Pod{a, b} {
		if err := index.Open(pod, kvcache.PodOptions{Capacity: 1000}); err != nil {
			panic(err)
		}
	}

	start := blockhash.Start("llama", "", "", 4)
	hash := func(tokens ...uint32) []uint64 { return blockhash.AppendTokens(nil, start, tokens, 4) }
	index.Speculate(a, hash(1, 2, 3, 4, 5, 6, 7, 8))
	index.Speculate(b, hash(1, 2, 3, 4, 9, 9, 9, 9))

	cached := make([]int32, 2)
	index.Cached(hash(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 4, []uint64{0b11}, cached)
	fmt.Println(cached)
	// Output: [8 4]
}
