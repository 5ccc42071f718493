package memory

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

var pageSizes = []struct {
	name  string
	bytes int
}{{"256KiB", 256 << 10}, {"2MiB", 2 << 20}}

func filled(b testing.TB, capacity int64, policy evict.Kind, bytes, pages int) *Store {
	s := open(b, Options{CapacityBytes: capacity, Policy: policy, Prefault: true})
	value := storetest.Value(key(1), 0, bytes)
	for n := range pages {
		require.NoError(b, s.Put(b.Context(), key(n), value, store.Attr{}))
	}
	return s
}

// BenchmarkPut puts new pages into a full store, each of which evicts another. op=memcpy copies as many bytes to as many places
// without a store: divide.
func BenchmarkPut(b *testing.B) {
	const capacity = 1 << 30
	for _, size := range pageSizes {
		value := storetest.Value(key(1), 0, size.bytes)
		b.Run("op=memcpy/page="+size.name, func(b *testing.B) {
			arena, err := mapArena(capacity)
			require.NoError(b, err)
			defer func() { require.NoError(b, unmapArena(arena)) }()
			advise(arena)
			for i := 0; i < capacity; i += unit {
				arena[i] = 1
			}
			b.SetBytes(int64(size.bytes))
			n := 0
			for b.Loop() {
				copy(arena[n:n+size.bytes], value)
				if n += size.bytes; n+size.bytes > capacity {
					n = 0
				}
			}
		})
		for _, policy := range []evict.Kind{evict.LRU, evict.PrefixCost} {
			b.Run(fmt.Sprintf("op=put/page=%s/policy=%v", size.name, policy), func(b *testing.B) {
				s := filled(b, capacity, policy, size.bytes, capacity/size.bytes+10)
				keys := make([]store.Key, 1<<14)
				for i := range keys {
					keys[i] = key(1_000_000 + i)
				}
				b.SetBytes(int64(size.bytes))
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					if err := s.Put(b.Context(), keys[n%len(keys)], value, store.Attr{}); err != nil {
						b.Fatal(err)
					}
					n++
				}
			})
		}
	}
}

// BenchmarkGet reads resident pages without copying them.
func BenchmarkGet(b *testing.B) {
	for _, size := range pageSizes {
		b.Run("page="+size.name, func(b *testing.B) {
			const capacity = 1 << 30
			pages := capacity / size.bytes / 2
			s := filled(b, capacity, evict.PrefixCost, size.bytes, pages)
			keys := make([]store.Key, pages)
			for i := range keys {
				keys[i] = key(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				for n := 0; pb.Next(); n += 7 {
					p, err := s.Get(ctx, keys[n%pages])
					if err != nil {
						b.Error(err)
						return
					}
					p.Release()
				}
			})
		})
	}
}

// BenchmarkAlloc takes a place for a page and gives it back, in a store that is half full, without writing to it.
func BenchmarkAlloc(b *testing.B) {
	for _, size := range pageSizes {
		b.Run("page="+size.name, func(b *testing.B) {
			const capacity = 1 << 30
			s := filled(b, capacity, evict.LRU, size.bytes, capacity/size.bytes/2)
			k, attr := key(1<<20), store.Attr{}
			times := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				n, _, err := s.reserve(b.Context(), &k, size.bytes, &attr)
				took := time.Since(start)
				if err != nil {
					b.Fatal(err)
				}
				s.ReleasePage(uint64(n))
				if len(times) < cap(times) {
					times = append(times, took)
				}
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2]), "p50-ns")
			b.ReportMetric(float64(times[len(times)*99/100]), "p99-ns")
		})
	}
}

var resident = flag.Int64("resident", 512<<20, "bytes that BenchmarkResident fills")

// BenchmarkResident collects garbage with and without a full store beside it, and says how the Go heap has grown.
func BenchmarkResident(b *testing.B) {
	collect := func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
	}
	debug.FreeOSMemory()
	b.Run("store=empty", collect)
	before := heap()
	pages := int(*resident / (260 << 10))
	s := filled(b, *resident+64<<20, evict.PrefixCost, 256<<10, pages)
	growth := heap() - before
	b.Run("store=full", func(b *testing.B) {
		collect(b)
		b.ReportMetric(float64(growth)/float64(pages), "heap-B/page")
		b.ReportMetric(float64(growth)/float64(s.Usage().Bytes)*100, "heap-%")
	})
}
