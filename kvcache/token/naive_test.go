package token

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// naiveMerge is byte pair encoding as it is defined: the pair of the lowest rank, leftmost, until there is none.
func naiveMerge(list []pair, symbols []uint32) []uint32 {
	symbols = slices.Clone(symbols)
	for {
		best, at := uint64(noMerge), 0
		for i := range len(symbols) - 1 {
			for _, p := range list {
				if p.key == uint64(symbols[i])<<32|uint64(symbols[i+1]) && p.priority < best {
					best, at = p.priority, i
				}
			}
		}
		if best == noMerge {
			return symbols
		}
		symbols = slices.Replace(symbols, at, at+2, uint32(best))
	}
}

// drawMerges draws merges over a few first symbols. The ids of results follow them.
func drawMerges(t *rapid.T) []pair {
	const first = 3
	n := rapid.IntRange(0, 20).Draw(t, "merges")
	var list []pair
	for rank := range n {
		left := rapid.Uint64Range(0, uint64(first+rank-1)).Draw(t, "left")
		right := rapid.Uint64Range(0, uint64(first+rank-1)).Draw(t, "right")
		key := left<<32 | right
		if !slices.ContainsFunc(list, func(p pair) bool { return p.key == key }) {
			list = append(list, pair{key, uint64(rank)<<32 | uint64(first+rank)})
		}
	}
	// Ranks need not follow the order in which tokens were made.
	order := rapid.Permutation(list).Draw(t, "order")
	for i := range order {
		order[i].priority = uint64(i)<<32 | order[i].priority&0xffffffff
	}
	return order
}

func TestMergeEqualsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawMerges(t)
		symbols := rapid.SliceOfN(rapid.Uint32Range(0, 2), 1, 3*fewSymbols).Draw(t, "symbols")
		m := newMerges(list)
		want := naiveMerge(list, symbols)
		require.Equal(t, want, m.merge(&scratch{}, nil, slices.Clone(symbols)))
		require.Equal(t, want, m.mergeMany(&scratch{}, nil, slices.Clone(symbols)), "by heap")
	})
}

// texts are what the golden files have, for properties that need no expectation.
func texts(t testing.TB, family string) [][]byte {
	var all [][]byte
	for _, e := range readExpectations(t, gunzip(t, "testdata/"+family+".cases.gz")) {
		all = append(all, e.text)
	}
	return all
}

// TestSeamsChangeNothing merges texts as a whole that are cut otherwise.
func TestSeamsChangeNothing(t *testing.T) {
	for _, family := range []string{"llama2", "mistral", "gemma", "metaspace"} {
		tok := loadFamily(t, family, Options{CacheBytes: -1})
		for _, text := range texts(t, family) {
			text = bytes.ReplaceAll(appendValid(nil, text), []byte(" "), []byte("▁"))
			if len(text) == 0 {
				continue
			}
			require.Equal(t, tok.model.encode(&scratch{}, nil, text), tok.model.append(&scratch{}, nil, text), "%s: %q", family, text)
		}
	}
}

// TestTimeStaysLinear encodes a quarter of a megabyte of what is worst for each step.
func TestTimeStaysLinear(t *testing.T) {
	const size = 1 << 18
	for _, family := range families(t) {
		tok := loadFamily(t, family, Options{})
		for _, part := range []string{"a", "ab", " ", "\n", " \n", "1", "'", "中", "é", "\u0301", "\u0323\u0301", "<|im_start|", "<|im_start|>", "A", "!", "\x00", "▁", "\xff"} {
			text := bytes.Repeat([]byte(part), size/len(part))
			start := time.Now()
			n := len(tok.AppendSpecial(nil, text))
			// A quadratic step would take minutes. The bound has room for slow machines and the race detector.
			require.Less(t, time.Since(start), 10*time.Second, "%s: %q", family, part)
			require.Positive(t, n)
		}
	}
}

// TestNoAllocations holds encoding to the rule of hot paths.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for _, family := range families(t) {
		tok := loadFamily(t, family, Options{})
		text := bytes.Join(texts(t, family), nil)
		ids := tok.AppendSpecial(nil, text)
		require.Zero(t, testing.AllocsPerRun(20, func() { ids = tok.AppendSpecial(ids[:0], text) }), family)
		require.Zero(t, testing.AllocsPerRun(20, func() { tok.Count(text) }), family)
	}
}
