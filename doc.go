// Package inferloom is a tour of a module of composable LLM-inference-serving primitives. It has no code of its own: take
// the package that you need.
//
// # Where a request runs
//
// Package [github.com/inferloom/inferloom/scheduling] chooses an engine for a request and accounts for it in the same
// step. Its plugins are filters, scorers and pickers; scheduling/prefix knows which engine has seen which prompt prefix;
// scheduling/policy has profiles that are ready to use, and scheduling/enginemetrics keeps the pool's metrics fresh.
//
// Package [github.com/inferloom/inferloom/scheduling/flow] decides when: it holds requests back while engines are full, and lets
// them go by priority, by tenants' fair shares and by deadlines.
// scheduling/shadow and scheduling/replay tell what another plan would have chosen; scheduling/selectserver serves hosts in other
// languages.
//
// scheduling/latency predicts what a request would take on each endpoint, so that it goes where its objectives can be met.
// scheduling/peers lets replicas see each other's load.
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
// # Exact tokens
//
// Package [github.com/inferloom/inferloom/kvcache/token] turns text into the exact token ids of a model. Its subpackage
// chat does so for chat requests, template and all; remote asks an engine. Either is given to gateway.Brain for a model, so
// that prefixes are matched as the engine's cache matches them.
//
// # What is cached where
//
// Package [github.com/inferloom/inferloom/kvcache] is an index of which engine holds which KV blocks in which tier; scheduling/prefix
// connects a scheduler to it. kvcache/events reads what engines say of their caches, and kvcache/blockhash names blocks as
// they do; kvcache/follow and scheduling/engineevents keep an index in step with a fleet, and kvcache/indexserver answers other
// routers from it.
//
// # Tiers
//
// [github.com/inferloom/inferloom/kvcache/store] keeps KV pages in CPU memory, on disks, on shared file systems and in remote stores
// behind one interface, safe across crashes; its subpackages are the levels, and evict decides what leaves a full one.
//
// # Tiers
//
// [github.com/inferloom/inferloom/kvcache/store] keeps KV pages in CPU memory, on disks, on shared file systems and in remote stores
// behind one interface, safe across crashes; its subpackages are the levels, and evict decides what leaves a full one.
//
// # Before anything is bought or deployed
//
// Package [github.com/inferloom/inferloom/accel] knows accelerators, fabrics and models, what fits and how fast it would be.
// [github.com/inferloom/inferloom/moe] decides where the experts of a mixture-of-experts model live; moe/plan searches
// the parallelism and rank placement of a whole deployment, and moe/emit writes it down for engines and Kubernetes.
// examples/planner is the three in one command.
//
// # The policy lab
//
// internal/engine models an inference engine as a state machine on an injected clock, checked step by step against vLLM.
// internal/enginesim serves it over HTTP (examples/modelserver) and says so in what it answers; internal/sim drives a
// thousand of them in virtual time behind the very scheduler that serves production (examples/simulate).
// [github.com/inferloom/inferloom/gateway/record] records live traffic, without its texts, for the lab to replay.
package inferloom
