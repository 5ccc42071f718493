package enginesim

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", resp.Header.Get("Content-Type"))
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*)\} (\S+)$`)

// parsePage holds a page to the rules of the text format: one HELP and TYPE for each family before
// its samples, samples of a family together, no sample twice, counters ending in _total, buckets
// that only grow up to +Inf, which is the count.
func parsePage(t *testing.T, page string) map[string]float64 {
	t.Helper()
	require.True(t, strings.HasSuffix(page, "\n"))
	samples := map[string]float64{}
	types := map[string]string{}
	family, helped := "", ""
	var buckets []float64
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			helped, _, _ = strings.Cut(rest, " ")
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			var kind string
			family, kind, _ = strings.Cut(rest, " ")
			require.Equal(t, helped, family)
			require.NotContains(t, types, family)
			types[family] = kind
			require.Equal(t, kind == "counter", strings.HasSuffix(family, "_total"), family)
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		require.NotNil(t, m, "not a sample: %s", line)
		v, err := strconv.ParseFloat(m[3], 64)
		require.NoError(t, err)
		key := m[1] + "{" + m[2] + "}"
		require.NotContains(t, samples, key)
		samples[key] = v
		if types[family] != "histogram" {
			require.Equal(t, family, m[1])
			continue
		}
		switch strings.TrimPrefix(m[1], family) {
		case "_bucket":
			if len(buckets) > 0 {
				require.GreaterOrEqual(t, v, buckets[len(buckets)-1])
			}
			buckets = append(buckets, v)
		case "_sum":
			require.Contains(t, line, "_sum{")
		case "_count":
			require.Equal(t, buckets[len(buckets)-1], v)
			buckets = nil
		default:
			t.Fatalf("%s does not belong to %s", line, family)
		}
	}
	return samples
}

func TestMetricsPage(t *testing.T) {
	o := fast()
	o.Model = `org/"quoted"\model`
	s, url := serve(t, o)
	for range 2 {
		post(t, url+"/v1/completions", M{"model": o.Model, "prompt": strings.Repeat("abcd", 100), "max_tokens": 20})
	}
	post(t, url+"/v1/completions", M{"model": o.Model, "prompt": strings.Repeat("abcd", 100)})
	got := parsePage(t, scrape(t, url))
	const labels = `engine="0",model_name="org/\"quoted\"\\model"`
	for name, want := range map[string]float64{
		"vllm:num_requests_running{" + labels + "}":                           0,
		"vllm:num_requests_waiting{" + labels + "}":                           0,
		"vllm:kv_cache_usage_perc{" + labels + "}":                            0,
		"vllm:prefix_cache_queries_total{" + labels + "}":                     300,
		"vllm:prefix_cache_hits_total{" + labels + "}":                        192,
		"vllm:prompt_tokens_total{" + labels + "}":                            300,
		"vllm:generation_tokens_total{" + labels + "}":                        56,
		"vllm:num_preemptions_total{" + labels + "}":                          0,
		"vllm:request_success_total{" + labels + `,finished_reason="length"}`: 2,
		"vllm:request_success_total{" + labels + `,finished_reason="stop"}`:   1,
		"vllm:request_success_total{" + labels + `,finished_reason="abort"}`:  0,
		"vllm:time_to_first_token_seconds_count{" + labels + "}":              3,
		"vllm:inter_token_latency_seconds_count{" + labels + "}":              53,
		"vllm:time_per_output_token_seconds_count{" + labels + "}":            53,
		"vllm:e2e_request_latency_seconds_count{" + labels + "}":              3,
		"vllm:request_generation_tokens_sum{" + labels + "}":                  56,
		`vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="27000",simulated="True"}`: 1,
	} {
		v, ok := got[name]
		require.True(t, ok, name)
		require.Equal(t, want, v, name)
	}
	// TTFT of an idle engine: a step of 7.5 ms and 100 or 4 tokens at 25,000 a second.
	ttft := got["vllm:time_to_first_token_seconds_sum{"+labels+"}"]
	require.InDelta(t, 3*0.0075+(100+4+4)/25_000., ttft, 1e-6)
	require.NotContains(t, scrape(t, url), "lora_requests_info")
	require.Zero(t, s.Stats().Running)
}
