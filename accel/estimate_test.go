package accel_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/accel"
)

var chat = accel.Workload{InputTokens: 1000, OutputTokens: 1000, Concurrency: 32}

func prepare(t require.TestingT, c *accel.Calibration, d accel.Deployment) *accel.Prepared {
	p, err := c.Prepare(d)
	require.NoError(t, err)
	return p
}

func estimate(t require.TestingT, c *accel.Calibration, d accel.Deployment, w accel.Workload) accel.Estimate {
	e, err := c.Estimate(d, w)
	require.NoError(t, err)
	return e
}

func TestEstimateRefuses(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h200-sxm", accel.Parallelism{TP: 8})
	c := accel.Calibrated()
	for _, row := range []struct {
		name   string
		field  string
		change func(*accel.Deployment, *accel.Workload)
	}{
		{"no model", "Deployment.Model", func(d *accel.Deployment, _ *accel.Workload) { d.Model = nil }},
		{"no system", "Deployment.System", func(d *accel.Deployment, _ *accel.Workload) { d.System = accel.System{} }},
		{"heads that do not divide", "Parallelism.TP", func(d *accel.Deployment, _ *accel.Workload) { d.Parallelism.TP = 3 }},
		{"negative TP", "Parallelism.TP", func(d *accel.Deployment, _ *accel.Workload) { d.Parallelism.TP = -1 }},
		{"experts that do not spread", "Parallelism.EP", func(d *accel.Deployment, _ *accel.Workload) { d.Parallelism.EP = 3 }},
		{"no network beyond the domain", "ScaleOut.Bandwidth", func(d *accel.Deployment, _ *accel.Workload) {
			d.Parallelism = accel.Parallelism{TP: 8, PP: 2}
			d.System.ScaleOut.Bandwidth = accel.Figure{}
		}},
		{"balance above 1", "Deployment.ExpertBalance", func(d *accel.Deployment, _ *accel.Workload) { d.ExpertBalance = 1.5 }},
		{"acceptance is NaN", "Deployment.MTPAcceptance", func(d *accel.Deployment, _ *accel.Workload) { d.MTPAcceptance = math.NaN() }},
		{"unknown engine", "Deployment.Engine", func(d *accel.Deployment, _ *accel.Workload) { d.Engine = 77 }},
		{"no prompt", "Workload.InputTokens", func(_ *accel.Deployment, w *accel.Workload) { w.InputTokens = 0 }},
		{"negative prompt", "Workload.InputTokens", func(_ *accel.Deployment, w *accel.Workload) { w.InputTokens = -5 }},
		{"all cached", "Workload.CachedTokens", func(_ *accel.Deployment, w *accel.Workload) { w.CachedTokens = w.InputTokens }},
		{"no answer", "Workload.OutputTokens", func(_ *accel.Deployment, w *accel.Workload) { w.OutputTokens = 0 }},
		{"no load", "Workload.Concurrency", func(_ *accel.Deployment, w *accel.Workload) { w.Concurrency = 0 }},
		{"negative load", "Workload.Concurrency", func(_ *accel.Deployment, w *accel.Workload) { w.Concurrency = -1 }},
		{"NaN load", "Workload.Concurrency", func(_ *accel.Deployment, w *accel.Workload) { w.Concurrency = math.NaN() }},
		{"infinite rate", "Workload.Rate", func(_ *accel.Deployment, w *accel.Workload) { w.Rate = math.Inf(1) }},
		{"both loads", "Workload.Rate", func(_ *accel.Deployment, w *accel.Workload) { w.Rate = 1 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, w := d, chat
			row.change(&d, &w)
			_, err := c.Estimate(d, w)
			require.ErrorContains(t, err, row.field)
		})
	}
	t.Run("does not fit", func(t *testing.T) {
		small := deployment(t, "deepseek-ai/DeepSeek-R1", "h100-sxm", accel.Parallelism{TP: 8})
		_, err := c.Estimate(small, chat)
		require.ErrorIs(t, err, accel.ErrDoesNotFit)
	})
	t.Run("a rate beyond saturation", func(t *testing.T) {
		_, err := c.Estimate(d, accel.Workload{InputTokens: 1000, OutputTokens: 1000, Rate: 1e6})
		require.ErrorIs(t, err, accel.ErrSaturated)
	})
}

