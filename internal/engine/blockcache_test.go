package engine

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func (c *blockCache) contents() map[uint64]bool {
	set := map[uint64]bool{}
	for _, b := range c.blocks {
		if b.hash != 0 {
			set[b.hash] = true
		}
	}
	return set
}

func (c *blockCache) take() []uint64 {
	evicted := slices.Clone(c.evicted)
	c.evicted = c.evicted[:0]
	return evicted
}

func TestBlockCacheEvictsTheTailOfTheOldest(t *testing.T) {
	c := newBlockCache(4)
	table := c.allocate(nil, 3)
	for i, b := range table {
		require.True(t, c.store(b, uint64(i+1)))
	}
	c.release(table)

	// The block that never held anything is older than all that were released.
	c.allocate(nil, 1)
	require.Empty(t, c.take())
	c.allocate(nil, 1)
	require.Equal(t, []uint64{3}, c.take())

	matched, free := c.match(nil, []uint64{1, 2, 3})
	require.Len(t, matched, 2)
	require.Equal(t, 2, free)
}

func TestBlockCacheTakesWorthlessBlocksFirst(t *testing.T) {
	c := newBlockCache(2)
	table := c.allocate(nil, 1)
	c.store(table[0], 1)
	c.release(table)
	unfilled := c.allocate(nil, 1)
	c.release(unfilled)
	require.Equal(t, unfilled, c.allocate(nil, 1), "block 1 is older, and can be found")
	require.Empty(t, c.take())
}

func TestBlockCacheMatchRefreshes(t *testing.T) {
	c := newBlockCache(2)
	old, young := c.allocate(nil, 1), c.allocate(nil, 1)
	c.store(old[0], 1)
	c.store(young[0], 2)
	c.release(old)
	c.release(young)

	again, _ := c.match(nil, []uint64{1})
	c.share(again)
	c.release(again)
	c.allocate(nil, 1)
	require.Equal(t, []uint64{2}, c.take(), "block 1 was used after block 2")
}

func TestBlockCacheTwins(t *testing.T) {
	c := newBlockCache(2)
	a, b := c.allocate(nil, 1), c.allocate(nil, 1)
	require.True(t, c.store(a[0], 7))
	require.False(t, c.store(b[0], 7), "the content is known")
	c.release(a)
	c.allocate(nil, 1)
	require.Empty(t, c.take(), "the other copy lives")
	matched, free := c.match(nil, []uint64{7})
	require.Equal(t, b, matched)
	require.Zero(t, free)
	c.release(b)
	c.allocate(nil, 1)
	require.Equal(t, []uint64{7}, c.take())
}

// naiveCache is the same cache without any structure: a list of blocks in order of release, searched
// from end to end.
type naiveCache struct {
	hash map[int]uint64
	refs map[int]int
	free []int // oldest first
}

func (n *naiveCache) copies(hash uint64) (out []int) {
	for b, h := range n.hash {
		if h == hash {
			out = append(out, b)
		}
	}
	return out
}

func TestBlockCacheAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 24).Draw(t, "blocks")
		c := newBlockCache(size)
		n := naiveCache{hash: map[int]uint64{}, refs: map[int]int{}}
		for b := range size {
			n.free = append(n.free, b)
		}
		var tables [][]int32
		t.Repeat(map[string]func(*rapid.T){
			"run": func(t *rapid.T) {
				chain := rapid.SliceOfN(rapid.Uint64Range(1, 30), 0, 6).Draw(t, "chain")
				matched, free := c.match(nil, chain)

				wantFree := 0
				for i, b := range matched {
					require.Equal(t, chain[i], n.hash[int(b)])
					if n.refs[int(b)] == 0 {
						wantFree++
					}
				}
				if len(matched) < len(chain) {
					require.Empty(t, n.copies(chain[len(matched)]))
				}
				// A hash twice in one chain cannot happen with chained hashes and would be
				// counted twice here.
				if len(matched) != distinct(matched) {
					t.Skip("not a chain")
				}
				require.Equal(t, wantFree, free)

				need := len(chain) - len(matched)
				if need > c.free-free {
					t.Skip("does not fit")
				}
				c.share(matched)
				for _, b := range matched {
					n.refs[int(b)]++
					n.free = slices.DeleteFunc(n.free, func(f int) bool { return f == int(b) })
				}
				table := c.allocate(matched, need)
				var wantEvicted []uint64
				for i := len(matched); i < len(chain); i++ {
					b := n.free[0]
					n.free = n.free[1:]
					require.EqualValues(t, b, table[i], "the oldest free block is taken")
					if h := n.hash[b]; h != 0 && len(n.copies(h)) == 1 {
						wantEvicted = append(wantEvicted, h)
					}
					delete(n.hash, b)
					n.refs[b] = 1
				}
				require.Equal(t, wantEvicted, slices.Concat(c.take()))
				full := rapid.IntRange(len(matched), len(chain)).Draw(t, "full")
				for i := len(matched); i < full; i++ {
					require.Equal(t, len(n.copies(chain[i])) == 0, c.store(table[i], chain[i]))
					n.hash[int(table[i])] = chain[i]
				}
				tables = append(tables, table)
			},
			"finish": func(t *rapid.T) {
				if len(tables) == 0 {
					t.Skip("nothing runs")
				}
				i := rapid.IntRange(0, len(tables)-1).Draw(t, "table")
				c.release(tables[i])
				for _, b := range slices.Backward(tables[i]) {
					switch n.refs[int(b)]--; {
					case n.refs[int(b)] > 0:
					case n.hash[int(b)] == 0:
						n.free = slices.Insert(n.free, 0, int(b))
					default:
						n.free = append(n.free, int(b))
					}
				}
				tables = slices.Delete(tables, i, i+1)
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(n.free), c.free)
				want := map[uint64]bool{}
				for _, h := range n.hash {
					want[h] = true
				}
				require.Equal(t, want, c.contents())
				require.Equal(t, len(want), c.cached)
				for h := range want {
					require.NotEqual(t, none, c.lookup(h))
				}
			},
		})
	})
}

func distinct(table []int32) int {
	return len(slices.Compact(slices.Sorted(slices.Values(table))))
}
