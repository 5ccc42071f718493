package accel_test

import (
	"math"
	"testing"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const gib = 1 << 30

func deployment(t testing.TB, model, system string, p accel.Parallelism) accel.Deployment {
	t.Helper()
	m, err := accel.LookupModel(model)
	require.NoError(t, err)
	s, err := accel.Builtin().System(system)
	require.NoError(t, err)
	return accel.Deployment{Model: m, System: s, Parallelism: p}
}

// What engines printed at start-up, from public issues: see docs/accelerators.md.
func TestMemoryAgainstLogs(t *testing.T) {
	for _, row := range []struct {
		name, model, system string
		p                   accel.Parallelism
		change              func(*accel.Deployment)
		weightsGiB          float64 // 0 where the log does not say
		kvGiB               float64
		tokens              float64
	}{
		{
			name: "vLLM 0.6, one H100", model: "meta-llama/Llama-3.1-8B", system: "h100-sxm",
			change:     func(d *accel.Deployment) { d.MemoryFraction, d.MaxSequences = .9, 256 },
			weightsGiB: 14.99, kvGiB: 54.93,
		},
		{
			name: "vLLM 0.9, four H100", model: "Qwen/Qwen3-235B-A22B-FP8", system: "h100-sxm", p: accel.Parallelism{TP: 4},
			change: func(d *accel.Deployment) { d.MemoryFraction = .9 },
			kvGiB:  8.11, tokens: 178_880,
		},
		{
			name: "SGLang, four H100", model: "Qwen/Qwen3-235B-A22B-FP8", system: "h100-sxm", p: accel.Parallelism{TP: 4},
			change: func(d *accel.Deployment) { d.Engine, d.MemoryFraction = accel.SGLang, .93 },
			kvGiB:  16.46, tokens: 367_404,
		},
		{
			name: "vLLM fork, eight Gaudi 2 of 96 GB", model: "deepseek-ai/DeepSeek-R1", system: "gaudi2", p: accel.Parallelism{TP: 8},
			weightsGiB: 79.41,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := deployment(t, row.model, row.system, row.p)
			if row.change != nil {
				row.change(&d)
			}
			m, err := d.Memory()
			require.NoError(t, err)
			t.Logf("weights %.2f GiB, KV %.2f GiB, tokens %d; activations %.2f, reserve %.2f", float64(m.Weights+m.Experts)/gib,
				float64(m.KVBudget)/gib, m.MaxTokens(1000), float64(m.Activations)/gib, float64(m.Reserve)/gib)
			if row.weightsGiB > 0 {
				assert.InEpsilon(t, row.weightsGiB, float64(m.Weights+m.Experts)/gib, .015)
			}
			if row.kvGiB > 0 {
				assert.InEpsilon(t, row.kvGiB, float64(m.KVBudget)/gib, .06)
			}
			if row.tokens > 0 {
				assert.InEpsilon(t, row.tokens, float64(m.MaxTokens(1000)), .06)
			}
		})
	}
}

// Each engine's fraction is of something else, so the same number leaves different room.
func TestMemoryBudgets(t *testing.T) {
	d := deployment(t, "meta-llama/Llama-3.1-70B", "h200-sxm", accel.Parallelism{TP: 4})
	d.MemoryFraction = .9
	parts := map[accel.Engine]accel.Memory{}
	for _, e := range []accel.Engine{accel.VLLM, accel.SGLang, accel.TensorRTLLM} {
		d.Engine = e
		d.MaxSequences = 256
		m, err := d.Memory()
		require.NoError(t, err)
		parts[e] = m
	}
	v, s, r := parts[accel.VLLM], parts[accel.SGLang], parts[accel.TensorRTLLM]
	near := func(want float64, got int64) { t.Helper(); assert.InDelta(t, want, float64(got), 1) }
	near(.9*float64(v.Total), v.Budget)
	assert.Equal(t, v.Budget-v.Weights-v.Experts-v.Activations-v.AllToAll-v.Reserve, v.KVBudget)
	near(.9*float64(s.Total-s.Reserve), s.Budget)
	assert.Equal(t, s.Budget-s.Weights-s.Experts, s.KVBudget, "activations fit beside the static part")
	near(.9*float64(r.Total-r.Weights-r.Experts-r.Activations-r.AllToAll-r.Reserve), r.KVBudget)
}

// One redundant expert a rank of DeepSeek-V3 takes 2.55 GB in FP8 ("about 2.4 GB" in vLLM's documentation, in GiB), and
// DeepEP's low-latency test prints buffers of 2,115 MB for 128 tokens and 256 experts.
func TestExpertMemory(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h200-sxm", accel.Parallelism{TP: 1, DP: 32, EP: 32})
	d.AllToAll, d.DispatchTokens = accel.DeepEPLowLatency, 128
	m, err := d.Memory()
	require.NoError(t, err)
	assert.InEpsilon(t, 2115e6, float64(m.AllToAll), .12)
	d.Parallelism.Redundant = 32
	n, err := d.Memory()
	require.NoError(t, err)
	assert.InEpsilon(t, 2.55e9, float64(n.Experts-m.Experts), .005)
	assert.InEpsilon(t, m.Experts*9/8, n.Experts, 1e-6)
}