// drawn are deployments to draw from.
var drawn = sync.OnceValue(func() (all []accel.Deployment) {
	for _, model := range []string{"meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-R1",
		"zai-org/GLM-5-FP8", "Qwen/Qwen3.5-397B-A17B"} {
		for _, system := range []string{"h200-sxm", "b200-sxm", "gb200-nvl72", "mi300x", "gaudi3"} {
			m, err := accel.LookupModel(model)
			if err != nil {
				panic(err)
			}
			s, err := accel.Builtin().System(system)
			if err != nil {
				panic(err)
			}
			all = append(all, accel.Deployment{Model: m, System: s})
		}
	}
	return all
})

// cases draws a deployment, which may not fit, and a workload.
func cases(t *rapid.T) (accel.Deployment, accel.Workload) {
	all := drawn()
	d := all[rapid.IntRange(0, len(all)-1).Draw(t, "deployment")]
	d.Engine = rapid.SampledFrom([]accel.Engine{accel.VLLM, accel.SGLang, accel.TensorRTLLM}).Draw(t, "engine")
	d.Parallelism = rapid.SampledFrom([]accel.Parallelism{{TP: 4}, {TP: 4, PP: 2}, {TP: 8, PP: 2}, {TP: 4, DP: 2}}).Draw(t, "parallelism")
	w := accel.Workload{
		InputTokens:  rapid.IntRange(1, 20000).Draw(t, "input"),
		OutputTokens: rapid.IntRange(1, 9000).Draw(t, "output"),
		Concurrency:  rapid.Float64Range(.5, 3000).Draw(t, "concurrency"),
	}
	w.CachedTokens = rapid.IntRange(0, w.InputTokens-1).Draw(t, "cached")
	return d, w
}

func TestEstimateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, w := cases(t)
		c := accel.Calibrated()
		e, err := c.Estimate(d, w)
		if err != nil {
			require.ErrorIs(t, err, accel.ErrDoesNotFit)
			return
		}
		for _, i := range []accel.Interval[time.Duration]{e.TTFT, e.TPOT} {
			require.Positive(t, i.Value)
			require.LessOrEqual(t, i.Low, i.Value)
			require.GreaterOrEqual(t, i.High, i.Value)
			require.Positive(t, i.Low)
		}
		for _, i := range []accel.Interval[float64]{e.Requests, e.OutputTokens} {
			require.False(t, math.IsNaN(i.Value) || math.IsInf(i.Value, 0))
			require.LessOrEqual(t, i.Low, i.Value)
			require.GreaterOrEqual(t, i.High, i.Value)
		}
		require.Equal(t, e.TPOT.Value, e.TPOTTerms.Total(), "terms add up")
		require.Equal(t, e.TTFT.Value, e.TTFTTerms.Total(), "terms add up")
		require.LessOrEqual(t, e.Step, e.TPOT.Value)
		// Little's law: requests in flight are the rate times how long each takes.
		stays := e.TTFT.Value.Seconds() + float64(w.OutputTokens-1)*e.TPOT.Value.Seconds()
		require.InEpsilon(t, w.Concurrency, e.Requests.Value*stays, 1e-6)
		require.InEpsilon(t, e.Requests.Value*float64(w.OutputTokens), e.OutputTokens.Value, 1e-9)
		require.LessOrEqual(t, e.Running, e.Room)
	})
}

