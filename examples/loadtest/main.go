// Command loadtest measures what clients of an OpenAI-compatible server see: time to first token, time per output token,
// goodput under an SLO, cached tokens, errors.
//
//	go run ./examples/loadtest -url http://127.0.0.1:8000 -rate 5 -duration 1m
//	go run ./examples/loadtest -url http://127.0.0.1:8000 -trace mooncake_conversation.jsonl -scale 0.5 -report out.html
//	go run ./examples/loadtest -url http://127.0.0.1:8000 -rate 5 -json > new.json
//	go run ./examples/loadtest -compare old.json new.json
//
// An API key is read from the environment variable OPENAI_API_KEY (or that which -api-key-env names).
//
// # Open loop
//
// A request is sent when the workload says, however slow the answers are, and its latency counts from that moment, not from
// when it could be sent. So a server that stalls for a second is seen by all who would have asked in that second, and time
// that a request waits for a connection (-concurrency) or for this client is in its latency. How late the client itself was is
// reported, and a warning says when it was late enough to matter.
//
// A later turn of a chat contains the answer to the turn before. It is due when the workload says or when that answer is
// complete, whichever is later, as its user would not ask before.
//
// # What is counted
//
// TTFT is from when a request is due until its first token arrives; TPOT is the time from the first token to the last over
// the tokens after the first; ITL is each gap between two events that bring tokens (engines may put several tokens in one).
// Requests that are due during the warm-up are sent and not counted. Goodput is requests that were answered completely within
// both bounds, over the time in which the counted requests were due. A request that fails meets no bound.
package main

import "github.com/inferloom/inferloom/examples/internal/program"

func main() { program.Main("loadtest", run) }
