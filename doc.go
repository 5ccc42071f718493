// Package inferloom is a tour of a module of composable LLM-inference-serving primitives. It has no code of its own: take
// the package that you need.
//
// # Where a request runs
//
// Package [github.com/inferloom/inferloom/scheduling] chooses an engine for a request and accounts for it in the same
// step. Its plugins are filters, scorers and pickers; scheduling/prefix knows which engine has seen which prompt prefix;
// scheduling/policy has profiles that are ready to use.
//
// # How it gets there
//
// Package [github.com/inferloom/inferloom/gateway] is the contract between a data plane, which moves bytes, and a brain,
// which decides: one Router, one Route. gateway.Brain assembles a Router from a scheduler. gateway/proxy is the data
// plane in Go: a streaming reverse proxy for OpenAI-compatible engines, as an http.Handler. gateway/api reads requests,
// streams and usage as bytes. gateway/dashboard shows what goes on.
//
// # How they compose
//
//	client ── gateway/proxy ── Router.Route ── gateway.Brain ── scheduling.Scheduler ── scheduling.Pool
//	               │                                                    │                     │
//	               └── engine                         scheduling/prefix, scorers      metrics, discovery
//
// # What is useful alone
//
// Package [github.com/inferloom/inferloom/kvcache/token] turns prompts into the exact token ids of a model, and
// [github.com/inferloom/inferloom/moe] decides where the experts of a mixture-of-experts model live.
//
// # What stands in for engines
//
// internal/engine models an inference engine as a state machine on an injected clock and internal/enginesim serves it
// over HTTP; examples/modelserver runs it. It is a simulator and says so in what it answers.
package inferloom
