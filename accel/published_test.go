package accel_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
)

// published is an end-to-end figure that someone has published, in tokens a second.
type published struct {
	name  string
	value float64
	ours  func(testing.TB) accel.Interval[float64]
	miss  string // why it is further off than 15 %, or open to doubt; empty where it must be within
}

// decodeOf is tokens a second and rank of decode instances of their own.
func decodeOf(system string, p accel.Parallelism, perRank, input int, change func(*accel.Deployment)) func(testing.TB) accel.Interval[float64] {
	return func(t testing.TB) accel.Interval[float64] {
		d := deployment(t, "deepseek-ai/DeepSeek-V3", system, p)
		d.Engine, d.AllToAll, d.MaxSequences = accel.SGLang, accel.DeepEPLowLatency, perRank
		if change != nil {
			change(&d)
		}
		e := estimate(t, accel.Calibrated(), d, accel.Workload{InputTokens: input, OutputTokens: 1, Concurrency: float64(perRank * p.DP)})
		value := float64(perRank) / e.Step.Seconds()
		tpot := e.TPOT
		return accel.Interval[float64]{Value: value, Low: value * float64(tpot.Value) / float64(tpot.High), High: value * float64(tpot.Value) / float64(tpot.Low)}
	}
}

// prefillOf is prompt tokens a second and rank of a prefill instance, with more decode than it can feed.
func prefillOf(system string, ranks, input int) func(testing.TB) accel.Interval[float64] {
	return func(t testing.TB) accel.Interval[float64] {
		d := deployment(t, "deepseek-ai/DeepSeek-V3", system, accel.Parallelism{DP: ranks, EP: ranks, Redundant: 32})
		d.Engine, d.AllToAll, d.MaxBatchedTokens, d.TwoBatchOverlap = accel.SGLang, accel.DeepEPHighThroughput, 16384, true
		decode := deployment(t, "deepseek-ai/DeepSeek-V3", "gb200-nvl72", accel.Parallelism{DP: 64, EP: 64})
		c := accel.Calibrated()
		pools := accel.Pools{Prefill: prepare(t, c, d), Decode: prepare(t, c, decode), PrefillInstances: 1, DecodeInstances: 64}
		e, err := pools.Estimate(accel.Workload{InputTokens: input, OutputTokens: 2, Concurrency: 50000})
		require.NoError(t, err)
		each := float64(input) / float64(ranks)
		return accel.Interval[float64]{Value: each * e.Requests.Value, Low: each * e.Requests.Low, High: each * e.Requests.High}
	}
}

// served is output tokens a second of an aggregated instance in a closed loop.
func served(model, system string, p accel.Parallelism, fp8 bool, input, output int, load float64, sequences, batched int) func(testing.TB) accel.Interval[float64] {
	return func(t testing.TB) accel.Interval[float64] {
		d := deployment(t, model, system, p)
		d.MaxSequences, d.MaxBatchedTokens = sequences, batched
		if fp8 {
			d.Precision = accel.Precision{Weights: accel.FP8, KV: accel.FP8}
		}
		return estimate(t, accel.Calibrated(), d, accel.Workload{InputTokens: input, OutputTokens: output, Concurrency: load}).OutputTokens
	}
}

