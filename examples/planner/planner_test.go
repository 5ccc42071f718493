package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/examples/internal/program"
)

// plannerRun runs a command line, split at spaces.
func plannerRun(line string) (string, error) {
	var out, diagnostics bytes.Buffer
	err := run(strings.Fields(line), &out, &diagnostics)
	return out.String(), err
}

const deepSeek = "-model deepseek-ai/DeepSeek-R1 "

func TestTable(t *testing.T) {
	out, err := plannerRun(deepSeek + "-accelerator b200 -count 32 -isl 1000 -osl 1000 -ttft 2s -tpot 50ms -price 2.95")
	require.NoError(t, err)
	for _, part := range []string{"32 x NVIDIA B200", "TTFT at most 2s", "limit", "cost/M", "KV cache", "refused:"} {
		require.Contains(t, out, part)
	}
	out, err = plannerRun(deepSeek + "-accelerator b200 -count 32 -tpot 1ms")
	require.NoError(t, err)
	require.Contains(t, out, "Plan 1 misses: TPOT")
	out, err = plannerRun(deepSeek + "-accelerator h100 -count 96 -prefill 32 -engine sglang")
	require.NoError(t, err)
	require.Contains(t, out, "on 32 x NVIDIA H100 SXM, sglang, prefill only")
	require.Contains(t, out, "on 64 x NVIDIA H100 SXM, sglang, decode only")
}

func TestJSON(t *testing.T) {
	out, err := plannerRun(deepSeek + "-accelerator h200 -count 8 -price 3 -json -top 2")
	require.NoError(t, err)
	var got jsonAnswer
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Len(t, got.Searches, 1)
	s := got.Searches[0]
	require.Len(t, s.Plans, 2)
	best := s.Plans[0]
	require.Equal(t, 8, best.Accelerators)
	require.Less(t, best.TPOT.Low, best.TPOT.Value)
	require.Less(t, best.TPOT.Value, best.TPOT.High)
	require.InDelta(t, 3*8/3600./best.Tokens.Value*1e6, best.Cost.Value, 1e-6)
	m := best.Memory
	require.Positive(t, m.KV)
	require.LessOrEqual(t, m.Weights+m.Experts+m.KV, m.Total)
	require.Greater(t, len(s.Front), 2)
}

func write(t *testing.T, name string, v any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	b, ok := v.([]byte)
	if !ok {
		var err error
		b, err = json.Marshal(v)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(file, b, 0o600))
	return file
}

// skewed is tokens of 48 layers of 128 experts, as of Qwen3-30B-A3B; shift moves the hot ones.
func skewed(shift int) [][]float64 {
	rows := make([][]float64, 48)
	for l := range rows {
		rows[l] = make([]float64, 128)
		for i := range rows[l] {
			rows[l][(i*37+l+shift)%128] = 1000 / float64(i+1)
		}
	}
	return rows
}

const qwen = "-model Qwen/Qwen3-30B-A3B -accelerator h200 -count 8 -tp 1 -dp 8 -ep 8 -redundant 24 -effort -1 "

func TestPlacementAndRebalance(t *testing.T) {
	before, after := write(t, "before.json", skewed(0)), write(t, "after.json", map[string]any{"loads": skewed(1)})
	out, err := plannerRun(qwen + "-json -placement " + before)
	require.NoError(t, err)
	var first jsonAnswer
	require.NoError(t, json.Unmarshal([]byte(out), &first))
	p := first.Placement
	require.Greater(t, p.Balance, .95)
	require.Len(t, p.Map, 48)
	require.Len(t, p.RankLoss, 8)
	require.Empty(t, p.Copies)

	location, err := plannerRun(qwen + "-emit init-expert-location -placement " + before)
	require.NoError(t, err)
	previous := write(t, "previous.json", []byte(location))
	out, err = plannerRun(qwen + "-json -placement " + after + " -previous " + previous)
	require.NoError(t, err)
	var second jsonAnswer
	require.NoError(t, json.Unmarshal([]byte(out), &second))
	require.Greater(t, second.Placement.Balance, *second.Placement.Before)
	require.NotEmpty(t, second.Placement.Copies)
	require.Positive(t, second.Placement.Bytes)
	require.LessOrEqual(t, len(second.Placement.Copies), 48*152/10+48)

	out, err = plannerRun(qwen + "-placement " + after + " -previous " + previous + " -dead 3")
	require.NoError(t, err)
	require.Contains(t, out, "of them repairs")
	_, err = plannerRun(qwen + "-placement " + after + " -previous " + previous + " -dead 8")
	require.ErrorContains(t, err, "Cluster.Dead[0] is 8")
	_, err = plannerRun(qwen + "-placement " + after + " -dead 0,1")
	require.ErrorContains(t, err, "Loads.Experts is 128")
}

