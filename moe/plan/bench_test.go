package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/inferloom/inferloom/accel"
)

func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{8, 32, 64, 96} {
		b.Run(fmt.Sprintf("gpus=%d", n), func(b *testing.B) {
			p := Problem{
				Model: modelOf(b, "deepseek-ai/DeepSeek-R1"), System: systemOf(b, "b200"), Accelerators: n, Input: 1000, Output: 1000,
				TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond,
			}
			b.ReportAllocs()
			for b.Loop() {
				r, err := Search(accel.Calibrated(), p)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(r.Cuts), "cuts")
				b.ReportMetric(float64(r.Estimates), "estimates")
			}
		})
	}
}
