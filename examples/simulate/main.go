// Command simulate compares scheduling policies on a simulated fleet: the production scheduler under a virtual clock, in front
// of modelled engines. Nothing is measured on real hardware.
//
//	go run ./examples/simulate
//	go run ./examples/simulate -trace mooncake_conversation.jsonl -endpoints 64 -policy default,round-robin -report out.html
//	go run ./examples/simulate -sweep 0.5,0.8,1,1.2 -report out.html
//	go run ./examples/simulate -tune -objective ttft-p95
//	go run ./examples/simulate -matrix runs.jsonl -traces ../shared/data/traces -policy default,llm-d,oracle
//
// # What is compared
//
// Each policy meets the same requests at the same times, once for each seed, and differences are taken seed by seed. First the
// load that each policy can just bear is searched for. Without -trace, -rate or -scale the comparison then runs at -load times what the
// weakest policy bears. A policy above 0.95 of its capacity is overloaded: its latency depends on how long one looks, so that
// none is given, and goodput is what can be compared. After the last arrival the simulation goes on for two minutes, and what is
// not complete then is no good request.
//
// With generated requests each seed is other traffic. A trace is there once: each seed moves each of its requests by up to a second,
// and intervals say what that changes, not what another day would.
package main

import "github.com/inferloom/inferloom/examples/internal/program"

func main() { program.Main("simulate", run) }
