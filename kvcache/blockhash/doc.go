// Package blockhash hashes prompts into chains of block hashes, the keys of KV caches: hash i of a chain stands for blocks
// 0 to i, so two prompts have equal hashes exactly as far as their prefixes agree in whole blocks.
//
// Functions append to the caller's slice and allocate nothing when it has room. A chain can be continued: start it at the
// last hash of what came before. Chains of texts, which stand for estimated tokens, and chains of token ids share no hash. A
// partial block at the end is not hashed, as engines do not share partial blocks.
package blockhash
