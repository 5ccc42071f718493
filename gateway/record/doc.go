// Package record writes the traffic of a gateway to a file, and reads it back: when requests arrived, how long prompts and
// answers were, which prompts began alike, what became of them. It never writes a text. Such a file lets a policy be tried
// on last week's traffic before production changes.
//
//   - A [Recorder] is a gateway.Observer. It hashes a prompt's blocks as its request ends, and a goroutine of its own writes.
//   - A [Writer] and a [Reader] are the format: one [Entry] for each request, below a [Header].
//
// To record:
//
//	recorder, err := record.New(record.Options{Path: "traffic.jsonl"})
//	...
//	defer recorder.Close()
//	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Observer: recorder})
//
// # Format
//
// A file is JSON lines, UTF-8. The first line is a header:
//
//	{"inferloom_trace":1,"start":"2026-11-22T21:00:00.5Z","ids":"6f1c...","block_tokens":64,"window_us":600000000}
//
// inferloom_trace is the version of the format, start what times count from, block_tokens the size of blocks, window_us
// how far entries can be out of order. The others are the entries, of which all fields but t can be missing, which means
// 0, empty or false:
//
//	{"t":1250000,"in":1502,"out":200,"cached":1024,"blocks":[[0,16],[40,7]],"tenant":1,"ep":"engine-3","ttft":81000,"total":3200000}
//
//	t         arrival, in microseconds since start
//	in, out   tokens of the prompt and of the answer; 0 is unknown
//	cached    tokens of the prompt that the engine had in its cache
//	blocks    the prompt's full blocks, as runs of [number of the first, how many]
//	est       tokens of the prompt were estimated from its length, and blocks are of that many bytes
//	tenant    numbers from 1 for tenants and for sessions, as they came
//	session
//	model, adapter, prio, stream, max   what was asked for; max bounds the answer
//	ep        the endpoint that it was sent to last, and tries how many there were if more than one
//	ttft, total   microseconds from arrival to the first byte and to the end
//	status    HTTP status that the client got, if not 200
//	end       "failed", "rejected" or "client left", if it was not answered
//
// Blocks with equal numbers had equal content, and so had everything before them. Numbers are given in order of first
// appearance, so a prompt that continues an earlier one is two runs, however long it is.
//
// A header can follow entries: where a gateway was started again, or files were joined. Blocks, tenants and sessions of
// headers with equal ids are the same; a [Reader] keeps others apart. Equal ids and an equal start are one recording in
// several files.
//
// # Guarantees
//
//   - Nothing in a file can be matched against a guessed text, name or session: there are no hashes in it, only numbers in
//     order of appearance. Names of models, adapters and endpoints are there as they are.
//   - A request is never held up. What comes while the queue is full, or after an error of the disk, is dropped and counted.
//   - Lines are written whole and as soon as the queue is empty. A file that ends within a line, since its gateway died, is
//     read to there; the next Recorder begins a new line with a header.
//   - A [Reader] holds one line at a time and never panics on what it reads. Errors name the line.
//
// # Caveats
//
// Entries are in the order in which requests ended. A Recorder that has forgotten a block, see Options.RememberBlocks,
// gives it a new number. Where tokens are estimated, so are the places where prompts part.
package record
