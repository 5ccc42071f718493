package enginesim

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serveMetrics writes the page that a router scrapes, in the text exposition format, with vLLM's
// names and labels.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	var page exposition
	page.labels = `engine="0",model_name="` + labelEscaper.Replace(s.o.Model) + `"`
	s.mu.Lock()
	s.writeMetrics(&page)
	s.unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(page.Bytes())
}

func (s *Server) writeMetrics(p *exposition) {
	st := s.engineStats()
	o := s.engine.Options()
	t, m := st.Totals, &s.metrics

	p.gauge("num_requests_running", "Number of requests in model execution batches.", float64(st.Running))
	p.gauge("num_requests_waiting", "Number of requests waiting to be processed.", float64(st.Waiting))
	p.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", st.KVUsage)
	p.counter("prefix_cache_queries_total", "Prefix cache queries, in tokens.", t.PrefixQueries)
	p.counter("prefix_cache_hits_total", "Prefix cache hits, in tokens.", t.PrefixHits)
	p.counter("num_preemptions_total", "Cumulative number of preemptions.", t.Preemptions)
	p.counter("prompt_tokens_total", "Number of prefill tokens processed.", t.PromptTokens)
	p.counter("generation_tokens_total", "Number of generation tokens processed.", t.GenerationTokens)

	p.family("request_success_total", "Count of ended requests by reason.", "counter")
	for _, r := range []struct {
		reason string
		n      uint64
	}{{"stop", m.stop}, {"length", m.length}, {"abort", m.abort}} {
		p.sample("request_success_total", p.labels+`,finished_reason="`+r.reason+`"`, float64(r.n))
	}

	// vLLM gives this one no model_name.
	p.family("cache_config_info", "Geometry of the KV cache.", "gauge")
	p.sample("cache_config_info", fmt.Sprintf(
		`block_size="%d",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="%d",simulated="True"`,
		o.BlockTokens, o.Blocks), 1)
	if len(s.o.Adapters) > 0 {
		// Nor this; its value is the time of the report.
		p.family("lora_requests_info", "Running and waiting LoRA adapters.", "gauge")
		p.sample("lora_requests_info", fmt.Sprintf(
			`max_lora="%d",running_lora_adapters="%s",waiting_lora_adapters="%s"`, o.MaxAdapters,
			labelEscaper.Replace(strings.Join(st.RunningAdapters, ",")),
			labelEscaper.Replace(strings.Join(st.WaitingAdapters, ","))), float64(time.Now().UnixMilli())/1e3)
	}

	p.histogram("time_to_first_token_seconds", "Time to first token.", m.firstToken)
	p.histogram("inter_token_latency_seconds", "Time between two tokens of a request.", m.interToken)
	p.histogram("time_per_output_token_seconds", "Time between two tokens, under its older name.", m.interToken)
	p.histogram("request_time_per_output_token_seconds", "Mean time per output token of a request.", m.perToken)
	p.histogram("e2e_request_latency_seconds", "Time from arrival to the last token.", m.request)
	p.histogram("request_queue_time_seconds", "Time in the waiting queue.", m.queue)
	p.histogram("request_prefill_time_seconds", "Time from start to the first token.", m.prefill)
	p.histogram("request_decode_time_seconds", "Time from the first token to the last.", m.decode)
	p.histogram("request_prompt_tokens", "Prompt length of ended requests.", m.prompt)
	p.histogram("request_generation_tokens", "Output length of ended requests.", m.generation)
}

// exposition is a page in the making.
type exposition struct {
	bytes.Buffer
	labels string
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (p *exposition) family(name, help, kind string) {
	fmt.Fprintf(p, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, kind)
}

func (p *exposition) sample(name, labels string, v float64) {
	p.WriteString("vllm:" + name + "{" + labels + "} ")
	p.Write(strconv.AppendFloat(p.AvailableBuffer(), v, 'f', -1, 64))
	p.WriteByte('\n')
}

func (p *exposition) gauge(name, help string, v float64) {
	p.family(name, help, "gauge")
	p.sample(name, p.labels, v)
}

func (p *exposition) counter(name, help string, v uint64) {
	p.family(name, help, "counter")
	p.sample(name, p.labels, float64(v))
}

func (p *exposition) histogram(name, help string, h *histogram) {
	p.family(name, help, "histogram")
	total := uint64(0)
	for i, n := range h.counts {
		total += n
		bound := "+Inf"
		if i < len(h.bounds) {
			bound = strconv.FormatFloat(h.bounds[i], 'f', -1, 64)
		}
		p.sample(name+"_bucket", p.labels+`,le="`+bound+`"`, float64(total))
	}
	p.sample(name+"_sum", p.labels, h.sum)
	p.sample(name+"_count", p.labels, float64(total))
}