func TestZeroLoads(t *testing.T) {
	zero := skewed(0)
	for _, row := range zero {
		clear(row)
	}
	out, err := plannerRun(qwen + "-placement " + write(t, "zero.json", zero))
	require.NoError(t, err)
	require.Contains(t, out, "Balance 1.000")
}

func TestEmit(t *testing.T) {
	common := deepSeek + "-accelerator h200 -count 16 -tp 1 -ep 16 -name r1 -node-selector pool=h200 -queue team -topology example.com/rack "
	for kind, part := range map[string]string{
		"command": "vllm serve", "vllm": "--data-parallel-start-rank 8", "lws": "kind: LeaderWorkerSet", "grove": "kind: PodCliqueSet", "kueue": "kind: ClusterQueue",
	} {
		out, err := plannerRun(common + "-emit " + kind)
		require.NoError(t, err, kind)
		require.Contains(t, out, part)
		if strings.HasPrefix(part, "kind") {
			for dec := yaml.NewDecoder(strings.NewReader(out)); ; {
				var doc map[string]any
				if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
					break
				} else {
					require.NoError(t, err)
				}
			}
		}
	}
	out, err := plannerRun(deepSeek + "-accelerator h100 -count 96 -prefill 32 -engine sglang -emit disaggregatedset")
	require.NoError(t, err)
	require.Contains(t, out, "kind: DisaggregatedSet")
	out, err = plannerRun(deepSeek + "-accelerator h200 -count 8 -engine trtllm -tp 1 -dp 8 -ep 8 -redundant 8 -emit trtllm")
	require.NoError(t, err)
	require.Contains(t, out, "num_slots: 264")
}

func TestPictures(t *testing.T) {
	loads := write(t, "loads.json", skewed(0))
	for _, line := range []string{
		qwen + "-placement " + loads,
		"-model Qwen/Qwen3-30B-A3B -accelerator tpu-v5p -count 32 -tp 4 -dp 8",
		deepSeek + "-accelerator gb200-nvl72 -count 72 -ep 72",
		deepSeek + "-accelerator h100 -count 512 -tp 1 -ep 256",
		"-model meta-llama/Llama-3.1-8B-Instruct -accelerator l40s -count 1",
	} {
		file := filepath.Join(t.TempDir(), "plan.svg")
		_, err := plannerRun(line + " -svg " + file)
		require.NoError(t, err, line)
		svg, err := os.ReadFile(file)
		require.NoError(t, err)
		elements := 0
		for dec := xml.NewDecoder(bytes.NewReader(svg)); ; elements++ {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err)
			}
		}
		require.Greater(t, elements, 20)
		require.NotContains(t, string(svg), "NaN")
	}
}

