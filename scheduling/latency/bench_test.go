package latency_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
)

// BenchmarkPredict predicts both times, and the probability of meeting objectives, for each endpoint.
func BenchmarkPredict(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			list := fleet(n)
			pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
			require.NoError(b, err)
			report(b, pool, list)
			model, err := latency.New(latency.Options{})
			require.NoError(b, err)
			producer := &latency.Producer{Model: model}
			inside(b, pool, producer, objectives, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				producer.Predict(c, slots)
				random := rand.New(rand.NewPCG(1, 2))
				for range 10 {
					for _, slot := range slots {
						model.ObserveTTFT(c.Prediction(slot), time.Duration(50+random.IntN(100))*time.Millisecond)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					producer.Predict(c, slots)
				}
			})
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/endpoint")
		})
	}
}

// BenchmarkObserve learns from one time to the first token.
func BenchmarkObserve(b *testing.B) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: fleet(10)})
	require.NoError(b, err)
	model, err := latency.New(latency.Options{})
	require.NoError(b, err)
	producer := &latency.Producer{Model: model}
	inside(b, pool, producer, objectives, func(c *scheduling.Cycle, slots []scheduling.Slot) {
		producer.Predict(c, slots)
		random := rand.New(rand.NewPCG(1, 2))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			model.ObserveTTFT(c.Prediction(slots[i%len(slots)]), time.Duration(50+random.IntN(100))*time.Millisecond)
		}
	})
}
