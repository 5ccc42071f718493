package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/kvcache/store"
)

func TestSightings(t *testing.T) {
	s := store.NewSightings(1000)
	for i := range 20 {
		require.Equal(t, min(i+1, 15), s.Saw(key(1)))
	}
	require.Zero(t, s.Seen(key(2)))
	wrong := 0
	for n := range 1000 {
		if s.Saw(key(100+n)) != 1 {
			wrong++
		}
	}
	require.Less(t, wrong, 20, "of 1,000 keys that were never seen")
	for n := range 20_000 {
		s.Saw(key(2000 + n))
	}
	require.Less(t, s.Seen(key(1)), 15, "what was not seen for long is forgotten")
}

// The reference says that Llama-3.1-70B (327,680 bytes a token) on 400 TFLOP/s breaks even near 0.94 GB/s: below that, loading is
// slower than computing, however long the prompt.
func TestBreakEvenBandwidth(t *testing.T) {
	const bytesPerToken, flops = 327_680.0, 400e12
	recompute := func(cached, tokens int) time.Duration {
		perToken := 2*70e9 + 4*80*8192*(float64(cached)+float64(tokens)/2)
		return time.Duration(float64(tokens) * perToken / flops * 1e9)
	}
	slow := store.Speed{BytesPerSecond: 0.9e9, Measured: 1}
	fast := store.Speed{BytesPerSecond: 1.1e9, Measured: 1}
	_, ok := store.BreakEvenTokens(slow, bytesPerToken, recompute, 1000)
	require.False(t, ok)
	n, ok := store.BreakEvenTokens(fast, bytesPerToken, recompute, 1000)
	require.True(t, ok)
	require.Equal(t, 1, n)
	// A remote store with a latency of 100 ms wins only past some hundreds of tokens: n = latency / (compute - load) a token.
	remote := store.Speed{Latency: 100 * time.Millisecond, BytesPerSecond: 10e9, Measured: 1}
	n, ok = store.BreakEvenTokens(remote, bytesPerToken, recompute, 10_000)
	require.True(t, ok)
	require.InDelta(t, 315, n, 15)
	_, ok = store.BreakEvenTokens(store.Speed{}, bytesPerToken, recompute, 10_000)
	require.False(t, ok)
}

func TestLoadOrRecompute(t *testing.T) {
	recompute := func(cached, tokens int) time.Duration { return time.Duration(tokens) * time.Millisecond }
	block := func(s store.Speed) store.Residence { return store.Residence{Reads: s, Bytes: 1000, Tokens: 10} }
	fast := store.Speed{Latency: time.Millisecond, BytesPerSecond: 1e6, Measured: 1}     // 1 ms a block, and 1 ms
	slow := store.Speed{Latency: time.Millisecond, BytesPerSecond: 50e3, Measured: 1}    // 20 ms a block
	far := store.Speed{Latency: 25 * time.Millisecond, BytesPerSecond: 1e6, Measured: 1} // worth it for three blocks
	for _, row := range []struct {
		name   string
		blocks []store.Residence
		prompt int
		load   int
		saved  time.Duration
	}{
		{"nothing there", nil, 100, 0, 0},
		{"all fast", []store.Residence{block(fast), block(fast)}, 100, 2, 17 * time.Millisecond},
		{"all slow", []store.Residence{block(slow), block(slow)}, 100, 0, 0},
		{"fast, then slow", []store.Residence{block(fast), block(slow)}, 100, 1, 8 * time.Millisecond},
		{"slow, then so many fast ones that it pays", []store.Residence{block(slow), block(fast), block(fast)}, 100, 3, 6 * time.Millisecond},
		{"far and short", []store.Residence{block(far), block(far)}, 100, 0, 0},
		{"far and long", []store.Residence{block(far), block(far), block(far), block(far)}, 100, 4, 11 * time.Millisecond},
		{"not measured", []store.Residence{block(fast), block(store.Speed{}), block(fast)}, 100, 1, 8 * time.Millisecond},
		{"the whole prompt: its last token is computed", []store.Residence{block(fast)}, 10, 1, 7 * time.Millisecond},
		{"more than the prompt", []store.Residence{block(fast)}, 9, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := store.LoadOrRecompute(row.blocks, row.prompt, recompute)
			require.Equal(t, row.load, d.Load)
			require.Equal(t, row.saved, d.Saved())
		})
	}
}

