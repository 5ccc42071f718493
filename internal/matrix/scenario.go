package matrix

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/sim"
	"github.com/inferloom/inferloom/internal/workload"
)

// Scenario is a fleet and what is asked of it.
type Scenario struct {
	Name string
	// Doc says in a line what it is.
	Doc string
	// Config has the fleet and the SLO, and whatever else is not as usual.
	Config sim.Config
	// Source is the requests at a mean rate a second; each seed is other traffic.
	Source func(seed uint64, rate float64) (workload.Source, error)
}

// parts of a trace, at each of which a seed begins.
const parts = 10

// shape is what differs between the scenarios that a policy was tuned on and those that are held out.
type shape struct {
	endpoints int
	engine    engine.Options
	kvTokens  int
	length    float64 // times the lengths of generated prompts
	number    float64 // times how many system prompts, documents and turns there are
	offset    float64 // into the part of a trace
	suffix    string
}

var (
	tuned   = shape{endpoints: 8, kvTokens: 432_000, length: 1, number: 1}
	heldOut = shape{
		endpoints: 6, kvTokens: 300_000, length: 0.6, number: 1.7, offset: 0.5, suffix: ", held out",
		engine: engine.Options{PrefillRate: 12_000, StepTime: 12 * time.Millisecond}, // half the speed that is usual
	}
)

// fleet is engines with blocks of some size.
func (s *shape) fleet(count, blockTokens int) sim.Group {
	o := s.engine
	o.BlockTokens, o.Blocks = blockTokens, s.kvTokens/blockTokens
	return sim.Group{Count: count, Engine: o}
}

func (s *shape) config(blockTokens int) sim.Config {
	return sim.Config{Fleet: []sim.Group{s.fleet(s.endpoints, blockTokens)}}
}

// prompt is a distribution of the lengths of prompts.
func (s *shape) prompt(mean, cv float64, most int) workload.Lengths {
	return workload.Lengths{Mean: s.length * mean, CV: cv, Max: most}
}

func (s *shape) tokens(n float64) int { return int(s.length * n) }
func (s *shape) count(n float64) int  { return int(s.number * n) }

// Scenarios returns all that are simulated. traces is the folder of mooncake_conversation.jsonl and azure_llm_2023_code.csv; if
// it is empty, these two are left out. Those that are held out have other engines, a smaller fleet, and prompts of other lengths
// and numbers; traces begin elsewhere.
func Scenarios(traces string, held bool) ([]Scenario, error) {
	s := tuned
	if held {
		s = heldOut
	}
	all := s.generated()
	defer func() {
		for i := range all {
			all[i].Name += s.suffix
		}
	}()
	if traces == "" {
		return all, nil
	}
	for i, t := range []struct {
		name, doc, file string
		block           int
	}{
		{"conversation", "the Mooncake conversation trace", "mooncake_conversation.jsonl", workload.MooncakeBlockTokens},
		{"code", "the Azure code trace of 2023; it says nothing of content, so that nothing is shared", "azure_llm_2023_code.csv", 128},
	} {
		requests, err := read(filepath.Join(traces, t.file))
		if err != nil {
			return nil, err
		}
		all = slices.Insert(all, i, Scenario{
			Name: t.name, Doc: t.doc, Config: s.config(t.block),
			Source: func(seed uint64, rate float64) (workload.Source, error) {
				return workload.Rotate(requests, int((float64(seed%parts)+s.offset)/parts*float64(len(requests))), rate)
			},
		})
	}
	return all, nil
}

