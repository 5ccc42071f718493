package disk

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

var (
	benchDir   = flag.String("dir", "", "folder on the disk to measure; empty is the folder for temporary files")
	benchBytes = flag.Int64("bytes", 1<<30, "bytes that a benchmark writes and reads")
)

// fio measures the disk by the same pattern, or passes over if there is no fio.
func fio(b *testing.B, pattern string, page int64, depth int) {
	path, err := exec.LookPath("fio")
	if err != nil {
		b.Skip("no fio")
	}
	dir := tempDir(b)
	var rate float64
	for b.Loop() {
		out, err := exec.Command(path, "--name=x", "--filename="+filepath.Join(dir, "fio"), fmt.Sprintf("--size=%d", *benchBytes),
			fmt.Sprintf("--bs=%d", page), "--rw="+pattern, "--direct=1", "--ioengine=libaio", fmt.Sprintf("--iodepth=%d", depth),
			"--output-format=json").Output()
		require.NoError(b, err)
		var r struct {
			Jobs []struct {
				Read, Write struct {
					Bytes float64 `json:"bw_bytes"`
				}
			}
		}
		require.NoError(b, json.Unmarshal(out, &r))
		rate = r.Jobs[0].Read.Bytes + r.Jobs[0].Write.Bytes
	}
	b.ReportMetric(rate/1e6, "MB/s")
}

func tempDir(b *testing.B) string {
	dir, err := os.MkdirTemp(*benchDir, "kvdisk")
	require.NoError(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// each runs f for 0 to n-1, depth at once.
func each(n, depth int, f func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range depth {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	all.Wait()
}

func benchKey(n int) store.Key {
	return store.Key{Namespace: "bench", Hash: fmt.Sprintf("%032d", n)}
}

// BenchmarkDisk writes new pages one after another and reads pages by chance, as fio does with blocks of the same size and as
// many at once, past the page cache.
func BenchmarkDisk(b *testing.B) {
	for _, page := range []struct {
		name  string
		bytes int64
	}{{"256KiB", 256 << 10}, {"2MiB", 2 << 20}} {
		for _, depth := range []int{1, 8} {
			name := fmt.Sprintf("/page=%s/depth=%d", page.name, depth)
			pages := int(*benchBytes / page.bytes)
			value := storetest.Value(benchKey(1), 0, int(page.bytes))
			b.Run("op=write"+name+"/by=fio", func(b *testing.B) { fio(b, "write", page.bytes, depth) })
			b.Run("op=write"+name+"/by=store", func(b *testing.B) {
				b.ReportAllocs()
				var took time.Duration
				amplification := 0.0
				for b.Loop() {
					s, err := Open(b.Context(), Options{Dir: tempDir(b), CapacityBytes: 4 * *benchBytes})
					require.NoError(b, err)
					start := time.Now()
					each(pages, depth, func(n int) {
						if err := s.Put(b.Context(), benchKey(n), value, store.Attr{}); err != nil {
							b.Error(err)
						}
					})
					took = time.Since(start)
					amplification = s.Stats().WriteAmplification()
					require.NoError(b, s.Close())
				}
				b.ReportMetric(float64(pages)*float64(page.bytes)/took.Seconds()/1e6, "MB/s")
				b.ReportMetric(amplification, "written/put")
			})
			b.Run("op=read"+name+"/by=fio", func(b *testing.B) { fio(b, "randread", page.bytes, depth) })
			b.Run("op=read"+name+"/by=store", func(b *testing.B) {
				s, err := Open(b.Context(), Options{Dir: tempDir(b), CapacityBytes: 4 * *benchBytes})
				require.NoError(b, err)
				defer s.Close()
				each(pages, 8, func(n int) { require.NoError(b, s.Put(b.Context(), benchKey(n), value, store.Attr{})) })
				order := rand.New(rand.NewPCG(1, 1)).Perm(pages)
				var took time.Duration
				for b.Loop() {
					start := time.Now()
					each(pages, depth, func(n int) {
						p, err := s.Get(b.Context(), benchKey(order[n]))
						if err != nil {
							b.Error(err)
							return
						}
						p.Release()
					})
					took = time.Since(start)
				}
				b.ReportMetric(float64(pages)*float64(page.bytes)/took.Seconds()/1e6, "MB/s")
			})
		}
	}
}

// BenchmarkChurn fills a store several times over, with reuse of a part of its pages, and reports the write amplification.
func BenchmarkChurn(b *testing.B) {
	b.ReportAllocs()
	const page = 256 << 10
	for b.Loop() {
		s, err := Open(b.Context(), Options{Dir: tempDir(b), CapacityBytes: *benchBytes / 2})
		require.NoError(b, err)
		value := storetest.Value(benchKey(1), 0, page)
		pages := int(2 * *benchBytes / page)
		each(pages, 8, func(n int) {
			require.NoError(b, s.Put(b.Context(), benchKey(n), value, store.Attr{}))
			// One page in four of the recent ones is used again, and so stays while its neighbours go.
			if p, err := s.Get(b.Context(), benchKey(max(n-600, 0)/4*4)); err == nil {
				p.Release()
			}
		})
		st := s.Stats()
		b.ReportMetric(st.WriteAmplification(), "written/put")
		b.ReportMetric(float64(st.CopiedBytes)/float64(st.PutBytes), "copied/put")
		require.NoError(b, s.Close())
	}
}

// BenchmarkRecovery opens a store that was closed, and one whose process was killed.
func BenchmarkRecovery(b *testing.B) {
	const page = 256 << 10
	for _, killed := range []bool{false, true} {
		b.Run(fmt.Sprintf("bytes=%d/killed=%v", *benchBytes, killed), func(b *testing.B) {
			dir := tempDir(b)
			o := Options{Dir: dir, CapacityBytes: *benchBytes * 5 / 4}
			s, err := Open(b.Context(), o)
			require.NoError(b, err)
			value := storetest.Value(benchKey(1), 0, page)
			each(int(*benchBytes/page), 8, func(n int) { require.NoError(b, s.Put(b.Context(), benchKey(n), value, store.Attr{})) })
			require.NoError(b, s.Close())
			names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
			require.NoError(b, err)
			var took time.Duration
			for b.Loop() {
				if killed {
					// Two segments were being written.
					for _, name := range names[len(names)-2:] {
						eraseTrailer(b, name)
					}
				}
				start := time.Now()
				s, err := Open(b.Context(), o)
				took = time.Since(start)
				require.NoError(b, err)
				require.Greater(b, s.Stats().Recovered, *benchBytes/page*9/10)
				require.NoError(b, s.Close())
			}
			b.ReportMetric(float64(took.Milliseconds()), "open-ms")
		})
	}
}

func eraseTrailer(b *testing.B, name string) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(b, err)
	defer f.Close()
	i, err := f.Stat()
	require.NoError(b, err)
	_, err = f.WriteAt(make([]byte, block), i.Size()-block)
	require.NoError(b, err)
}