// What physics says, without what measurements add.
func TestUncalibratedIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, w := cases(t)
		c := accel.Uncalibrated()
		e, err := c.Estimate(d, w)
		if err != nil {
			return
		}
		require.False(t, e.Calibrated())
		const slack = 100 * time.Nanosecond // rounding of terms
		faster := func(name string, change func(*accel.Deployment)) {
			other := d
			change(&other)
			f := estimate(t, c, other, w)
			assert.LessOrEqual(t, f.TPOT.Value, e.TPOT.Value+slack, name)
			assert.LessOrEqual(t, f.Prefill, e.Prefill+slack, name)
		}
		grow := func(f accel.Figure) accel.Figure {
			f.Value *= 1.5
			f.High *= 1.5
			return f
		}
		faster("memory bandwidth", func(d *accel.Deployment) { d.System.Accelerator.Bandwidth = grow(d.System.Accelerator.Bandwidth) })
		faster("scale-up bandwidth", func(d *accel.Deployment) { d.System.ScaleUp.Bandwidth = grow(d.System.ScaleUp.Bandwidth) })
		faster("scale-out bandwidth", func(d *accel.Deployment) { d.System.ScaleOut.Bandwidth = grow(d.System.ScaleOut.Bandwidth) })
		faster("peak", func(d *accel.Deployment) {
			for _, t := range d.System.Accelerator.Peaks() {
				f, _ := d.System.Accelerator.Peak(t)
				d.System.Accelerator = d.System.Accelerator.WithPeak(t, grow(f))
			}
		})
		slower := func(name string, change func(*accel.Workload)) accel.Estimate {
			other := w
			change(&other)
			s, err := c.Estimate(d, other)
			if err != nil {
				return e
			}
			return s
		}
		s := slower("more requests", func(w *accel.Workload) { w.Concurrency *= 1.7 })
		assert.GreaterOrEqual(t, s.TPOT.Value+slack, e.TPOT.Value, "more requests")
		s = slower("less cached", func(w *accel.Workload) { w.CachedTokens /= 2 })
		assert.GreaterOrEqual(t, s.Prefill+slack, e.Prefill-e.TTFTTerms[accel.ReadKV], "less cached")
	})
}

// A fixed point of an open loop serves the rate that comes.
func TestOpenLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, w := cases(t)
		p, err := accel.Calibrated().Prepare(d)
		require.NoError(t, err)
		full, err := p.Estimate(w)
		if err != nil || w.Concurrency > full.Room || w.Concurrency < 1.01*float64(max(d.Parallelism.DP, 1)) {
			return
		}
		w.Concurrency, w.Rate = 0, full.Requests.Value*.9
		open, err := p.Estimate(w)
		if err != nil {
			require.ErrorIs(t, err, accel.ErrSaturated)
			return
		}
		require.InEpsilon(t, w.Rate, open.Requests.Value, 1e-3)
	})
}

func TestMultiTokenPrediction(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "b200-sxm", accel.Parallelism{TP: 8})
	c := accel.Calibrated()
	w := accel.Workload{InputTokens: 1000, OutputTokens: 1000, Concurrency: 4}
	without := estimate(t, c, d, w)
	d.MTPDepth, d.MTPAcceptance = 1, .85
	with := estimate(t, c, d, w)
	assert.Less(t, with.TPOT.Value, without.TPOT.Value, "drafts that are accepted pay at a low load")
	d.MTPAcceptance = 0
	assert.Greater(t, estimate(t, c, d, w).TPOT.Value, without.TPOT.Value, "drafts that never are cost")
}

func TestOverlapHidesExchange(t *testing.T) {
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h100-sxm", accel.Parallelism{DP: 72, EP: 72, Redundant: 32})
	d.AllToAll, d.Engine = accel.DeepEPLowLatency, accel.SGLang
	c := accel.Calibrated()
	w := accel.Workload{InputTokens: 2000, OutputTokens: 100, Concurrency: 72 * 128}
	serial := estimate(t, c, d, w)
	require.Positive(t, serial.TPOTTerms[accel.ExpertExchange])
	require.Zero(t, serial.TPOTTerms[accel.OverlapGain])
	d.TwoBatchOverlap = true
	both := estimate(t, c, d, w)
	assert.Negative(t, both.TPOTTerms[accel.OverlapGain])
	assert.Less(t, both.TPOT.Value, serial.TPOT.Value)
	assert.Greater(t, both.TPOT.Value, serial.TPOT.Value-serial.TPOTTerms[accel.ExpertExchange])
}

