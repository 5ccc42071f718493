// Package blockhash hashes prompts into chains of block hashes, the keys of KV caches: hash i of a chain stands for blocks
// 0 to i, so two prompts have equal hashes exactly as far as their prefixes agree in whole blocks.
//
// Our own chains are Start, AppendText and AppendTokens, the fastest. A Scheme hashes as an engine or another router does, so that
// what engines publish can be looked up without translating: VLLM, SGLang, LLMD and Dynamo. VLLM refuses the algorithms that
// another process cannot compute, and says what to start the engine with instead.
//
// Functions append to the caller's slice and allocate nothing when it has room (a Scheme: for blocks of up to about 400 tokens).
// A chain can be continued: our own from the last hash of what came before, a Scheme's from a copy of its State. Chains of
// texts, which stand for estimated tokens, and chains of token ids share no hash. A partial block at the end is not hashed, as
// engines do not share partial blocks.
package blockhash
