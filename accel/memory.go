package accel

// Memory is what the bytes of one device are for, on the rank that has the most to hold.
type Memory struct {
	Total       int64 // what software sees
	Budget      int64 // of Total, what the engine allows itself
	Weights     int64 // without routed experts
	Experts     int64 // routed, redundant ones included
	Activations int64 // at the largest step
	AllToAll    int64 // buffers of the expert kernels
	Reserve     int64 // context of driver and framework, graphs, collectives
	KV          int64 // what remains for the KV cache; negative where it does not fit

	TokenBytes    int64 // KV bytes a token and rank, of layers that keep all tokens
	SequenceBytes int64 // bytes a sequence and rank whatever its length: linear state, full windows
	MaxTokens     int64 // that the KV cache holds, for all DP ranks of the instance together
}
