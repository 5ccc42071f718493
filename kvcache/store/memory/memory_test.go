package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.CapacityBytes == 0 {
		o.CapacityBytes = minCapacity
	}
	s, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	for _, k := range []evict.Kind{evict.LRU, evict.PrefixCost} {
		t.Run(k.String(), func(t *testing.T) {
			storetest.Run(t, storetest.Options{Forgets: true, MaxBytes: 700 << 10, Operations: 400, Seed: uint64(k), New: func(t *testing.T) store.Store {
				s, err := New(Options{CapacityBytes: minCapacity, Policy: k})
				require.NoError(t, err)
				return s
			}})
		})
	}
}

func TestOptions(t *testing.T) {
	_, err := New(Options{CapacityBytes: 1 << 20, Policy: 77})
	require.ErrorContains(t, err, "CapacityBytes is 1048576")
	require.ErrorContains(t, err, "Kind(77)")
}

func key(n int) store.Key { return store.Key{Namespace: "n", Hash: fmt.Sprintf("block %d", n)} }

func TestTooLarge(t *testing.T) {
	s := open(t, Options{})
	require.ErrorIs(t, s.Put(t.Context(), key(1), make([]byte, 1<<20), store.Attr{}), store.ErrTooLarge)
	_, err := s.Create(t.Context(), key(1), 1<<40, store.Attr{})
	require.ErrorIs(t, err, store.ErrTooLarge)
}

// A store full of pages that are being read refuses more, and takes them again when one is released.
func TestFullOfPagesBeingRead(t *testing.T) {
	s := open(t, Options{})
	value := make([]byte, 900<<10)
	var pages []store.Page
	for n := 0; ; n++ {
		if err := s.Put(t.Context(), key(n), value, store.Attr{}); err != nil {
			require.ErrorIs(t, err, store.ErrFull)
			break
		}
		p, err := s.Get(t.Context(), key(n))
		require.NoError(t, err)
		pages = append(pages, p)
	}
	require.Len(t, pages, 32)
	pages[0].Release()
	require.NoError(t, s.Put(t.Context(), key(1000), value, store.Attr{}))
	for i := range pages {
		pages[i].Release()
	}
}

func TestLeasesEnd(t *testing.T) {
	now := time.Unix(1000, 0)
	s := open(t, Options{Now: func() time.Time { return now }})
	value := make([]byte, 900<<10)
	require.NoError(t, s.Put(t.Context(), key(0), value, store.Attr{}))
	require.NoError(t, s.Pin(t.Context(), key(0), time.Minute))
	for n := 1; n < 100; n++ {
		require.NoError(t, s.Put(t.Context(), key(n), value, store.Attr{}))
	}
	_, err := s.Stat(t.Context(), key(0))
	require.NoError(t, err)
	now = now.Add(2 * time.Minute)
	for n := 100; n < 200; n++ {
		require.NoError(t, s.Put(t.Context(), key(n), value, store.Attr{}))
	}
	_, err = s.Stat(t.Context(), key(0))
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestQuotas(t *testing.T) {
	s := open(t, Options{Quota: func(namespace string) int64 { return map[string]int64{"small": 4 << 20}[namespace] }})
	small := func(n int) store.Key { return store.Key{Namespace: "small", Hash: fmt.Sprint(n)} }
	value := make([]byte, 1000<<10)
	for n := range 10 {
		require.NoError(t, s.Put(t.Context(), key(n), value, store.Attr{}))
	}
	for n := range 50 {
		require.NoError(t, s.Put(t.Context(), small(n), value, store.Attr{}))
	}
	for n := range 10 {
		_, err := s.Stat(t.Context(), key(n))
		require.NoError(t, err, "another namespace's quota has cost page %d", n)
	}
	held := 0
	for range s.Scan(t.Context(), "small") {
		held++
	}
	require.Equal(t, 4, held)
	for n := 46; n < 50; n++ {
		require.NoError(t, s.Pin(t.Context(), small(n), time.Hour))
	}
	require.ErrorIs(t, s.Put(t.Context(), small(99), value, store.Attr{}), store.ErrQuota)
}

// Pages of a new size find room in a store that is full of another.
func TestSizesChange(t *testing.T) {
	s := open(t, Options{})
	for n := range 20_000 {
		require.NoError(t, s.Put(t.Context(), key(n), make([]byte, 1000), store.Attr{}))
	}
	for n := range 100 {
		require.NoError(t, s.Put(t.Context(), key(100_000+n), make([]byte, 900<<10), store.Attr{}), "page %d", n)
	}
	for n := range 800 {
		size := []int{100, 5000, 70_000, 600_000}[n%4]
		require.NoError(t, s.Put(t.Context(), key(200_000+n), make([]byte, size), store.Attr{}), "page %d", n)
	}
}

func TestEvictedPagesAreHandedOn(t *testing.T) {
	s := open(t, Options{})
	value := func(n int) []byte { return storetest.Value(key(n), 0, 900<<10) }
	got := map[store.Key]bool{}
	var kept []store.Page
	s.OnEvict(func(k store.Key, p store.Page) {
		n := len(got)
		require.Equal(t, key(n), k)
		require.True(t, bytes.Equal(value(n), p.Bytes()))
		require.Equal(t, store.Attr{Tokens: n}, p.Attr())
		got[k] = true
		if n < 3 {
			kept = append(kept, p) // released later, so another page has to go
			return
		}
		p.Release()
	})
	for n := range 40 {
		require.NoError(t, s.Put(t.Context(), key(n), value(n), store.Attr{Tokens: n}))
	}
	require.Len(t, got, 40-32+3)
	for i, p := range kept {
		require.True(t, bytes.Equal(value(i), p.Bytes()))
		p.Release()
	}
}

func TestChangesAreTold(t *testing.T) {
	w := &watched{pages: map[store.Key]int64{}}
	s := open(t, Options{Watcher: w})
	random := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		n := random.IntN(80)
		if random.IntN(5) == 0 {
			require.NoError(t, s.Delete(t.Context(), key(n)))
			continue
		}
		require.NoError(t, s.Put(t.Context(), key(n), make([]byte, random.IntN(3)*400<<10), store.Attr{Depth: n, Chained: true}))
	}
	count := 0
	for e, err := range s.Scan(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, e.Info.Bytes, w.pages[e.Key])
		count++
	}
	require.Len(t, w.pages, count)
}

