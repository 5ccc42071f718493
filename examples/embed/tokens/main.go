// Command tokens shows the parts of a prefix-aware router alone, in a program of one's own: requests become the token ids that
// an engine makes of them, ids become blocks, and blocks find the replica that has most of them cached. There is no gateway
// and no network in it.
//
//	go run ./examples/embed/tokens
//	go run ./examples/embed/tokens -model DIR     with tokenizer.json and tokenizer_config.json of a real model
//
// The tokenizer that comes with it is small, and so trained on little text: a real one makes about a third of the tokens.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/token"
	"github.com/inferloom/inferloom/kvcache/token/chat"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

//go:embed model
var builtin embed.FS

func main() {
	folder := flag.String("model", "", "a `folder` with tokenizer.json and tokenizer_config.json")
	flag.Parse()
	files, err := fs.Sub(builtin, "model")
	if *folder != "" {
		files = os.DirFS(*folder)
	}
	if err == nil {
		err = run(os.Stdout, files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tokens:", err)
		os.Exit(1)
	}
}

// load makes a model of its files.
func load(files fs.FS) (*chat.Model, error) {
	file, err := fs.ReadFile(files, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	tok, err := token.Load(file, token.Options{})
	if err != nil {
		return nil, err
	}
	config, err := fs.ReadFile(files, "tokenizer_config.json")
	if err != nil {
		return nil, err
	}
	o := chat.Options{Tokenizer: tok}
	if err := o.ReadConfig(config); err != nil {
		return nil, err
	}
	return chat.New(o)
}

const blockTokens = 16

func run(out io.Writer, files fs.FS) error {
	model, err := load(files)
	if err != nil {
		return err
	}

	// The router: two replicas, and what was sent to which.
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "replica-0", Address: "10.0.0.1:8000", Model: "m", BlockTokens: blockTokens},
		{ID: "replica-1", Address: "10.0.0.2:8000", Model: "m", BlockTokens: blockTokens},
	}})
	if err != nil {
		return err
	}
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	if err != nil {
		return err
	}
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index), Seed: 1})
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "%-6s %4s %7s %7s  %-10s %s\n", "talk", "turn", "tokens", "cached", "sent to", "first and last block")
	ctx := context.Background()
	var ids []uint32
	var hashes []uint64
	round := func(turn int) error {
		for _, talk := range []string{"Birds", "Ships"} {
			body, err := json.Marshal(map[string]any{"model": "m", "messages": conversation(talk, turn)})
			if err != nil {
				return err
			}
			// This is all that a request takes.
			if ids, err = model.AppendChat(ctx, ids[:0], body); err != nil {
				return err
			}
			d, err := sched.Pick(ctx, &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: ids}})
			if err != nil {
				return err
			}
			// Here it would be sent to d.Endpoint.Address. It counts as in flight until Done: the other talk goes elsewhere.
			defer d.Done()

			hashes = blockhash.AppendTokens(hashes[:0], blockhash.Start("m", "", "", blockTokens), ids, blockTokens)
			fmt.Fprintf(out, "%-6s %4d %7d %7d  %-10s %016x … %016x\n", talk, turn, len(ids), d.CachedTokens, d.Endpoint.ID,
				hashes[0], hashes[len(hashes)-1])
		}
		return nil
	}
	for turn := 1; turn <= 3; turn++ {
		if err := round(turn); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\nA turn repeats the talk so far: its blocks are cached where the last turn went, and only what is new was encoded.")
	return nil
}

// conversation is a talk about a topic up to its turn.
func conversation(topic string, turn int) []map[string]string {
	messages := []map[string]string{{"role": "system", "content": topic + " are what you know all about. Answer in one sentence, and in plain words."}}
	for i := 1; i <= turn; i++ {
		messages = append(messages, map[string]string{"role": "user", "content": fmt.Sprintf("Question %d: what should one know about %s?", i, topic)})
		if i < turn {
			messages = append(messages, map[string]string{"role": "assistant", "content": fmt.Sprintf("Answer %d: that is a long story.", i)})
		}
	}
	return messages
}
