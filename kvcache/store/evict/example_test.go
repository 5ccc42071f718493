package evict_test

import (
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/kvcache/store/evict"
)

// A prompt that all requests share, and questions that nobody asks again, in a store that holds the prompt and one question.
func ExampleEvaluate() {
	var prompts [][]evict.Block
	for n := range evict.ID(50) {
		prompts = append(prompts, []evict.Block{
			{ID: 1, Bytes: 1 << 20, Cost: 0.05}, {ID: 2, Bytes: 1 << 20, Cost: 0.06}, {ID: 1000 + n, Bytes: 1 << 20, Cost: 0.07},
		})
	}
	for _, k := range []evict.Kind{evict.LRU, evict.PrefixCost} {
		r, err := evict.Evaluate(k, 3<<20, slices.Values(prompts))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v: %.0f %% of the blocks found, %.1f s saved, %d MiB moved\n", k, 100*r.HitRatio(), r.SavedSeconds, r.MovedBytes()>>20)
	}
	// Output:
	// lru: 65 % of the blocks found, 5.4 s saved, 150 MiB moved
	// prefix-cost: 65 % of the blocks found, 5.4 s saved, 150 MiB moved
}
