package prefix_test

import (
	"fmt"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// An index by itself: endpoints 0 and 1 with room for 1000 blocks each.
func Example() {
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		panic(err)
	}
	index.Open(0, 1, 1000)
	index.Open(1, 1, 1000)

	start := blockhash.Start("llama", "", "", 4)
	hash := func(tokens ...uint32) []uint64 { return blockhash.AppendTokens(nil, start, tokens, 4) }
	index.Insert(0, 1, hash(1, 2, 3, 4, 5, 6, 7, 8))
	index.Insert(1, 1, hash(1, 2, 3, 4, 9, 9, 9, 9))

	cached := make([]int32, 2)
	index.Match(hash(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 4, []uint64{0b11}, cached)
	fmt.Println(cached)
	// Output: [8 4]
}
