// Command evict replays a trace's prompts against a KV store of some sizes, under each eviction policy, and prints what each
// would have saved:
//
//	go run ./examples/evict -trace mooncake_conversation.jsonl
//	go run ./examples/evict -sizes 2,20 -model Qwen/Qwen3-32B -accelerator h200-sxm -tp 2
//
// Sizes are percentages of all the trace's different blocks. A block counts as hit if the store has it and all before it. What a
// hit saves is what the performance model (package accel) says that computing the block takes. Traces are those that
// docs/traces.md names; without one, chats are generated.
package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

func main() { program.Main("evict", run) }

// row is one policy at one size.
type row struct {
	Policy       string  `json:"policy"`
	SizePercent  float64 `json:"size_percent"`
	SizeBytes    int64   `json:"size_bytes"`
	HitRatio     float64 `json:"hit_ratio"`
	LoadedBytes  int64   `json:"loaded_bytes"`
	StoredBytes  int64   `json:"stored_bytes"`
	SavedSeconds float64 `json:"saved_seconds"`
	SavedPercent float64 `json:"saved_percent"`
	Orphaned     int     `json:"orphaned_blocks"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("evict", flag.ContinueOnError)
	f.SetOutput(stderr)
	trace := f.String("trace", "", "a trace's `file`; empty generates chats")
	requests := f.Int("requests", 20_000, "requests to read")
	sizes := f.String("sizes", "1,5,10,25", "sizes of the store in `percent` of the trace's different blocks")
	policies := f.String("policies", "all", "`names` of policies, with commas between them")
	tokens := f.Int("block", 512, "tokens of a block")
	modelName := f.String("model", "meta-llama/Llama-3.1-70B", "a known model's Hugging Face `id`")
	accelerator := f.String("accelerator", "h100-sxm", "a system's `name`")
	tp := f.Int("tp", 8, "accelerators that share the model")
	asJSON := f.Bool("json", false, "print JSON")
	if err := f.Parse(args); err != nil {
		return program.UsageError{Err: err}
	}
	usage := func(err error) error { return program.UsageError{Err: err} }
	percents, err := parseSizes(*sizes)
	if err != nil {
		return usage(err)
	}
	kinds, err := parsePolicies(*policies)
	if err != nil {
		return usage(err)
	}
	if *tokens < 1 || *requests < 1 {
		return usage(fmt.Errorf("-block is %d and -requests %d, want at least 1", *tokens, *requests))
	}
	model, err := accel.LookupModel(*modelName)
	if err != nil {
		return usage(err)
	}
	system, err := accel.Builtin().System(*accelerator)
	if err != nil {
		return usage(err)
	}
	source := workload.Source(nil)
	if *trace != "" {
		source, _, err = workload.Open(*trace)
	} else {
		source, err = workload.Chats(workload.ChatOptions{Seed: 1})
	}
	if err != nil {
		return usage(err)
	}
	prompts, err := chains(workload.Limit(source, *requests), *tokens)
	if err != nil {
		return err
	}
	if err := price(prompts, *tokens, model, system, *tp); err != nil {
		return err
	}
	footprint := footprintOf(prompts)
	var rows []row
	for _, percent := range percents {
		size := int64(float64(footprint) * percent / 100)
		for _, kind := range kinds {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := evict.Evaluate(kind, size, slices.Values(prompts))
			if err != nil {
				return fmt.Errorf("%v at %v%%: %w", kind, percent, err)
			}
			rows = append(rows, row{
				kind.String(), percent, size, r.HitRatio(), r.LoadedBytes, r.StoredBytes,
				r.SavedSeconds, 100 * r.SavedSeconds / r.TotalSeconds, r.Orphaned,
			})
		}
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(rows)
	}
	fmt.Fprintf(stdout, "%d prompts, different blocks %.1f GB; %s on %d of %s\n\n", len(prompts), float64(footprint)/1e9, model.Name, *tp, *accelerator)
	fmt.Fprintln(stdout, "| size | policy | hit ratio | loaded GB | stored GB | recompute seconds saved | of all |")
	fmt.Fprintln(stdout, "|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(stdout, "| %v %% | %s | %.4f | %.0f | %.0f | %.1f | %.2f %% |\n", r.SizePercent, r.Policy, r.HitRatio, float64(r.LoadedBytes)/1e9, float64(r.StoredBytes)/1e9, r.SavedSeconds, r.SavedPercent)
	}
	return nil
}

func parseSizes(s string) ([]float64, error) {
	var out []float64
	for _, part := range strings.Split(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return nil, fmt.Errorf("-sizes has %q, want percentages above 0 and up to 100", part)
		}
		out = append(out, v)
	}
	return out, nil
}

func parsePolicies(s string) ([]evict.Kind, error) {
	if s == "all" {
		return evict.Kinds(), nil
	}
	var out []evict.Kind
	for _, name := range strings.Split(s, ",") {
		k, err := evict.ParseKind(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("-policies: %w", err)
		}
		out = append(out, k)
	}
	return out, nil
}

// chains cuts prompts into blocks, each known by all the text up to its end. A partial block is not stored.
func chains(source workload.Source, blockTokens int) ([][]evict.Block, error) {
	type state struct {
		hash   xxh3.Hasher
		filled int
		blocks []evict.Block
	}
	sessions := map[int]*state{}
	var out [][]evict.Block
	for r, err := range source {
		if err != nil {
			return nil, err
		}
		s := cmp.Or(sessions[r.Session], &state{})
		add := func(id uint64, tokens int) {
			for from := 0; from < tokens; {
				n := min(tokens-from, blockTokens-s.filled)
				var b [24]byte
				binary.LittleEndian.PutUint64(b[:], id)
				binary.LittleEndian.PutUint64(b[8:], uint64(from))
				binary.LittleEndian.PutUint64(b[16:], uint64(n))
				_, _ = s.hash.Write(b[:])
				from += n
				if s.filled += n; s.filled == blockTokens {
					s.filled = 0
					s.blocks = append(s.blocks, evict.Block{ID: evict.ID(s.hash.Sum64())})
				}
			}
		}
		for _, m := range r.Messages {
			for _, p := range m.Pieces {
				add(p.ID, p.Tokens)
			}
		}
		out = append(out, slices.Clone(s.blocks))
		if r.Last {
			delete(sessions, r.Session)
			continue
		}
		// The answer is text of its own.
		add(uint64(r.Session)<<32|uint64(r.Turn)|1<<63, r.OutputTokens)
		sessions[r.Session] = s
	}
	if len(out) == 0 {
		return nil, errors.New("the trace has no requests")
	}
	return out, nil
}

// price sets the size of all blocks, and what each costs to compute at its place.
func price(prompts [][]evict.Block, tokens int, model *accel.Model, system accel.System, tp int) error {
	longest := 1
	for _, p := range prompts {
		longest = max(longest, len(p))
	}
	d := accel.Deployment{Model: model, System: system, Parallelism: accel.Parallelism{TP: tp}}
	prepared, err := accel.Calibrated().Prepare(d)
	if err != nil {
		return err
	}
	recompute, err := store.PrefillTime(prepared, longest*tokens)
	if err != nil {
		return err
	}
	// The differences leave out what any prefill takes once.
	costs := make([]float64, longest)
	for i := range costs {
		costs[i] = (recompute(0, (i+1)*tokens) - recompute(0, max(i*tokens, 1))).Seconds()
	}
	bytes := int64(model.KVBytesPerToken(accel.BF16) * float64(tokens))
	for _, p := range prompts {
		for i := range p {
			p[i].Bytes, p[i].Cost = bytes, costs[i]
		}
	}
	return nil
}

func footprintOf(prompts [][]evict.Block) int64 {
	seen := map[evict.ID]bool{}
	total := int64(0)
	for _, p := range prompts {
		for _, b := range p {
			if !seen[b.ID] {
				seen[b.ID] = true
				total += b.Bytes
			}
		}
	}
	return total
}