func publishedFigures() []published {
	wide := func(n int) accel.Parallelism { return accel.Parallelism{DP: n, EP: n, Redundant: 32} }
	const (
		traces = "estimated by others from profiler traces, not measured end to end; H800 is not calibrated"
		gaudi  = "nothing of Gaudi is calibrated"
		tpu    = "nothing of TPUs is calibrated"
	)
	all := []published{
		{"SGLang, 12x8 H100, DeepSeek-V3, decode EP72, 256 a GPU, 2,000 tokens", 22282. / 8, decodeOf("h100-sxm", wide(72), 256, 2000, nil), ""},
		{"SGLang, prefill EP32, 16,384 tokens a GPU, 1K prompts", 57674. / 8, prefillOf("h100-sxm", 32, 1024), ""},
		{"SGLang, prefill EP32, 2K prompts", 54543. / 8, prefillOf("h100-sxm", 32, 2048), ""},
		{"SGLang, prefill EP32, 4K prompts", 50302. / 8, prefillOf("h100-sxm", 32, 4096), ""},
		{"SGLang, GB200, decode EP48, 1,408 a GPU, NVFP4 experts, 2,000 tokens", 13386, decodeOf("gb200-nvl72", wide(48), 1408, 2000, func(d *accel.Deployment) {
			d.Precision = accel.Precision{Experts: accel.NVFP4, KV: accel.FP8}
		}), ""},
		{"DeepSeek's profile, decode EP128, 128 a GPU, 4,096 tokens", 18598. / 8, decodeOf("h800-sxm", accel.Parallelism{DP: 128, EP: 128}, 128, 4096, func(d *accel.Deployment) {
			d.TwoBatchOverlap = true
		}), traces},
		{"DeepSeek's profile, prefill EP32, 4K prompts", 62713. / 8, prefillOf("h800-sxm", 32, 4096), traces},
	}
	for _, row := range []struct {
		input, output int
		coder, qwen   float64
		missed        string
	}{
		{1024, 1024, 1996, 6557, ""}, {1024, 8192, 2075, 3960, tpu}, {8192, 1024, 1053, 1382, tpu},
	} {
		shape := fmt.Sprintf("%d/%d", row.input, row.output)
		all = append(all,
			published{"vLLM, 4 TPU7x, Qwen3-Coder-480B FP8, TP8 EP8, 64 in flight, " + shape, row.coder,
				served("Qwen/Qwen3-Coder-480B-A35B-Instruct", "tpu7x", accel.Parallelism{TP: 8, EP: 8}, true, row.input, row.output, 64, 512, 8192), ""},
			published{"vLLM, 1 TPU7x, Qwen3-32B FP8, TP2, 320 in flight, " + shape, row.qwen,
				served("Qwen/Qwen3-32B", "tpu7x", accel.Parallelism{TP: 2}, true, row.input, row.output, 320, 135, 4096), row.missed})
	}
	for _, row := range []struct{ load, value float64 }{{64, 2494.8}, {128, 3544.5}} {
		all = append(all, published{fmt.Sprintf("vLLM, 8 TPU v6e, Llama-3.3-70B BF16, TP8, %.0f in flight, 1000/1000", row.load), row.value,
			served("meta-llama/Llama-3.3-70B-Instruct", "tpu-v6e", accel.Parallelism{TP: 8}, false, 1000, 1000, row.load, 256, 512), tpu})
	}
	for _, row := range []struct {
		model string
		tp    int
		runs  [4]struct{ batch, value float64 }
	}{
		{"meta-llama/Llama-3.1-8B", 1, [4]struct{ batch, value float64 }{{1536, 24310}, {768, 18830}, {256, 2652}, {364, 7405}}},
		{"meta-llama/Llama-3.1-70B", 2, [4]struct{ batch, value float64 }{{3516, 3711}, {450, 5776}, {223, 497}, {175, 2588}}},
		{"meta-llama/Llama-3.1-70B", 8, [4]struct{ batch, value float64 }{{4000, 15008}, {600, 15711}, {400, 1600}, {600, 8946}}},
	} {
		for i, shape := range [4][2]int{{128, 128}, {128, 2048}, {2048, 128}, {2048, 2048}} {
			all = append(all, published{
				fmt.Sprintf("Gaudi 3, %s FP8, TP%d, batch %.0f, %d/%d", row.model, row.tp, row.runs[i].batch, shape[0], shape[1]), row.runs[i].value,
				served(row.model, "gaudi3", accel.Parallelism{TP: row.tp}, true, shape[0], shape[1], row.runs[i].batch, int(row.runs[i].batch), 0), gaudi,
			})
		}
	}
	return all
}

// Published figures whose configuration is complete. docs/performance-model.md has the table, and those left out.
func TestPublishedFigures(t *testing.T) {
	const within = .15
	for _, p := range publishedFigures() {
		ours := p.ours(t)
		off := ours.Value/p.value - 1
		t.Logf("| %s | %.0f | %.0f | %+.1f | %s |", p.name, p.value, ours.Value, 100*off, p.miss)
		if p.miss == "" {
			assert.LessOrEqual(t, math.Abs(off), within, p.name)
		}
		assert.LessOrEqual(t, ours.Low, p.value, p.name)
		assert.GreaterOrEqual(t, ours.High, p.value, p.name)
	}
}
