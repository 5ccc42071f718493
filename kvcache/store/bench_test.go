package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func warm(t testing.TB) *store.Tiered {
	m, err := newMemory()
	require.NoError(t, err)
	s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "cpu", Store: m}, {Name: "below", Store: &storetest.Map{}, Write: store.WriteSelective}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Put(t.Context(), key(1), make([]byte, 256<<10), store.Attr{}))
	for range 20 {
		p, err := s.Get(t.Context(), key(1))
		require.NoError(t, err)
		p.Release()
	}
	require.NoError(t, s.Flush(t.Context()))
	return s
}

func TestHitInMemoryAllocatesNothing(t *testing.T) {
	s := warm(t)
	ctx, k := t.Context(), key(1)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		p, _ := s.Get(ctx, k)
		p.Release()
	}))
}

// BenchmarkTieredGet reads a page that the first level, memory, has.
func BenchmarkTieredGet(b *testing.B) {
	s := warm(b)
	ctx, k := b.Context(), key(1)
	b.ReportAllocs()
	for b.Loop() {
		p, err := s.Get(ctx, k)
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
	}
}
