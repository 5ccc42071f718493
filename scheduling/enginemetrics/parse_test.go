package enginemetrics

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
)

func builtin(t testing.TB) *Parser {
	t.Helper()
	p, err := NewParser(Builtin(), nil)
	require.NoError(t, err)
	return p
}

// said is a State with its values by name.
type said struct {
	waiting, running, kv float64 // -1 is absent
	tokens, blocks       int
	adapters             *scheduling.AdapterState
}

func state(p *Page, rank int, all bool) said {
	var s scheduling.State
	p.State(&s, rank, all)
	got := said{-1, -1, -1, s.BlockTokens, s.CacheBlocks, s.Adapters}
	for _, v := range s.Values {
		*map[scheduling.Metric]*float64{scheduling.Waiting: &got.waiting, scheduling.Running: &got.running, scheduling.KVUsage: &got.kv}[v.Metric] = v.Value
	}
	return got
}

func TestEngines(t *testing.T) {
	for _, tt := range []struct {
		name, page string
		want       said
	}{
		{"vLLM", `
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 12.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="2048",prefix_caching_hash_algo="sha256"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.6e+09
`, said{12, 3, .25, 16, 2048, &scheduling.AdapterState{Active: []string{"a", "b"}, Waiting: []string{"c"}, Max: 4}}},
		{"an older vLLM", `
vllm:num_requests_running{model_name="m"} 3.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
`, said{-1, 3, .5, 0, 0, nil}},
		{"a vLLM with both names", `
vllm:gpu_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:gpu_cache_usage_perc{engine="0"} 0.75
`, said{-1, -1, .25, 0, 0, nil}},
		{"SGLang, a series for each tensor-parallel rank", `
sglang:num_running_reqs{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 7.0
sglang:num_running_reqs{engine_type="unified",model_name="m",moe_ep_rank="1",pp_rank="0",tp_rank="1"} 7.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 2.0
sglang:token_usage{engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.5
sglang:page_size{engine_type="unified"} 64.0
sglang:max_total_num_tokens{engine_type="unified"} 640000.0
`, said{2, 7, .5, 64, 10000, nil}},
		{"SGLang's geometry as labels", `
sglang:cache_config_info{page_size="1",num_pages="5000"} 1
`, said{-1, -1, -1, 1, 5000, nil}},
		{"TensorRT-LLM", `
trtllm_num_requests_waiting 1
trtllm_num_requests_running 2
trtllm_kv_cache_utilization 0.125
trtllm_kv_cache_tokens_per_block 32
trtllm_kv_cache_max_blocks 100
`, said{1, 2, .125, 32, 100, nil}},
		{"Triton", `
nv_trt_llm_request_metrics{model="a",request_type="waiting",version="1"} 1
nv_trt_llm_request_metrics{model="b",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="a",request_type="scheduled",version="1"} 5
nv_trt_llm_request_metrics{model="a",request_type="context",version="1"} 50
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="a"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="a"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="a"} 1000
nv_inference_pending_request_count{model="a"} 77
`, said{3, 5, .5, 64, 1000, nil}},
		{"Triton without TensorRT-LLM", "nv_inference_pending_request_count{model=\"a\"} 77\n", said{77, -1, -1, 0, 0, nil}},
		{"TGI", "tgi_queue_size 4\ntgi_batch_current_size 8\n", said{4, 8, -1, 0, 0, nil}},
		{"llama.cpp", "llamacpp:requests_processing 1\nllamacpp:requests_deferred 6\nllamacpp:kv_cache_usage_ratio 1\n", said{6, 1, 1, 0, 0, nil}},
		{"OpenMetrics, with times and exemplars", "tgi_queue_size 4 1700000000.5\ntgi_batch_current_size 8 # {a=\"b\"} 1\n# EOF", said{4, 8, -1, 0, 0, nil}},
		{"carriage returns", "tgi_queue_size 4\r\ntgi_batch_current_size\t8\r\n", said{4, 8, -1, 0, 0, nil}},
		{"spaces in labels", `vllm:num_requests_running{ engine = "0" , model_name="m", } 3`, said{-1, 3, -1, 0, 0, nil}},
		{"escapes in labels", `vllm:num_requests_running{model_name="a\"} 9 {\\",engine="0"} 3`, said{-1, 3, -1, 0, 0, nil}},
		{"nonsense", `
tgi_queue_size NaN
tgi_queue_size
tgi_queue_size{
tgi_queue_size{a="b
tgi_queue_size{a=b} 1
tgi_queue_size{a="b"}
tgi_queue_size{a} 1
tgi_batch_current_size +Inf
tgi_batch_current_size -1
tgi_batch_current_size one
vllm:cache_config_info{block_size="x",num_gpu_blocks="-5"} 1
vllm:cache_config_info{block_size="16",num_gpu_blocks="5"} 0
vllm:lora_requests_info{max_lora="x",running_lora_adapters=" , ,",waiting_lora_adapters=""} NaN
`, said{-1, -1, -1, 0, 0, nil}},
		{"a negative and a good one", "tgi_queue_size -1\ntgi_queue_size 2\n", said{2, -1, -1, 0, 0, nil}},
		{"nothing", "", said{-1, -1, -1, 0, 0, nil}},
		{"another program", "go_goroutines 5\nprocess_cpu_seconds_total 5\n", said{-1, -1, -1, 0, 0, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var page Page
			p := builtin(t)
			p.Parse([]byte("tgi_queue_size 999\nvllm:lora_requests_info{running_lora_adapters=\"z\"} 1"), &page) // is forgotten
			p.Parse([]byte(tt.page), &page)
			assert.Equal(t, tt.want, state(&page, 0, true))
			assert.Equal(t, tt.want == said{-1, -1, -1, 0, 0, nil}, page.Empty())
		})
	}
}

