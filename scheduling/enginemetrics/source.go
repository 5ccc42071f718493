package enginemetrics

import "github.com/inferloom/inferloom/scheduling"

// Source is where an engine's pages say what. Each field lists selectors, the best first: where a page has several of them,
// the others do not count. All are optional.
type Source struct {
	// Name is for errors.
	Name string
	// Waiting, Running and KVUsage select the metrics of those names in package scheduling.
	Waiting, Running, KVUsage []string
	// BlockTokens and CacheBlocks select the geometry of the KV cache as values, CacheTokens its size in tokens. Geometry
	// selects a series with both as labels, named by BlockTokensLabel and CacheBlocksLabel.
	BlockTokens, CacheBlocks, CacheTokens []string
	Geometry                              []string
	BlockTokensLabel, CacheBlocksLabel    string
	// Adapters selects vLLM's series of LoRA adapters, whose labels list them and whose value is a time.
	Adapters []string
	// RankLabel tells data-parallel ranks apart.
	RankLabel string
	// Sum says that series of the same name and rank, as for each model of a server, are to be added. Otherwise the
	// greatest counts: they are copies of one number, as for each tensor-parallel rank.
	Sum bool
}

// Builtin returns the sources of the engines that are known, in their present and older forms.
func Builtin() []Source {
	return []Source{
		{
			Name:    "vllm",
			Waiting: []string{"vllm:num_requests_waiting"}, Running: []string{"vllm:num_requests_running"},
			KVUsage:  []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"},
			Geometry: []string{"vllm:cache_config_info"}, BlockTokensLabel: "block_size", CacheBlocksLabel: "num_gpu_blocks",
			Adapters: []string{"vllm:lora_requests_info"}, RankLabel: "engine",
		},
		{
			Name:    "sglang",
			Waiting: []string{"sglang:num_queue_reqs"}, Running: []string{"sglang:num_running_reqs"},
			KVUsage:     []string{"sglang:token_usage"},
			BlockTokens: []string{"sglang:page_size"}, CacheBlocks: []string{"sglang:num_pages"}, CacheTokens: []string{"sglang:max_total_num_tokens"},
			Geometry: []string{"sglang:cache_config_info"}, BlockTokensLabel: "page_size", CacheBlocksLabel: "num_pages",
			RankLabel: "dp_rank",
		},
		{
			Name:    "trtllm-serve",
			Waiting: []string{"trtllm_num_requests_waiting"}, Running: []string{"trtllm_num_requests_running"},
			KVUsage:     []string{"trtllm_kv_cache_utilization"},
			BlockTokens: []string{"trtllm_kv_cache_tokens_per_block"}, CacheBlocks: []string{"trtllm_kv_cache_max_blocks"},
		},
		{
			Name:        "triton",
			Waiting:     []string{"nv_trt_llm_request_metrics{request_type=waiting}", "nv_inference_pending_request_count"},
			Running:     []string{"nv_trt_llm_request_metrics{request_type=scheduled}"},
			KVUsage:     []string{"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"},
			BlockTokens: []string{"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"},
			CacheBlocks: []string{"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"},
			Sum:         true,
		},
		{Name: "tgi", Waiting: []string{"tgi_queue_size"}, Running: []string{"tgi_batch_current_size"}},
		{
			Name:    "llama.cpp",
			Waiting: []string{"llamacpp:requests_deferred"}, Running: []string{"llamacpp:requests_processing"},
			KVUsage: []string{"llamacpp:kv_cache_usage_ratio"},
		},
	}
}

// quantity is what a series means.
type quantity uint8

const (
	waiting = quantity(scheduling.Waiting)
	running = quantity(scheduling.Running)
	kvUsage = quantity(scheduling.KVUsage)
)

const (
	// firstOther is behind the pool's metrics, its custom ones included.
	firstOther = kvUsage + 1 + scheduling.CustomMetrics

	blockTokens = firstOther + iota - 1
	cacheBlocks
	cacheTokens
	geometry
	adapters

	numbers = geometry // quantities before it are numbers of their own
)
