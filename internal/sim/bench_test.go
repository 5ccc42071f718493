package sim

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
)

// BenchmarkSimulate simulates requests of the Mooncake trace, where MOONCAKE_TRACE names its file, and of generated chats
// like it otherwise, on engines with blocks of 512 tokens as the trace has them, under the default policy, at about 0.7 of
// what the fleet can bear. An operation is a request.
func BenchmarkSimulate(b *testing.B) {
	for _, endpoints := range []int{64, 1024} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			benchmark(b, endpoints, 512)
		})
	}
}

// BenchmarkSimulateSmallBlocks is the same with vLLM's blocks of 16 tokens.
func BenchmarkSimulateSmallBlocks(b *testing.B) {
	b.Run("endpoints=64", func(b *testing.B) { benchmark(b, 64, 16) })
}

func benchmark(b *testing.B, endpoints, blockTokens int) {
	source, name := loop(b, 1.1*float64(endpoints))
	b.ReportAllocs()
	before, _ := cputime.Used()
	b.ResetTimer()
	result, err := Run(context.Background(), Config{
		Seed: 1, Requests: b.N, Workload: source, Policy: MustPolicy("default"),
		Fleet: []Group{{Count: endpoints, Engine: engine.Options{BlockTokens: blockTokens, Blocks: 27_000 * 16 / blockTokens}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	if result.All.Ended[Completed] < b.N*99/100 {
		b.Fatalf("%d of %d completed", result.All.Ended[Completed], b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	if after, ok := cputime.Used(); ok { // on a machine that others use too, this is the figure to look at
		b.ReportMetric(float64(b.N)/(after-before).Seconds(), "requests/cpu-s")
	}
	b.ReportMetric(100*result.HitRatio(), name+"-%hits")
}

// loop returns an endless source at a rate: the trace again and again, each time with other content, or chats.
func loop(tb testing.TB, rate float64) (workload.Source, string) {
	path := os.Getenv("MOONCAKE_TRACE")
	if path == "" {
		source, err := workload.Chats(workload.ChatOptions{Seed: 1, RequestsPerSecond: rate})
		if err != nil {
			tb.Fatal(err)
		}
		return source, "chats"
	}
	source, err := workload.Rotate(mooncake(tb, path), 0, rate)
	if err != nil {
		tb.Fatal(err)
	}
	return source, "mooncake"
}

func mooncake(tb testing.TB, path string) []workload.Request {
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var requests []workload.Request
	for w, err := range workload.Mooncake(file) {
		if err != nil {
			tb.Fatal(err)
		}
		requests = append(requests, w)
	}
	return requests
}
