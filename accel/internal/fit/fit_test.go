package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
)

const header = "concurrency,measured,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,batch_size," +
	"tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"

func TestReadFilters(t *testing.T) {
	kept, dropped, err := read(strings.NewReader(header +
		"64,,vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,agg,1024,1024,fp8,fp8,64,4,1,1,4,1,300.5,20.25\n" +
		"64,,vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,agg,1024,1024,fp8,fp8,64,4,1,1,4,1,300.5,20.25\n" + // again
		"64,,vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,agg,1024,1024,fp8,fp8,64,36,1,1,36,1,300.5,20.25\n" +
		"64,,vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,disagg,1024,1024,fp8,fp8,64,,,,,,300.5,20.25\n" +
		",,vllm,,meta-llama/Llama-3.1-70B,h100_sxm,fp8,agg,1024,1024,fp8,fp8,64,4,1,1,4,1,300.5,20.25\n" +
		"64,,vllm,,some/Model,h100_sxm,fp8,agg,1024,1024,fp8,fp8,64,4,1,1,4,1,300.5,20.25\n" +
		"8,,sglang,,deepseek-ai/DeepSeek-R1,b200_sxm,fp4,agg,1024,1024,nvfp4,nvfp4,8,4,1,2,1,8,300.5,20.25\n" +
		"8,,sglang,,deepseek-ai/DeepSeek-R1,b200_sxm,fp4,agg,1024,1024,nvfp4,nvfp4,8,4,1,2,1,4,300.5,20.25\n"))
	require.NoError(t, err)
	require.Len(t, kept, 2)
	assert.Equal(t, accel.Parallelism{TP: 4, DP: 1}, kept[0].Deployment.Parallelism)
	assert.Equal(t, accel.FP8, kept[0].Deployment.Precision.Weights)
	assert.Equal(t, 20250000, int(kept[0].TPOT))
	assert.Equal(t, accel.Parallelism{TP: 4, DP: 2, MoETP: 1, EP: 8}, kept[1].Deployment.Parallelism)
	assert.Equal(t, accel.BF16, kept[1].Deployment.Precision.Attention)
	assert.Equal(t, map[string]int{"repeats another row": 1, "parallel labels other than 1, 2, 4, 8": 1, "not aggregated serving": 1,
		"no concurrency": 1, "unknown model some/Model": 1, "moe_tp x moe_ep is not tp x attention_dp": 1}, dropped)
	_, _, err = read(strings.NewReader("concurrency\n1\n"))
	require.ErrorContains(t, err, "column backend is missing")
}

// measured reads the file that SILICON_CSV names.
func measured(t *testing.T) []measurement {
	file := os.Getenv("SILICON_CSV")
	if file == "" {
		t.Skip("SILICON_CSV is not set")
	}
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	all, dropped, err := read(f)
	require.NoError(t, err)
	t.Log(len(all), "measurements; left out:", dropped)
	return all
}

// The built-in table, on whatever file there is: the one that it comes from, or another.
func TestBuiltinErrors(t *testing.T) {
	var out strings.Builder
	b, err := plain(&out, "built-in", accel.Calibrated(), measured(t))
	require.NoError(t, err)
	t.Log("\n" + tableHead + out.String())
	assert.LessOrEqual(t, b.tpot.quantile(.5), .07)
	assert.LessOrEqual(t, b.tpot.mean(), .12)
	assert.LessOrEqual(t, b.tpot.quantile(.9), .25)
	assert.LessOrEqual(t, b.ttft.quantile(.5), .15)
	assert.GreaterOrEqual(t, b.tpot.coverage(), .87)
	assert.GreaterOrEqual(t, b.ttft.coverage(), .87)
}

// The targets of the performance model on configurations that a fit has not seen.
func TestHeldOutErrors(t *testing.T) {
	var out strings.Builder
	results, err := splits(&out, measured(t), 3)
	require.NoError(t, err)
	t.Log(out.String())
	var tpot, ttft figures
	for _, b := range results {
		for _, each := range []struct{ to, from *figures }{{&tpot, &b.tpot}, {&ttft, &b.ttft}} {
			each.to.errors = append(each.to.errors, each.from.errors...)
			each.to.inside += each.from.inside
		}
	}
	assert.LessOrEqual(t, tpot.quantile(.5), .07)
	assert.LessOrEqual(t, tpot.mean(), .12)
	assert.LessOrEqual(t, tpot.quantile(.9), .25)
	assert.LessOrEqual(t, ttft.quantile(.5), .15)
	assert.InDelta(t, .9, tpot.coverage(), .03)
	assert.InDelta(t, .9, ttft.coverage(), .03)
}