func TestDataParallelRanks(t *testing.T) {
	var page Page
	builtin(t).Parse([]byte(`
vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 2
vllm:num_requests_waiting{engine="1"} 5
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.4
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="100"} 1
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="90"} 1
`), &page)
	assert.Equal(t, said{-1, 1, .2, 16, 100, nil}, state(&page, 0, false))
	assert.Equal(t, said{5, 2, .4, 16, 90, nil}, state(&page, 1, false))
	assert.Equal(t, said{-1, -1, -1, 16, 100, nil}, state(&page, 7, false), "the geometry is likely the others'")
	all := state(&page, 0, true)
	assert.InDelta(t, .3, all.kv, 1e-9)
	all.kv = 0
	assert.Equal(t, said{5, 3, 0, 16, 100, nil}, all)

	builtin(t).Parse([]byte("vllm:num_requests_running{model_name=\"m\"} 4\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"9\"} 1\n"), &page)
	assert.Equal(t, said{-1, -1, -1, 16, 9, nil}, state(&page, 1, false), "what is said of all is not one rank's load")
}

func TestCustomMetrics(t *testing.T) {
	p, err := NewParser([]Source{}, map[scheduling.Metric]string{
		scheduling.Custom(0): `sleeping{state="awake",why="\"so\""}`, scheduling.Custom(7): "queue_seconds",
	})
	require.NoError(t, err)
	var page Page
	p.Parse([]byte("sleeping{state=\"asleep\"} 1\nsleeping{why=\"\\\"so\\\"\",state=\"awake\"} 2\nqueue_seconds 0.5\n"), &page)
	var s scheduling.State
	page.State(&s, 0, true)
	assert.Equal(t, []scheduling.Value{{Metric: scheduling.Custom(0), Value: 2}, {Metric: scheduling.Custom(7), Value: .5}}, s.Values)
}

func TestSelectors(t *testing.T) {
	for s, want := range map[string]string{
		"a":                         "a",
		" a:b_9 ":                   "a:b_9",
		"a{}":                       "a",
		"a{b=c}":                    `a{b="c"}`,
		`a{b="c",d=e f}`:            `a{b="c",d="e f"}`,
		`a{ b = "c,}" , d = "\"" }`: `a{b="c,}",d="\""}`,
		`a{b="\\n\n"}`:              `a{b="\\n\n"}`,
	} {
		sel, err := ParseSelector(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, sel.String())
		again, err := ParseSelector(sel.String())
		require.NoError(t, err, s)
		assert.Equal(t, sel, again)
	}
	for _, s := range []string{"", "{}", "9a", "a-b", "a{", "a{b", "a{b=", `a{b="c`, "a{b=c", `a{b="c"d}`, "a{b=c}d", "a{b:c=d}", "a{b=c,b=d}", "a{=c}"} {
		_, err := ParseSelector(s)
		assert.ErrorContains(t, err, fmt.Sprintf("selector %q", s))
	}
}

