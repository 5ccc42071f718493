// Package replay records the choices of a scheduler with all that they were made from, and asks another plan what it would have
// chosen.
//
//	recorder, err := replay.NewRecorder(file, replay.RecorderOptions{})
//	live.Observe(1, recorder)
//	...
//	err = recorder.Close()
//
// and later, anywhere:
//
//	report, err := replay.Run(ctx, replay.NewReader(file), replay.Options{Plan: scheduling.Options{Profile: next}})
//	fmt.Println(report.Agreement(), report.Regret.Mean, report.Endpoints)
//
// A [Reader] can also be used alone: it yields one scheduling.Moment for each choice, for Scheduler.Weigh.
//
// It answers "would plan B have chosen differently, on what plan A saw?", exactly and choice by choice. It does not answer
// "would B have been faster?": the load and the caches that are recorded are those of A's choices. That is for the policy lab
// (examples/simulate), which replays traffic, recorded by gateway/record, against simulated engines. A recording of traffic has
// requests and knows no metrics; one of choices has metrics, ledger and match, and knows no answers.
//
// # Format
//
// JSON lines, UTF-8. The first is a header:
//
//	{"inferloom_decisions":1,"start":"2026-11-25T17:00:00Z","metrics":["waiting","running",...]}
//
// inferloom_decisions is the version, start what times count from, metrics what they are called. The other lines are choices. In
// them, endpoints are numbers, in the order of the latest layout, and what did not change since the line before is left out:
//
//	{"t":1250,"layout":[{"id":"e0","addr":"10.0.0.1:8000"},...],"seen":[[0,1200,0,3,2,0.5]],"load":[[0,2,512,4096,1]],
//	 "match":[[0,1024]],"model":"llama","tokens":1502,"seed":77,"pick":0,"score":0.81}
//
//	t          time of the choice, in nanoseconds since start
//	layout     the endpoints of the pool; the state of all is unknown from there on, and the ledger empty
//	seen       what engines reported: endpoint, when, and then pairs of metric and value
//	lora       what engines reported of LoRA adapters; without a state it is that of the report before
//	load       the ledger: endpoint, requests, prompt tokens to prefill, KV tokens, and requests at the latest report
//	eligible   endpoints that served the model and had room, as runs of [first, how many]; all if it is missing
//	match      endpoint and cached tokens, of those that have some; missing if nobody looked
//	media      the same for embeddings
//	stage      whose choice it is, and earlier the choices of the stages before: [name, endpoint, cached tokens]
//	model, adapter, tokens, tenant, session, pinned, prio, max, ttft, tpot, modality, sizes, headers, peer   the request
//	keys       hashes of the beginning of the prompt that plugins went by: [tokens, key]
//	seed       of random numbers
//	pick       the choice, and score its weighted score
//
// # Guarantees
//
//   - The plan that was recorded makes every choice again, ties and random draws included, however many were made at once, if its
//     plugins go by what a scheduling.Moment has. All of this module do, but those that learn; see below.
//   - No text and no token of a prompt is in a recording. Names of models, adapters, endpoints, tenants and sessions are, and
//     headers that RecorderOptions.Headers names.
//   - A pick waits for a recorder for some microseconds at most, never for the disk. What the disk is too slow for is left out and
//     counted, and what follows is read as if nothing had been missing.
//   - A Reader holds one line at a time, is bounded by what a line may be long, and never panics on what it reads. Errors name the
//     line and the field.
//
// # Caveats
//
// A plan with scorer.PrefixHash records a hash of the first 256 tokens of each prompt: whoever guesses those can confirm the guess.
// Plugins that remember choices by themselves (scorer.ColdLRU, scorer.SessionBinding, scorer.TenantSpread) learn from the recorded ones, in their order:
// not what they knew before, not of choices that a sample left out, nor of requests that moved to a fallback, nor of output tokens
// that the host told them of. picker.RoundRobin takes turns of its own. What a plan reads that the recorded one did not cause to be
// recorded, a prompt key or a header, is missing to it. Names that are not UTF-8 are not recorded as they were.
package replay