// Where nothing was measured, it says so and bounds the answer instead.
func TestUnmeasuredSystems(t *testing.T) {
	for _, name := range []string{"mi300x", "gaudi3", "tpu-v6e", "a100-sxm"} {
		d := deployment(t, "meta-llama/Llama-3.1-8B", name, accel.Parallelism{TP: 4})
		e := estimate(t, accel.Calibrated(), d, chat)
		assert.Equal(t, accel.NoEvidence, e.Evidence, name)
		assert.False(t, e.Calibrated(), name)
		assert.Less(t, 2*e.TPOT.Low, e.TPOT.High, "%s: bounds are wide", name)
	}
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h200-sxm", accel.Parallelism{TP: 8})
	d.Engine = accel.SGLang
	e := estimate(t, accel.Calibrated(), d, chat)
	assert.Equal(t, accel.DeploymentMeasured, e.Evidence)
	assert.True(t, e.Calibrated())
}

func TestEstimateDoesNotAllocate(t *testing.T) {
	if racing {
		t.Skip("the race detector allocates")
	}
	d, c := deepSeek(t), accel.Calibrated()
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = c.Estimate(d, chat) }))
	p := prepare(t, c, d)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = p.Estimate(chat) }))
	open := accel.Workload{InputTokens: 1000, OutputTokens: 1000, Rate: .5}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = p.Estimate(open) }))
	require.Equal(t, 10000, sweep(t)(), "every configuration of the sweep benchmark is feasible")
}

func TestPools(t *testing.T) {
	c := accel.Calibrated()
	d := deployment(t, "deepseek-ai/DeepSeek-R1", "h200-sxm", accel.Parallelism{TP: 8})
	d.Engine = accel.SGLang
	p := prepare(t, c, d)
	pools := accel.Pools{Prefill: p, Decode: p, PrefillInstances: 1, DecodeInstances: 1}
	rapid.Check(t, func(t *rapid.T) {
		w := accel.Workload{
			InputTokens:  rapid.IntRange(1, 16000).Draw(t, "input"),
			OutputTokens: rapid.IntRange(2, 4000).Draw(t, "output"),
			Concurrency:  rapid.Float64Range(1, 800).Draw(t, "concurrency"),
		}
		pools := pools
		pools.PrefillInstances = rapid.IntRange(1, 4).Draw(t, "prefill")
		pools.DecodeInstances = rapid.IntRange(1, 4).Draw(t, "decode")
		e, err := pools.Estimate(w)
		require.NoError(t, err)
		require.Equal(t, e.TPOT.Value, e.TPOTTerms.Total())
		require.Equal(t, e.TTFT.Value, e.TTFTTerms.Total())
		require.Zero(t, e.TPOTTerms[accel.OtherPrefill], "decode instances see no prompts")
		stays := e.TTFT.Value.Seconds() + float64(w.OutputTokens-1)*e.TPOT.Value.Seconds()
		require.InEpsilon(t, w.Concurrency, e.Requests.Value*stays, 1e-3, "Little's law")
		more := pools
		more.PrefillInstances++
		f, err := more.Estimate(w)
		require.NoError(t, err)
		require.GreaterOrEqual(t, f.Requests.Value, e.Requests.Value*(1-1e-6))

		w.Concurrency, w.Rate = 0, .8*e.Requests.Value
		open, err := pools.Estimate(w)
		require.NoError(t, err)
		require.InEpsilon(t, w.Rate, open.Requests.Value, 1e-3)
	})
	_, err := accel.Pools{Prefill: p}.Estimate(chat)
	require.ErrorContains(t, err, "Pools.Decode")
	require.ErrorContains(t, err, "Pools.PrefillInstances")
	_, err = pools.Estimate(accel.Workload{InputTokens: 1000, OutputTokens: 1000, Rate: 1e6})
	require.ErrorIs(t, err, accel.ErrSaturated)
}
