package engine

// Modelled lists what the model has in common with a real engine, one sentence an entry, for reports of simulated figures.
// Each was compared with a real engine or is named as not compared; docs/validity.md has the figures.
var Modelled = []string{
	"Continuous batching: first come first served, a bounded running set, chunked prefill that shares a token budget with decodes; the same decision as vLLM 0.32.0 on CPU at each of 6,955 steps",
	"Paged KV memory with a prefix cache, LRU eviction and preemption by recomputation: the same cached tokens, preemptions and block events as in vLLM 0.32.0 on CPU",
	"Step times that grow with decoding sequences, the context they read, prefill tokens, their attention and the experts that tokens touch; fitted to some concurrencies measured on accelerators, they predict TPOT at others within 2 % and TTFT within 7 % in the median, but not at other prompt lengths (13 % and 40 %)",
	"LoRA slots and loading, start-up, crashes and slow-downs, not compared with a real engine",
}

// NotModelled lists effects that real engines have and the model has not.
var NotModelled = []string{
	"Scheduling ahead of the step in flight (vLLM's asynchronous scheduling, SGLang's overlap), which delays admission by up to a step",
	"The server in front of the engine: tokenization, HTTP, detokenization and their queues",
	"Speculative decoding, sliding-window and linear attention, KV offload, pipeline and context parallelism; other parallelism is in the speed only",
	"Uneven expert load, CUDA graphs, choice of kernels, clocks and noise: a step's time is a smooth function",
	"The schedulers of SGLang and TensorRT-LLM: all engines decide as vLLM does",
}