func TestMemoryLimits(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h100-sxm", accel.Parallelism{TP: 8})
	m, err := d.Memory()
	require.NoError(t, err)
	n, limit := m.MaxSequences(1000)
	assert.Zero(t, n)
	assert.Equal(t, accel.ByWeights, limit)
	require.ErrorIs(t, m.Fits(1000), accel.ErrDoesNotFit)
	assert.ErrorContains(t, m.Fits(1000), "weights need 79.3 GiB of 73.3 GiB")
	assert.Zero(t, m.MaxTokens(1000))

	d = deployment(t, "meta-llama/Llama-3.1-70B", "h100-sxm", accel.Parallelism{TP: 2})
	d.MemoryFraction = .9
	m, err = d.Memory()
	require.NoError(t, err)
	_, limit = m.MaxSequences(1000)
	assert.Equal(t, accel.ByActivations, limit, "weights fit, sampling of 1024 sequences does not: %v", m.Fits(1))
	d.MaxSequences = 8
	m, err = d.Memory()
	require.NoError(t, err)
	require.NoError(t, m.Fits(1000))
	err = m.Fits(131072)
	require.ErrorIs(t, err, accel.ErrDoesNotFit)
	assert.ErrorContains(t, err, "kv cache need 20.0 GiB")

	d = deployment(t, "meta-llama/Llama-3.1-8B", "b200-sxm", accel.Parallelism{})
	m, err = d.Memory()
	require.NoError(t, err)
	n, limit = m.MaxSequences(128)
	assert.Equal(t, 1024, n)
	assert.Equal(t, accel.BySequences, limit)
	n, limit = m.MaxSequences(100_000)
	assert.Less(t, n, 20)
	assert.Equal(t, accel.ByKV, limit)
}

// Ranks of a TPU7x chip are its two devices, each with half of the memory.
func TestMemoryOfDevices(t *testing.T) {
	d := deployment(t, "Qwen/Qwen3-32B", "tpu7x", accel.Parallelism{TP: 2})
	m, err := d.Memory()
	require.NoError(t, err)
	assert.Equal(t, int64(96*gib), m.Total)
}

// The stage with the output head and the one with the embedding hold fewer layers where layers do not divide.
func TestStageLayers(t *testing.T) {
	m, err := accel.LookupModel("deepseek-ai/DeepSeek-V3")
	require.NoError(t, err)
	counts := func(pp int) (n []int) {
		next := 0
		for s := range pp {
			begin, end := m.StageLayers(accel.Parallelism{PP: pp}, s)
			require.Equal(t, next, begin)
			n, next = append(n, end-begin), end
		}
		require.Equal(t, m.Layers(), next)
		return n
	}
	assert.Equal(t, []int{61}, counts(1))
	assert.Equal(t, []int{31, 30}, counts(2))
	assert.Equal(t, []int{15, 15, 16, 15}, counts(4))
	assert.Equal(t, []int{7, 7, 8, 8, 8, 8, 8, 7}, counts(8))
}

func TestDeploymentRefuses(t *testing.T) {
	good := deployment(t, "deepseek-ai/DeepSeek-R1", "h200-sxm", accel.Parallelism{DP: 16, EP: 16})
	require.NoError(t, good.Validate())
	for _, row := range []struct {
		change func(*accel.Deployment)
		want   string
	}{
		{func(d *accel.Deployment) { d.Model = nil }, "Deployment.Model is absent"},
		{func(d *accel.Deployment) { d.System = accel.System{} }, "Deployment.System"},
		{func(d *accel.Deployment) { d.MemoryFraction = 1.5 }, "Deployment.MemoryFraction is 1.5"},
		{func(d *accel.Deployment) { d.MemoryFraction = math.NaN() }, "Deployment.MemoryFraction is NaN"},
		{func(d *accel.Deployment) { d.ExpertBalance = -1 }, "Deployment.ExpertBalance is -1"},
		{func(d *accel.Deployment) { d.MaxBatchedTokens = -1 }, "Deployment.MaxBatchedTokens is -1"},
		{func(d *accel.Deployment) { d.Engine = 9 }, "Deployment.Engine is 9"},
		{func(d *accel.Deployment) { d.Precision.KV = 99 }, "Deployment.Precision is 99"},
		{func(d *accel.Deployment) { d.Parallelism.TP = 3 }, "Parallelism.TP is 3: must divide the 128 query heads"},
		{func(d *accel.Deployment) { d.Parallelism.EP = 24 }, "Parallelism.EP is 24: EP x MoETP must be TP x DP: 16"},
		{func(d *accel.Deployment) { d.Parallelism.PP = 62 }, "Parallelism.PP is 62: must not exceed the model's layers: 61"},
		{func(d *accel.Deployment) { d.Parallelism.Redundant = 3 }, "must divide 256 experts + 3 redundant"},
		{func(d *accel.Deployment) { d.Parallelism.Redundant = 256 * 16 }, "Parallelism.Redundant is 4096: exceeds"},
		{func(d *accel.Deployment) { d.AllToAll = accel.NVLinkAllToAll }, "needs all 16 ranks in one switched domain; that of h200-sxm has 8"},
		{func(d *accel.Deployment) { d.AllToAll, d.System.ScaleOut.RailOnly = accel.DeepEPLowLatency, true }, "h200-sxm is rail-only"},
		{func(d *accel.Deployment) { d.AllToAll, d.Parallelism.EP = accel.DeepEPLowLatency, 8 }, "MoETP must be 1"},
		{func(d *accel.Deployment) { d.AllToAll, d.System = accel.DeepEPLowLatency, system(t, "tpu-v6e") }, "tpu-v6e is torus"},
	} {
		d := good
		row.change(&d)
		err := d.Validate()
		require.Error(t, err, row.want)
		assert.ErrorContains(t, err, row.want)
		_, memoryErr := d.Memory()
		assert.Equal(t, err.Error(), memoryErr.Error())
	}
	dense := deployment(t, "Qwen/Qwen3-8B", "l4", accel.Parallelism{EP: 2, MoETP: 2, Redundant: 1, TP: 4})
	dense.MTPDepth = 1
	err := dense.Validate()
	for _, field := range []string{"Parallelism.EP", "Parallelism.MoETP", "Parallelism.Redundant", "Deployment.MTPDepth"} {
		assert.ErrorContains(t, err, field, "all problems at once")
	}
}

