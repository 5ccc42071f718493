// Command quickstart shows what prefix-aware routing does, in one process and half a minute. It starts eight simulated engines
// and a gateway on loopback, sends the same chats through the gateway first with round robin and then with the default
// prefix-aware policy, and prints what the clients saw:
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -trace mooncake_conversation.jsonl
//	go run ./examples/quickstart -serve
//
// The gateway is the real one: every request goes over HTTP to the proxy, which asks the scheduler and relays the answer
// as it streams. The engines are simulated: no model is loaded, answers are invented, and how long things take comes
// from a model of a 70B model on four GPUs, run -timescale times as fast as the clock. Times that are printed are measured
// by the clients on the real clock and multiplied by that scale.
//
// # What is compared
//
// Requests arrive when the workload says, however slow the answers are (open loop). A later turn of a chat waits for the
// answer to the turn before and contains it. TTFT counts from the moment a request is due, so time that it spends waiting
// for one of the client's bounded connections is in it. Each policy gets fresh engines with empty caches and the same
// requests at the same times. Requests that are not complete within -duration count as errors; arrivals end so long
// before, and requests that would take too long then are left out, that a fleet that is not overloaded completes all.
//
// What engines report (queue, running requests, KV use) is scraped from their /metrics as in production, every 100 simulated
// milliseconds but at most every 20 real ones, and less often from engines that are idle.
package main

import "github.com/inferloom/inferloom/examples/internal/program"

func main() { program.Main("quickstart", run) }
