package dashboard

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
)

func benchRecords(n int) []gateway.Record {
	records := make([]gateway.Record, n)
	for i := range records {
		records[i] = answer(fmt.Sprintf("e-%d", i))
		records[i].Usage = api.Usage{PromptTokens: 1000, CachedTokens: 500, CompletionTokens: 100, Known: api.PromptCount | api.CachedCount | api.CompletionCount}
		if i%10 == 0 {
			records[i].Explanation = &scheduling.Explanation{}
		}
	}
	return records
}

func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{8, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			d, err := New(Options{Pool: manyEndpoints(b, n)})
			require.NoError(b, err)
			records := benchRecords(n)
			for _, r := range records {
				d.Observe(r)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d.Observe(records[i%n])
			}
		})
	}
}

// BenchmarkObserveParallel has every core end requests while a reader makes documents as fast as it can.
func BenchmarkObserveParallel(b *testing.B) {
	for _, readers := range []int{0, 1} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			const n = 1000
			d, err := New(Options{Pool: manyEndpoints(b, n), MaxRows: n})
			require.NoError(b, err)
			records := benchRecords(n)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for readers > 0 {
					select {
					case <-stop:
						return
					default:
						d.document(0)
					}
				}
			}()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					d.Observe(records[i%n])
				}
			})
			close(stop)
			<-stopped
		})
	}
}

func BenchmarkData(b *testing.B) {
	for _, n := range []int{8, 200, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			d, err := New(Options{Pool: manyEndpoints(b, n)})
			require.NoError(b, err)
			for range 10 {
				for _, r := range benchRecords(n) {
					d.Observe(r)
				}
			}
			size := 0
			b.ReportAllocs()
			for b.Loop() {
				body, err := json.Marshal(d.document(0))
				require.NoError(b, err)
				size = len(body)
			}
			b.ReportMetric(float64(size), "bytes/document")
		})
	}
}