func system(t testing.TB, name string) accel.System {
	t.Helper()
	s, err := accel.Builtin().System(name)
	require.NoError(t, err)
	return s
}

// Whatever the deployment: parts are not negative and add up, more memory never fits less, longer sequences never fit more,
// and smaller numbers never need more.
func TestMemoryProperties(t *testing.T) {
	catalogue := accel.Builtin()
	names, systems := accel.KnownModels(), catalogue.Systems()
	rapid.Check(t, func(t *rapid.T) {
		m, err := accel.LookupModel(rapid.SampledFrom(names).Draw(t, "model"))
		require.NoError(t, err)
		d := accel.Deployment{
			Model: m, System: systems[rapid.IntRange(0, len(systems)-1).Draw(t, "system")], Parallelism: drawParallelism(t),
			Engine:           accel.Engine(rapid.IntRange(0, 2).Draw(t, "engine")),
			MemoryFraction:   rapid.Float64Range(.5, 1).Draw(t, "fraction"),
			MaxBatchedTokens: rapid.IntRange(1, 32768).Draw(t, "batched"),
			MaxSequences:     rapid.IntRange(1, 2048).Draw(t, "sequences"),
			AllToAll:         accel.AllToAll(rapid.IntRange(0, 3).Draw(t, "kernel")),
			ExpertBalance:    rapid.Float64Range(.3, 1).Draw(t, "balance"),
		}
		mem, err := d.Memory()
		if err != nil {
			t.Skip()
		}
		for _, part := range []int64{mem.Weights, mem.Experts, mem.Activations, mem.AllToAll, mem.Reserve} {
			require.GreaterOrEqual(t, part, int64(0))
		}
		if mem.KVBudget > 0 {
			require.LessOrEqual(t, mem.Weights+mem.Experts+mem.Activations+mem.AllToAll+mem.Reserve+mem.KVBudget, mem.Total+1)
		}
		short, _ := mem.MaxSequences(1000)
		long, _ := mem.MaxSequences(5000)
		require.GreaterOrEqual(t, short, long)
		require.GreaterOrEqual(t, float64(max(mem.KVBudget, 0)), mem.Sequence.Bytes(5000)*float64(long/mem.DP), "what is promised is there")
		require.Equal(t, short > 0, mem.Fits(1000) == nil)

		bigger := d
		bigger.System.Accelerator.Memory.Value *= 2
		more, err := bigger.Memory()
		require.NoError(t, err)
		twice, _ := more.MaxSequences(1000)
		require.GreaterOrEqual(t, twice, short)

		// Stage by stage: with smaller layers, that of the embedding may become the one with the least room.
		smaller := accel.Precision{Weights: accel.MXFP4, Experts: accel.MXFP4, Attention: accel.MXFP4, KV: accel.FP8}
		for stage := range max(d.Parallelism.PP, 1) {
			less, more := m.StageWeights(d.Parallelism, smaller, stage, false), m.StageWeights(d.Parallelism, d.Precision, stage, false)
			require.LessOrEqual(t, less.Total(), more.Total()+1<<20)
		}
	})
}

// A planner asks for thousands of layouts.
func TestMemoryDoesNotAllocate(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "gb200-nvl72", accel.Parallelism{TP: 2, DP: 16, EP: 32, PP: 2})
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := d.Memory(); err != nil {
			t.Error(err)
		}
	}))
}

func BenchmarkMemory(b *testing.B) {
	d := deployment(b, "deepseek-ai/DeepSeek-R1", "gb200-nvl72", accel.Parallelism{TP: 1, DP: 32, EP: 32})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Memory(); err != nil {
			b.Fatal(err)
		}
	}
}