func TestUserFiles(t *testing.T) {
	config := write(t, "config.json", map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
		"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "torch_dtype": "bfloat16", "max_position_embeddings": 8192,
	})
	out, err := plannerRun("-config " + config + " -model mine/llama -accelerator h100 -count 1")
	require.NoError(t, err)
	require.Contains(t, out, "mine/llama on 1 x")
	_, err = plannerRun("-config " + write(t, "config.json", map[string]any{"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096}) + " -accelerator h100 -count 1")
	require.ErrorContains(t, err, "num_hidden_layers")

	board := write(t, "boards.json", map[string]any{
		"sources": map[string]any{"us": map[string]any{"title": "our own measurements", "url": "https://example.com", "date": "2026-11-01", "kind": "measured"}},
		"accelerators": []any{map[string]any{
			"name": "acme-1", "title": "Acme One", "vendor": "acme", "peakTFLOPS": map[string]any{"bf16": map[string]any{"value": 500, "sources": []string{"us"}}},
			"memoryBytes": map[string]any{"value": 64e9, "sources": []string{"us"}}, "bandwidthGBps": map[string]any{"value": 2000, "sources": []string{"us"}},
		}},
		"systems": []any{map[string]any{"name": "acme-box", "title": "Acme box", "accelerator": "acme-1", "perNode": 4,
			"scaleUp":  map[string]any{"kind": "switch", "domain": 4, "oneWayGBps": map[string]any{"value": 200, "sources": []string{"us"}}, "latencyUs": 2},
			"scaleOut": map[string]any{"nics": 1, "oneWayGBps": map[string]any{"value": 12.5, "sources": []string{"us"}}, "latencyUs": 5}}},
	})
	out, err = plannerRun("-config " + config + " -accelerators " + board + " -accelerator acme-box -count 4")
	require.NoError(t, err)
	require.Contains(t, out, "Acme One")
	require.Contains(t, out, "Uncalibrated")
}

func TestBadInput(t *testing.T) {
	nan := write(t, "nan.json", []byte("[[1, NaN]]"))
	negative, short, ragged := skewed(0), skewed(0)[:3], skewed(0)
	negative[2][5] = -1
	ragged[7] = ragged[7][:9]
	for line, want := range map[string]string{
		"":                               "-model or -config is needed",
		deepSeek + "-count 8":            "-accelerator is needed",
		deepSeek + "-accelerator b2000":  "b200",
		"-model deepseek-r9 -count 1":    "near",
		deepSeek + "-accelerator h100":   "-count is 0",
		deepSeek + "-count 1 -engine x":  "must be vllm, sglang or trtllm",
		deepSeek + "-count 1 -role x":    "must be both, prefill or decode",
		deepSeek + "-count 1 -emit x":    "-emit is",
		deepSeek + "-count 1 -survive x": "-survive is",
		deepSeek + "-accelerator h100 -count 8 -node-selector a":                   "is no label=value",
		deepSeek + "-accelerator h100 -count 8 -isl 0":                             "Problem.Input is 0",
		deepSeek + "-accelerator h100 -count 8 -isl 200000":                        "the model's context",
		deepSeek + "-accelerator h100 -count 8 -rate NaN":                          "Problem.Rate is NaN",
		deepSeek + "-accelerator h100 -count 8":                                    "no memory",
		deepSeek + "-accelerator h100 -count 8 -prefill 8":                         "-prefill is 8",
		deepSeek + "-accelerator h100 -count 7 -dead x":                            "is no rank",
		deepSeek + "-accelerator h200 -count 8 -emit init-expert-location":         "needs -placement",
		deepSeek + "-accelerator h200 -count 8 -emit disaggregatedset":             "needs -prefill",
		deepSeek + "-accelerator h200 -count 8 -emit sglang":                       "the plan is for vllm",
		deepSeek + "-accelerator h200 -count 8 -emit lws -name A_B":                "Serving.Name",
		qwen + "-placement " + nan:                                                 "loads must be rows of numbers",
		qwen + "-placement " + write(t, "negative.json", negative):                 "loads[2][5] is -1",
		qwen + "-placement " + write(t, "short.json", short):                       "has 3 rows, must have one for each of the 48",
		qwen + "-placement " + write(t, "ragged.json", ragged):                     "loads[7] has 9 experts",
		qwen + "-placement /nowhere":                                               "/nowhere",
		"-model openai/gpt-oss-20b -accelerator tpu-v5e -count 3 -tp 3":            "no legal plan",
		"-model meta-llama/Llama-3.1-8B-Instruct -accelerator h100 -count 1 extra": "is no flag",
	} {
		_, err := plannerRun(line)
		require.ErrorContains(t, err, want, fmt.Sprintf("%q", line))
	}
	_, err := plannerRun("-count x")
	require.ErrorAs(t, err, new(program.UsageError))
}