func TestSourcesAreChecked(t *testing.T) {
	_, err := NewParser([]Source{{Name: "mine", Waiting: []string{"ok", "a{"}, Geometry: []string{"-"}}}, map[scheduling.Metric]string{
		scheduling.Waiting: "a", scheduling.Custom(1): "{",
	})
	for _, want := range []string{"sources[0] (mine): Waiting[1]", "sources[0] (mine): Geometry[0]", "waiting is no custom metric", "custom: custom(1)[0]"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = NewParser(nil, nil)
	assert.ErrorContains(t, err, "no selectors")
}

// naive finds the value of one vLLM metric of a rank with string functions.
func naive(page, name string, number int) float64 {
	found := math.NaN()
	for line := range strings.SplitSeq(page, "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		engine := -1
		if labels, after, ok := strings.Cut(rest, "}"); ok && rest[0] == '{' {
			for l := range strings.SplitSeq(labels[1:], ",") {
				if v, ok := strings.CutPrefix(l, `engine="`); ok {
					engine, _ = strconv.Atoi(strings.TrimSuffix(v, `"`))
				}
			}
			rest = after
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil && v >= 0 && engine == number && !(v < found) {
			found = v
		}
	}
	return found
}

func TestPagesAreReadLikeNaively(t *testing.T) {
	p := builtin(t)
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason", "vllm:num_requests_runninG",
			"vllm:num_requests", "vllm:x", "# vllm:num_requests_running", "", "vllm:request_success_total"}
		labels := []string{"", `{engine="0"}`, `{engine="1",model_name="m"}`, `{model_name="m",engine="1"}`, `{model_name="m"}`}
		values := []string{"1", "2.5", "1e3", "0", "-1", "x", "7"}
		var b strings.Builder
		for range rapid.IntRange(0, 30).Draw(t, "lines") {
			b.WriteString(rapid.SampledFrom(names).Draw(t, "name") + rapid.SampledFrom(labels).Draw(t, "labels") + " " + rapid.SampledFrom(values).Draw(t, "value"))
			b.WriteString(rapid.SampledFrom([]string{"\n", "\n\n"}).Draw(t, "end"))
		}
		var page Page
		p.Parse([]byte(b.String()), &page)
		for q, name := range map[quantity]string{running: names[0], waiting: names[1]} {
			for number := noRank; number < 2; number++ {
				want, got := naive(b.String(), name, number), page.value(q, number, false)
				if want != got && !(math.IsNaN(want) && math.IsNaN(got)) {
					t.Fatalf("%s of rank %d: got %v, want %v in\n%s", name, number, got, want, b.String())
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(vllmPage(2, 1)))
	f.Add([]byte("tgi_queue_size{a=\"\\\"\",} 1 2\n"))
	p := builtin(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var page Page
		p.Parse(b, &page)
		s := state(&page, 0, true)
		if s.tokens < 0 || s.blocks < 0 || s.waiting != s.waiting || math.IsInf(s.kv, 0) {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzSelector(f *testing.F) {
	f.Add(`a{b="c\"",d=e}`)
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := ParseSelector(s)
		if err != nil {
			return
		}
		again, err := ParseSelector(sel.String())
		require.NoError(t, err)
		require.Equal(t, sel, again)
	})
}

// vllmPage is a page of the size and shape of vLLM's: of its families a quarter are histograms of some twenty lines, and every
// counter comes with the time of its creation.
func vllmPage(families int, running float64) string {
	var b strings.Builder
	labels := `engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"`
	series := func(name, help, kind string, lines ...string) {
		fmt.Fprintf(&b, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, kind)
		for _, l := range lines {
			b.WriteString("vllm:" + l + "\n")
		}
	}
	one := func(name string, v float64) string { return fmt.Sprintf("%s{%s} %v", name, labels, v) }
	series("num_requests_running", "Number of requests in model execution batches.", "gauge", one("num_requests_running", running))
	series("num_requests_waiting", "Number of requests waiting to be processed.", "gauge", one("num_requests_waiting", 12))
	series("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", "gauge", one("kv_cache_usage_perc", .375))
	series("cache_config_info", "Information of the LLMEngine CacheConfig", "gauge", `cache_config_info{block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_offload_gb="0",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",is_attention_free="False",num_gpu_blocks="27000",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",sliding_window="None",swap_space="4"} 1.0`)
	series("lora_requests_info", "Running stats on lora requests.", "gauge", `lora_requests_info{max_lora="4",running_lora_adapters="sql,poems",waiting_lora_adapters=""} 1.7e+09`)
	for i := range families - 5 {
		name := fmt.Sprintf("request_%s_%d", []string{"prompt_tokens", "queue_time_seconds", "success", "generation_tokens"}[i%4], i)
		switch i % 4 {
		case 0:
			var lines []string
			for k := range 18 {
				lines = append(lines, fmt.Sprintf("%s_bucket{engine=\"0\",le=\"%v\",model_name=\"meta-llama/Llama-3.1-8B-Instruct\"} %d.0", name, math.Exp2(float64(k)), 10*k))
			}
			lines = append(lines, one(name+"_sum", 12345.5), one(name+"_count", 180), one(name+"_created", 1.7953829e9))
			series(name, "Histogram of something that requests have, in the unit that its name says.", "histogram", lines...)
		case 1:
			series(name, "Something that there is at the moment.", "gauge", one(name, 4))
		default:
			series(name, "Cumulative number of something.", "counter", one(name+"_total", 1234), one(name+"_created", 1.7953829e9))
		}
	}
	return b.String()
}

func TestParsingDoesNotAllocate(t *testing.T) {
	p := builtin(t)
	first, second := []byte(vllmPage(200, 3)), []byte(vllmPage(200, 4))
	var page Page
	var s scheduling.State
	p.Parse(first, &page)
	page.State(&s, 0, true)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Parse(second, &page)
		s.Values = s.Values[:0]
		page.State(&s, 0, true)
	}))
	require.Equal(t, 4.0, s.Values[1].Value)
	require.Equal(t, []string{"sql", "poems"}, s.Adapters.Active)
}

func BenchmarkParse(b *testing.B) {
	p := builtin(b)
	text := []byte(vllmPage(200, 3))
	var page Page
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		p.Parse(text, &page)
	}
	b.ReportMetric(float64(len(text)), "page-bytes")
}
