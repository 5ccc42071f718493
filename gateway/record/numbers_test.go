package record

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// numbers against a list of the keys in order of their latest use.
func TestNumbersRememberTheLatest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		n := newNumbers(limit, 1)
		var latest []uint64 // keys, the latest first
		known := map[uint64]uint64{}
		next := uint64(1)
		for _, key := range rapid.SliceOf(rapid.Uint64Range(0, 20)).Draw(t, "keys") {
			number := n.of(key)
			place := slices.Index(latest, key)
			switch {
			case place >= 0 && place < limit:
				require.Equal(t, known[key], number, "among the latest %d keys", limit)
			case place < 0 || place >= 2*limit:
				require.Equal(t, next, number, "seen long ago or never")
			default: // either
				require.Contains(t, []uint64{known[key], next}, number)
			}
			next = max(next, number+1)
			known[key] = number
			if place >= 0 {
				latest = slices.Delete(latest, place, place+1)
			}
			latest = slices.Insert(latest, 0, key)
			require.LessOrEqual(t, len(n.now)+len(n.before), 2*limit)
		}
	})
}

func TestRuns(t *testing.T) {
	n := newNumbers(100, 0)
	require.Equal(t, []Run{{0, 3}}, n.appendRuns(nil, []uint64{7, 8, 9}))
	require.Equal(t, []Run{{0, 2}, {3, 2}}, n.appendRuns(nil, []uint64{7, 8, 5, 6}))
	require.Equal(t, []Run{{3, 1}, {0, 1}, {5, 1}}, n.appendRuns(nil, []uint64{5, 7, 1}))
}
