package accel_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
)

func deepSeek(t testing.TB) accel.Deployment {
	model, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	require.NoError(t, err)
	system, err := accel.Builtin().System("h200-sxm")
	require.NoError(t, err)
	return accel.Deployment{Model: model, System: system, Engine: accel.SGLang, Parallelism: accel.Parallelism{TP: 8}}
}

// One workload on one deployment, from nothing: what a planner asks for each candidate.
func BenchmarkEstimate(b *testing.B) {
	d, c := deepSeek(b), accel.Calibrated()
	w := accel.Workload{InputTokens: 1000, OutputTokens: 1000, Concurrency: 64}
	b.Run("deployment=new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Estimate(d, w); err != nil {
				b.Fatal(err)
			}
		}
	})
	p, err := c.Prepare(d)
	require.NoError(b, err)
	b.Run("deployment=prepared", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Estimate(w); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// sweep estimates 10,000 configurations, each a deployment of its own: cuts of two models on three systems under three
// engines, at many loads.
func sweep(t testing.TB) (run func() int) {
	var deployments []accel.Deployment
	for _, name := range []string{"deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-235B-A22B-FP8"} {
		model, err := accel.LookupModel(name)
		require.NoError(t, err)
		for _, system := range []string{"h200-sxm", "b200-sxm", "gb200-nvl72"} {
			s, err := accel.Builtin().System(system)
			require.NoError(t, err)
			for _, engine := range []accel.Engine{accel.VLLM, accel.SGLang, accel.TensorRTLLM} {
				for _, p := range []accel.Parallelism{{TP: 8}, {TP: 4, DP: 2, EP: 8}, {DP: 8, EP: 8}, {TP: 8, PP: 2}, {DP: 16, EP: 16}} {
					deployments = append(deployments, accel.Deployment{Model: model, System: s, Engine: engine, Parallelism: p})
				}
			}
		}
	}
	c := accel.Calibrated()
	return func() int {
		n := 0
		for i := range 10000 {
			d := deployments[i%len(deployments)]
			w := accel.Workload{InputTokens: 500 + i, OutputTokens: 500 + i%900, Concurrency: float64(1 + i%512)}
			if _, err := c.Estimate(d, w); err == nil {
				n++
			}
		}
		return n
	}
}

// BenchmarkSweep reports the time of 10,000 configurations.
func BenchmarkSweep(b *testing.B) {
	run := sweep(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = run()
	}
	b.ReportMetric(float64(n), "feasible")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10k-configurations")
}