type watched struct{ pages map[store.Key]int64 }

func (w *watched) Changed(c store.Change) {
	_, there := w.pages[c.Key]
	if there != c.Removed {
		panic(fmt.Sprintf("%v: removed %v, was there %v", c.Key, c.Removed, there))
	}
	if delete(w.pages, c.Key); !c.Removed {
		w.pages[c.Key] = c.Bytes
	}
}

// Readers look for pages that stay while others come and go in the same chains: none may be missed.
func TestPinnedPagesAreAlwaysFound(t *testing.T) {
	s := open(t, Options{})
	for n := range 100 {
		require.NoError(t, s.Put(t.Context(), key(n), []byte{byte(n)}, store.Attr{}))
		require.NoError(t, s.Pin(t.Context(), key(n), time.Hour))
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for i := range 10_000 {
				n := 1000 + i%9000
				if s.Put(t.Context(), key(n), nil, store.Attr{}) != nil || s.Delete(t.Context(), key(n-3)) != nil {
					t.Error("put or delete failed")
					return
				}
			}
		})
	}
	for i := range 30_000 {
		p, err := s.Get(t.Context(), key(i%100))
		if err != nil || p.Bytes()[0] != byte(i%100) {
			t.Fatalf("page %d: %v", i%100, err)
		}
		p.Release()
	}
	all.Wait()
}

func TestPagesOutliveClose(t *testing.T) {
	s, err := New(Options{CapacityBytes: minCapacity})
	require.NoError(t, err)
	require.NoError(t, s.Put(t.Context(), key(1), []byte("page"), store.Attr{Tokens: 7}))
	p, err := s.Get(t.Context(), key(1))
	require.NoError(t, err)
	w, err := s.Create(t.Context(), key(2), 4, store.Attr{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Equal(t, "page", string(p.Bytes()))
	require.Equal(t, 7, p.Attr().Tokens)
	p.Release()
	require.NotNil(t, s.arena, "a writer still has a place")
	_, err = w.Write([]byte("late"))
	require.NoError(t, err)
	require.ErrorIs(t, w.Commit(t.Context()), store.ErrClosed)
	require.Nil(t, s.arena)
}

func TestSlabsAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slab = 1 << 20
		s := newSlabs(8*slab, slab)
		type place struct{ offset, size int }
		var held []place
		for range rapid.IntRange(1, 200).Draw(t, "operations") {
			if len(held) > 0 && rapid.IntRange(0, 2).Draw(t, "operation") == 0 {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "place")
				s.release(held[i].offset)
				held[i] = held[len(held)-1]
				held = held[:len(held)-1]
				continue
			}
			size := sizeOf(rapid.SampledFrom([]int{1, 4097, 100_000, 300_000, 1 << 20}).Draw(t, "bytes"))
			offset, ok := s.alloc(size)
			if !ok {
				require.Greater(t, len(held), 0)
				continue
			}
			require.LessOrEqual(t, offset/slab*slab+slab, 8*slab)
			require.LessOrEqual(t, offset+size, offset/slab*slab+slab, "a place does not cross slabs")
			for _, h := range held {
				require.True(t, offset+size <= h.offset || h.offset+h.size <= offset, "places overlap")
			}
			held = append(held, place{offset, size})
		}
		for _, h := range held {
			s.release(h.offset)
		}
		require.Len(t, s.empty, 8)
		require.Empty(t, s.classes)
	})
}

func TestSizes(t *testing.T) {
	for bytes := 1; bytes < 64<<20; bytes += 1 + bytes/7 {
		size := sizeOf(bytes)
		require.GreaterOrEqual(t, size, bytes)
		require.Zero(t, size%unit)
		require.LessOrEqual(t, size-bytes, max(unit, bytes/64))
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	s := open(t, Options{Policy: evict.PrefixCost})
	k := key(1)
	require.NoError(t, s.Put(t.Context(), k, make([]byte, 256<<10), store.Attr{Chained: true, Parent: "p", Depth: 3}))
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		p, _ := s.Get(ctx, k)
		p.Release()
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = s.Get(ctx, store.Key{Namespace: "n", Hash: "absent"}) }))
}

// Filling the arena must not grow the Go heap by more than the index and the policy, which are a few hundred bytes a page.
func TestHeapStaysSmall(t *testing.T) {
	before := heap()
	s := open(t, Options{CapacityBytes: 128 << 20, Policy: evict.PrefixCost})
	value := make([]byte, 256<<10)
	pages := 0
	for n := range 600 {
		require.NoError(t, s.Put(t.Context(), key(n), value, store.Attr{}))
	}
	pages = int(s.Usage().Pages)
	require.Greater(t, pages, 400)
	growth := heap() - before
	require.Less(t, growth, int64(2<<20), "the heap has grown by %d bytes for %d pages", growth, pages)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