func TestPrefillTime(t *testing.T) {
	model, err := accel.LookupModel("meta-llama/Llama-3.1-70B")
	require.NoError(t, err)
	system, err := accel.Builtin().System("h100-sxm")
	require.NoError(t, err)
	p, err := accel.Calibrated().Prepare(accel.Deployment{Model: model, System: system, Parallelism: accel.Parallelism{TP: 8}})
	require.NoError(t, err)
	recompute, err := store.PrefillTime(p, 32_768)
	require.NoError(t, err)
	e, err := p.Estimate(accel.Workload{InputTokens: 8192, OutputTokens: 1, Concurrency: 1})
	require.NoError(t, err)
	require.InEpsilon(t, e.Prefill.Seconds(), recompute(0, 8192).Seconds(), 0.02)
	require.Zero(t, recompute(100, 0))
	rapid.Check(t, func(t *rapid.T) {
		cached, tokens := rapid.IntRange(0, 30_000).Draw(t, "cached"), rapid.IntRange(1, 2_000).Draw(t, "tokens")
		require.Positive(t, recompute(cached, tokens))
		require.GreaterOrEqual(t, recompute(cached, tokens+100), recompute(cached, tokens))
	})
	require.Greater(t, recompute(30_000, 1000), recompute(0, 1000), "attention looks back at more")
	require.Zero(t, testing.AllocsPerRun(100, func() { recompute(5000, 500) }))
	_, err = store.PrefillTime(p, 0)
	require.ErrorContains(t, err, "maxTokens is 0")
}

func TestPrefetchBeforeTheNextTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := map[store.Key]time.Time{}
		p, err := store.NewPrefetcher(store.PrefetcherOptions{Learn: 20, Fetch: func(_ context.Context, keys []store.Key) {
			for _, k := range keys {
				fetched[k] = time.Now()
			}
		}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		// Users think for 30 to 69 seconds.
		for n := range 40 {
			p.Ended("learn", []store.Key{key(1000 + n)})
			time.Sleep(time.Duration(30+n) * time.Second)
			p.Began("learn")
		}
		before := p.Stats()
		ended := time.Now()
		p.Ended("a", []store.Key{key(1), key(2)})
		p.Ended("b", []store.Key{key(3)})
		time.Sleep(10 * time.Second)
		p.Began("b") // sooner than anybody
		time.Sleep(40 * time.Second)
		synctest.Wait()
		require.Contains(t, fetched, key(2))
		require.NotContains(t, fetched, key(3))
		after := fetched[key(1)].Sub(ended)
		require.Greater(t, after, 15*time.Second, "not long before")
		require.Less(t, after, 34*time.Second, "but before nine in ten turns")
		p.Began("a")
		p.Ended("c", []store.Key{key(4)})
		time.Sleep(time.Hour) // it never comes back
		synctest.Wait()
		require.Contains(t, fetched, key(4))
		st := p.Stats()
		require.Equal(t, store.PrefetchStats{InTime: before.InTime + 1, TooLate: before.TooLate + 1, InVain: before.InVain + 1}, st)
		cancel()
		<-done
	})
}

func TestPrefetcherOptions(t *testing.T) {
	_, err := store.NewPrefetcher(store.PrefetcherOptions{Quantile: 1, Learn: -1})
	for _, want := range []string{"Fetch is nil", "Quantile is 1", "Learn -1"} {
		require.ErrorContains(t, err, want)
	}
}

func TestSimulatedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := store.NewSimulatedDevice(4, 1000, 1e6)
		require.NoError(t, err)
		start := time.Now()
		page := func(b byte) []byte { return append(make([]byte, 999), b) }
		require.NoError(t, d.Load(t.Context(), []int{1, 3}, [][]byte{page(1), page(3)}))
		require.Equal(t, 2*time.Millisecond, time.Since(start), "2,000 bytes at 1 MB/s")
		got := [][]byte{page(9), page(9)}
		require.NoError(t, d.Offload(t.Context(), []int{3, 0}, got))
		require.Equal(t, [][]byte{page(3), page(0)}, got)
		require.ErrorContains(t, d.Load(t.Context(), []int{4, 0}, [][]byte{page(0), nil}), "block 4 of a device of 4\n0 bytes for block 0")
		_, err = store.NewSimulatedDevice(0, 1, 1)
		require.Error(t, err)
	})
}

func ExampleLoadOrRecompute() {
	// 70B on an accelerator that does 400 TFLOP/s, and a disk that was measured at 6 GB/s.
	recompute := func(cached, tokens int) time.Duration {
		return time.Duration(float64(tokens) * (2*70e9 + 4*80*8192*(float64(cached)+float64(tokens)/2)) / 400e12 * 1e9)
	}
	disk := store.Speed{Latency: time.Millisecond, BytesPerSecond: 6e9, Measured: 100}
	var blocks []store.Residence
	for range 16 {
		blocks = append(blocks, store.Residence{Reads: disk, Bytes: 256 * 327_680, Tokens: 256})
	}
	d := store.LoadOrRecompute(blocks, 5000, recompute)
	fmt.Printf("load %d blocks in %v, compute the rest in %v instead of all in %v\n", d.Load,
		d.LoadTime.Round(time.Millisecond), d.ComputeTime.Round(time.Millisecond), d.ComputeAll.Round(time.Millisecond))
	// Output: load 16 blocks in 225ms, compute the rest in 343ms instead of all in 1.832s
}
