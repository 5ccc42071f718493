package ledger

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

func TestPartitions(t *testing.T) {
	asked := map[string]int{}
	l, err := New(evict.LRU, 1000, func(namespace string) int64 {
		asked[namespace]++
		return map[string]int64{"a": 100, "b": 200}[namespace]
	})
	require.NoError(t, err)
	a, b := l.Partition("a"), l.Partition("b")
	require.NotEqual(t, a, b)
	require.Zero(t, l.Partition("others"))
	require.Equal(t, a, l.Partition("a"))
	require.Equal(t, 1, asked["a"])

	for i := range evict.ID(3) {
		l.Add(a, 10+i, 30, 25, evict.Meta{Bytes: 30})
		l.Add(b, 20+i, 30, 25, evict.Meta{Bytes: 30})
		l.Add(0, 30+i, 30, 25, evict.Meta{Bytes: 30})
	}
	require.Equal(t, store.Usage{Pages: 9, Bytes: 225, UsedBytes: 270, CapacityBytes: 1000}, l.Usage())
	require.Equal(t, int64(-5), l.Excess(a, 5))
	require.Equal(t, int64(20), l.Excess(a, 30))

	// The partition that is fullest by its own limit gives first: a is at 90 of 100, b at 90 of 200, all others at 90 of 1000.
	var order []evict.ID
	for {
		id, part, ok := l.AnyVictim(func(id evict.ID) bool { return id == 12 })
		if !ok {
			break
		}
		l.Evicted(part, 30, 25)
		order = append(order, id)
	}
	require.Equal(t, []evict.ID{10, 11, 20, 21, 22, 30, 31, 32}, order, "12 is to stay")
	require.Equal(t, store.Usage{Pages: 1, Bytes: 25, UsedBytes: 30, CapacityBytes: 1000}, l.Usage())
	l.Remove(a, 12, 30, 25)
	require.Zero(t, l.Usage().Pages)
}

func TestWithoutQuotas(t *testing.T) {
	l, err := New(evict.LRU, 1000, nil)
	require.NoError(t, err)
	for i := range 1000 {
		require.Zero(t, l.Partition(fmt.Sprint(i)))
	}
	require.Empty(t, l.numbers)
	_, err = New(evict.LRU, 0, nil)
	require.Error(t, err)
}

func TestIDsOfKeys(t *testing.T) {
	h := NewHasher()
	seen := map[evict.ID]store.Key{}
	for i := range 10_000 {
		for _, k := range []store.Key{
			{Namespace: "a", Hash: fmt.Sprint(i)}, {Namespace: "b", Hash: fmt.Sprint(i)},
			{Namespace: "a", Hash: fmt.Sprint(i), Group: 1}, {Namespace: "a", Hash: fmt.Sprint(i), Rank: 1},
		} {
			id := h.ID(&k)
			other, twice := seen[id]
			require.False(t, twice, "%v and %v", k, other)
			seen[id] = k
		}
	}
	k := store.Key{Namespace: "a", Hash: "x"}
	require.NotEqual(t, NewHasher().ID(&k), h.ID(&k), "nobody can tell which keys collide")
	parent := store.Key{Namespace: "a", Hash: "p"}
	m := h.Meta(k, &store.Attr{Chained: true, Parent: "p", Depth: 3}, 100)
	require.Equal(t, evict.Meta{Bytes: 100, Parent: h.ID(&parent), HasParent: true, Depth: 3}, m)
	require.False(t, func() bool { m := h.Meta(k, &store.Attr{Chained: true}, 1); return m.HasParent }())
}