func read(path string) ([]workload.Request, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	source, _, err := workload.Open(path)
	if err != nil {
		return nil, err
	}
	var requests []workload.Request
	for r, err := range source {
		if err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return requests, nil
}

// chats makes the source of a scenario from options, which get the seed and the rate.
func chats(o workload.ChatOptions) func(uint64, float64) (workload.Source, error) {
	return func(seed uint64, rate float64) (workload.Source, error) {
		o := o
		o.Seed, o.RequestsPerSecond = seed, rate
		return workload.Chats(o)
	}
}

// generated are the scenarios whose requests are made up.
func (s *shape) generated() []Scenario {
	usual := s.config(128)
	adapters := make([]string, 32)
	for i := range adapters {
		adapters[i] = fmt.Sprintf("adapter-%d", i)
	}
	lora := s.config(128)
	lora.Fleet[0].Engine.MaxAdapters, lora.Fleet[0].Adapters = 6, adapters
	slow := s.fleet(s.endpoints/2, 128)
	slow.Slowdown = 2
	return []Scenario{
		{
			Name: "chats", Doc: "chats of several turns behind four system prompts, with lengths as in the Mooncake trace", Config: usual,
			Source: chats(workload.ChatOptions{PauseScale: 0.2, SystemPrompts: s.count(4)}),
		},
		{
			Name: "templates", Doc: "single requests of about 300 tokens behind one of 40 prompts of 2,000 tokens", Config: usual,
			Source: chats(workload.ChatOptions{
				Turns: 1, SystemPrompts: s.count(40), SystemTokens: s.tokens(2000),
				Input: s.prompt(2300, 0.2, 0), Output: workload.Lengths{Mean: 200, CV: 0.7},
			}),
		},
		{
			Name: "retrieval", Doc: "questions about one of 500 documents of 6,000 tokens on average, by Zipf's law", Config: usual,
			Source: func(seed uint64, rate float64) (workload.Source, error) {
				questions, err := workload.Chats(workload.ChatOptions{
					Seed: seed, RequestsPerSecond: rate, Turns: 1,
					Input: workload.Lengths{Mean: 150, CV: 0.5}, Output: workload.Lengths{Mean: 250, CV: 0.7},
				})
				if err != nil {
					return nil, err
				}
				return workload.Documents(questions, workload.DocumentOptions{
					Seed: seed, Count: s.count(500), SystemTokens: 400, Tokens: s.prompt(6000, 0.5, 0),
				})
			},
		},
		{
			Name: "agents", Doc: "agents that call tools: 15 turns on average, seconds apart, each with a result of 800 tokens and a short answer", Config: usual,
			Source: chats(workload.ChatOptions{
				Turns: s.number * 15, SystemPrompts: 8, SystemTokens: s.tokens(3000), PauseScale: 0.03, MaxInput: 60_000,
				Input: s.prompt(5000, 0.5, 0), Added: s.prompt(800, 1.2, 0), Output: workload.Lengths{Mean: 120, CV: 1},
			}),
		},
		{
			Name: "summaries", Doc: "single prompts of 24,000 tokens on average, nothing shared", Config: usual,
			Source: chats(workload.ChatOptions{
				Turns: 1, Input: s.prompt(24_000, 0.8, 120_000), Output: workload.Lengths{Mean: 400, CV: 0.5},
			}),
		},
		{
			Name: "bursts", Doc: "the chats, in bursts: gaps between sessions have a coefficient of variation of 4", Config: usual,
			Source: chats(workload.ChatOptions{PauseScale: 0.2, SystemPrompts: s.count(4), Arrivals: workload.Arrivals{CV: 4}}),
		},
		{
			Name: "adapters", Doc: "single requests for 32 LoRA adapters by Zipf's law, on engines with 6 slots", Config: lora,
			Source: chats(workload.ChatOptions{
				Turns: 1, Adapters: adapters, Input: s.prompt(2000, 1, 0), Output: workload.Lengths{Mean: 200, CV: 0.7},
			}),
		},
		{
			Name: "lengths", Doc: "single requests whose lengths differ a hundredfold: 3,000 tokens and answers of 250, coefficients of variation 3 and 2", Config: usual,
			Source: chats(workload.ChatOptions{
				Turns: 1, Input: s.prompt(3000, 3, 100_000), Output: workload.Lengths{Mean: 250, CV: 2, Max: 4000},
			}),
		},
		{
			Name: "batch", Doc: "the chats, and every two minutes on average a batch of long single prompts that makes up a quarter of the requests' tokens", Config: usual,
			Source: func(seed uint64, rate float64) (workload.Source, error) {
				talk, err := workload.Chats(workload.ChatOptions{Seed: seed, RequestsPerSecond: 0.85 * rate, PauseScale: 0.2, SystemPrompts: s.count(4)})
				if err != nil {
					return nil, err
				}
				jobs, err := workload.Chats(workload.ChatOptions{
					Seed: ^seed, RequestsPerSecond: 0.15 * rate, Turns: 1, Arrivals: workload.Arrivals{On: 20 * time.Second, Off: 100 * time.Second},
					Input: s.prompt(24_000, 0.5, 100_000), Output: workload.Lengths{Mean: 300, CV: 0.5},
				})
				if err != nil {
					return nil, err
				}
				return workload.Merge(talk, jobs), nil
			},
		},
		{
			Name: "reasoning", Doc: "short prompts and answers of 2,000 tokens", Config: usual,
			Source: chats(workload.ChatOptions{
				Turns: 1, Input: s.prompt(800, 1, 0), Output: workload.Lengths{Mean: 2000, CV: 0.8, Max: 16_000},
			}),
		},
		{
			Name: "two speeds", Doc: "the chats, on four engines and four of half their speed", Config: sim.Config{Fleet: []sim.Group{s.fleet(s.endpoints/2, 128), slow}},
			Source: chats(workload.ChatOptions{PauseScale: 0.2, SystemPrompts: s.count(4)}),
		},
	}
}
