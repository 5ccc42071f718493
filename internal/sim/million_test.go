package sim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/stretchr/testify/require"
)

var million = flag.Bool("million", false, "simulate 1,000,000 requests on 1,024 endpoints and check the memory (minutes)")

// TestMillion holds a run of 1,000,000 requests on 1,024 endpoints to 4 GiB: the greatest resident size of the process,
// which Linux tells. Nearly all of it is the engines' tables, which never become garbage; the collector is told so, or it
// would let the heap grow to twice their size.
func TestMillion(t *testing.T) {
	if !*million {
		t.Skip("takes minutes: -million")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(3 << 30))
	for _, blockTokens := range []int{512, 16} {
		t.Run(fmt.Sprintf("block=%d", blockTokens), func(t *testing.T) {
			source, name := loop(t, 1100)
			result, err := Run(context.Background(), Config{
				Seed: 1, Requests: 1_000_000, Workload: source, Policy: MustPolicy("default"),
				Fleet: []Group{{Count: 1024, Engine: engine.Options{BlockTokens: blockTokens, Blocks: 27_000 * 16 / blockTokens}}},
			})
			require.NoError(t, err)
			require.Equal(t, 1_000_000, result.All.Arrived)
			resident := peakResident(t)
			t.Logf("%s: %d completed, hit ratio %.3f, peak resident %.2f GiB", name, result.All.Ended[Completed], result.HitRatio(), resident/(1<<30))
			require.Less(t, resident, float64(4<<30))
		})
	}
}

func peakResident(t *testing.T) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc here to read the resident size from")
	}
	for line := range bytes.Lines(status) {
		var kilobytes float64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %f kB", &kilobytes); n == 1 {
			return kilobytes * 1024
		}
	}
	t.Fatal("no VmHWM in /proc/self/status")
	return 0
}
