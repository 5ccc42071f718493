package engine

// Modelled lists what the model has in common with a real engine, one sentence an entry, for reports of simulated figures.
// Each was compared with a real engine or is named as not compared; docs/validity.md has the figures.
var Modelled = []string{
	"Continuous batching: first come first served, a bounded running set, chunked prefill that shares a token budget with decodes. Same decisions at each step as vLLM 0.32.0 on CPU.",
	"Paged KV memory with prefix cache, LRU eviction and preemption by recomputation. Same cached tokens, preemptions and block events as vLLM 0.32.0 on CPU.",
	"A step's time grows with decoding sequences, the context they read, prefill tokens, attention pairs of prefill and the experts that its tokens touch. Fitted to half of the concurrencies measured for a deployment, it predicts the others within a few percent for most deployments.",
	"LoRA slots and loading, start-up, crashes and slow-downs: by description, not compared with a real engine.",
}

// NotModelled lists effects that real engines have and the model has not.
var NotModelled = []string{
	"Scheduling ahead of the step in flight (vLLM's asynchronous scheduling, SGLang's overlap), which delays admission by up to a step.",
	"The server in front of the engine: tokenization, HTTP, detokenization and their queues.",
	"Speculative decoding, sliding-window and linear attention, KV offload, pipeline and context parallelism; other parallelism is only in the speed.",
	"Uneven expert load, CUDA-graph batch sizes, kernel choice, clock and thermal changes, noise: a step's time is a smooth function.",
	"SGLang's and TensorRT-LLM's own schedulers: all engines decide as vLLM does.",
}
