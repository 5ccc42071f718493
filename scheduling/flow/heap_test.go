package flow

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestHeapOrdersLikeAList compares the heap with a list that is searched, with keys on both sides of where they wrap around.
func TestHeapOrdersLikeAList(t *testing.T) {
	type item struct {
		key int64
		tie uint64
		id  int
	}
	rapid.Check(t, func(t *rapid.T) {
		var h heap[*item]
		var list []*item
		tie := uint64(0)
		near := func() int64 { return math.MaxInt64 + int64(rapid.IntRange(-20, 20).Draw(t, "key")) } // wraps around
		t.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) {
				tie++
				it := &item{near(), tie, 0}
				it.id = h.push(it.key, it.tie, it)
				list = append(list, it)
			},
			"set": func(t *rapid.T) {
				if len(list) > 0 {
					it := rapid.SampledFrom(list).Draw(t, "which")
					it.key = near()
					h.set(it.id, it.key)
				}
			},
			"remove": func(t *rapid.T) {
				if len(list) > 0 {
					i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
					h.remove(list[i].id)
					list = append(list[:i], list[i+1:]...)
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(list), h.len())
				var least *item
				for _, it := range list {
					if least == nil || it.key-least.key < 0 || it.key == least.key && it.tie < least.tie {
						least = it
					}
				}
				if least != nil {
					require.Same(t, least, h.least())
					require.Equal(t, least.key, h.key())
				}
			},
		})
	})
}
