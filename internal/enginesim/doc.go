// Package enginesim serves one simulated engine over HTTP. Towards a router it behaves as a vLLM
// server does: the OpenAI chat and text completions, streaming and not, model list, health and
// metrics under vLLM's names; behind them is the state machine of package engine, driven by the real
// clock times a scale. It is a simulator and says so: in the X-Simulator response header, in
// system_fingerprint, in /version and in the owned_by of its models.
//
//	sim, err := enginesim.New(enginesim.Options{Model: "sim-8b", TimeScale: 10})
//	go sim.Run(ctx) // the one goroutine it owns; ends with ctx
//	err = http.Serve(listener, sim)
//
// # Tokens
//
// There is no tokenizer: four bytes of text are one token, a last piece of fewer bytes is one too. A
// prompt given as token ids counts each id. A chat is rendered message by message as <|role|>,
// content, <|end|>, each starting at a new token, and ends in <|assistant|>. The answer is words of
// exactly four bytes, a pure function of prompt and seed, so a next turn that contains the
// answer shares its prefix with the earlier prompt and answer, and usage, text and cache agree to the
// token. Blocks are hashed in a chain of XXH3 seeded with model, adapter and cache_salt.
//
// An answer has exactly the number of tokens that the client allows (finish_reason "length"); one
// that states no limit gets 256 in a chat and 16 in a completion, and finish_reason "stop".
//
// # Time
//
// A second of the clock is TimeScale simulated seconds. Durations on /metrics are simulated seconds.
// The driver sleeps until the engine's next step and never polls. When it wakes late, it performs all
// that was due with the times it was due at, so lag is never added up; but a client sees a token only
// when the driver is awake, which at a high scale is every [Options.MinSleep]. Tokens of a stream
// that are due together travel in one event, as vLLM merges those a client was too slow for.
//
// # Events
//
// With [Options.Events] set, what enters and leaves the prefix cache is published as vLLM publishes it: with tokens, parents,
// adapter and salt, and before a client sees any effect. The hashes are the simulator's own, as those of an engine whose hash
// algorithm nobody else can compute.
//
// # Faults
//
// [Server.SetFault], or POST /sim/faults with the same value as JSON, makes a share of the requests
// fail while the server runs: see [Fault].
//
// # Caveats
//
//   - n, best_of and several prompts in one request are refused; sampling parameters, stop and
//     logprobs are accepted and have no effect; content other than text is refused.
//   - Tool definitions and calls count as prompt text; an answer never calls a tool.
//   - HTTP itself is not scaled: at TimeScale 20 a millisecond in the network is 20 simulated ones.
package enginesim
