package scheduling_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
	"github.com/inferloom/inferloom/scheduling/shadow"
	"github.com/stretchr/testify/require"
)

// workload is a scheduler over endpoints whose index is full: 1,000,000 blocks, as many as the endpoints have room for, so
// that each pick evicts as much as it adds. Conversations take turns; they share 32 blocks with all others, and their next
// 192 are held by two endpoints. The rest is prompts that never come back.
type workload struct {
	sched         *scheduling.Scheduler
	conversations [][]uint64
	clients       atomic.Int64
	nonce         atomic.Uint64
}

const (
	shared, private, fresh = 32, 192, 32
	residentBlocks         = 1_000_000
	conversations          = 1024
)

func newWorkload(b *testing.B, endpoints int) *workload {
	return newStagedWorkload(b, endpoints, func(p scheduling.Profile) scheduling.Options { return scheduling.Options{Profile: p} })
}

func newStagedWorkload(b *testing.B, endpoints int, options func(scheduling.Profile) scheduling.Options) *workload {
	b.Helper()
	list := make([]scheduling.Endpoint, endpoints)
	states := make([]scheduling.State, endpoints)
	for i := range list {
		list[i] = scheduling.Endpoint{
			Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250+1), Model: "m", Adapters: []string{"a"},
			BlockTokens: 16, CacheBlocks: residentBlocks / endpoints,
		}
		states[i] = scheduling.State{
			Endpoint: list[i].Address,
			Values:   []scheduling.Value{{scheduling.Waiting, float64(i % 3)}, {scheduling.KVUsage, .4 + float64(i%10)/100}},
			Adapters: &scheduling.AdapterState{Active: []string{"b"}, Max: 4},
		}
		if i%3 == 0 {
			states[i].Adapters.Active = []string{"a"}
		}
	}
	now := time.Now()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now.Add(time.Second) }})
	require.NoError(b, err)
	for i := range states {
		states[i].At = now
	}
	require.NoError(b, pool.Report(states...))
	index, err := prefix.New(prefix.Options{})
	require.NoError(b, err)
	w := &workload{}
	o := options(scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Scorers: []scheduling.Weighted{
			{Scorer: scorer.Queue{}, Weight: 2}, {Scorer: scorer.KVUtilization{}, Weight: 2},
			{Scorer: scorer.LoRA{}, Weight: 1}, {Scorer: scorer.Prefix{}, Weight: 3},
		},
		Picker: picker.MaxScore{},
	})
	o.Seed = 1
	w.sched, err = scheduling.New(pool, o)
	require.NoError(b, err)

	// One pick brings the index up to date with the pool.
	d, err := w.sched.Pick(context.Background(), &scheduling.Request{Model: "m"})
	require.NoError(b, err)
	d.Done()
	snap := pool.Snapshot()
	for slot := range uint32(endpoints) {
		for n := range residentBlocks/endpoints/private + 1 {
			c := make([]uint64, private)
			extend(c, 0, private, uint64(slot)<<32|uint64(n)|1<<62)
			index.Speculate(kvcache.Pod{ID: slot, Generation: snap.Generation(slot)}, c)
		}
		c := make([]uint64, shared)
		extend(c, 0, shared, 1)
		index.Speculate(kvcache.Pod{ID: slot, Generation: snap.Generation(slot)}, c)
	}
	for i := range conversations {
		c := make([]uint64, shared+private)
		extend(c, 0, shared, 1)
		extend(c, shared, shared+private, uint64(i)+2)
		w.conversations = append(w.conversations, c)
		for k := range 2 {
			slot := uint32((2*i + k*(endpoints/2+1)) % endpoints)
			index.Speculate(kvcache.Pod{ID: slot, Generation: snap.Generation(slot)}, c)
		}
	}
	require.InDelta(b, residentBlocks, index.Stats().Guesses, residentBlocks/50)
	return w
}

// extend fills chain[from:to] with hashes that follow from what is before and a seed.
func extend(chain []uint64, from, to int, seed uint64) {
	h := seed * 0x9e3779b97f4a7c15
	if from > 0 {
		h ^= chain[from-1]
	}
	for i := from; i < to; i++ {
		h = h*0xff51afd7ed558ccd + 0x2545f4914f6cdd1d
		h ^= h >> 32
		chain[i] = h
	}
}

// client makes one new prompt after another: the next conversation with a tail that was never seen.
type client struct {
	*workload
	turn    int
	prompts [][]uint64
	req     scheduling.Request
}

func (w *workload) client() *client {
	c := &client{workload: w, turn: int(w.clients.Add(1)) * conversations / 2}
	for _, chain := range w.conversations {
		c.prompts = append(c.prompts, append(slices.Clone(chain), make([]uint64, fresh)...))
	}
	c.req = scheduling.Request{Model: "m", Adapter: "a"}
	c.req.Prompt.Chains = []scheduling.Chain{{BlockTokens: 16}}
	return c
}

func (c *client) pick(b *testing.B) {
	c.turn++
	prompt := c.prompts[c.turn%len(c.prompts)]
	extend(prompt, shared+private, len(prompt), c.nonce.Add(1)<<8)
	c.req.Prompt.Chains[0].Hashes = prompt
	d, err := c.sched.Pick(context.Background(), &c.req)
	if err != nil {
		b.Error(err)
		return
	}
	d.Done()
}

func BenchmarkPick(b *testing.B) {
	for _, endpoints := range []int{5, 25, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			c := newWorkload(b, endpoints).client()
			b.ReportAllocs()
			for b.Loop() {
				c.pick(b)
			}
		})
	}
}

// BenchmarkPickDefault is BenchmarkPick with the default policy.
func BenchmarkPickDefault(b *testing.B) {
	for _, endpoints := range []int{5, 25, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			c := newStagedWorkload(b, endpoints, func(p scheduling.Profile) scheduling.Options {
				own := policy.Default(p.Producers[0].(*prefix.Producer).Index)
				return scheduling.Options{Profile: own}
			}).client()
			b.ReportAllocs()
			for b.Loop() {
				c.pick(b)
			}
		})
	}
}

func BenchmarkPickParallel(b *testing.B) {
	b.Run("endpoints=100", func(b *testing.B) {
		w := newWorkload(b, 100)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			c := w.client()
			for pb.Next() {
				c.pick(b)
			}
		})
	})
}

// The stages of a request that is decoded, and perhaps prefilled and encoded, on endpoints of its own; each stage has the
// profile of BenchmarkPick.
func BenchmarkPickStages(b *testing.B) {
	for _, stages := range []int{1, 2, 3} {
		for _, endpoints := range []int{25, 100} {
			b.Run(fmt.Sprintf("stages=%d/endpoints=%d", stages, endpoints), func(b *testing.B) {
				c := newStagedWorkload(b, endpoints, func(p scheduling.Profile) scheduling.Options {
					return scheduling.Options{Stages: []scheduling.Stage{
						{Name: "decode", Profile: p},
						{Name: "prefill", Profile: p, After: []string{"decode"}, Takes: scheduling.Prefill, When: condition.Uncached{Tokens: 1}},
						{Name: "encode", Profile: p, After: []string{"prefill"}, Takes: scheduling.Encode},
					}[:stages]}
				}).client()
				b.ReportAllocs()
				for b.Loop() {
					c.pick(b)
				}
			})
		}
	}
}

// BenchmarkExplain is BenchmarkPick with an explanation.
func BenchmarkExplain(b *testing.B) {
	for _, endpoints := range []int{25, 100, 1000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			c := newWorkload(b, endpoints).client()
			c.req.Explain = true
			b.ReportAllocs()
			for b.Loop() {
				c.pick(b)
			}
		})
	}
}

// BenchmarkShadow is BenchmarkPick with a shadow of our default, of one pick in every; every=0 is without.
func BenchmarkShadow(b *testing.B) {
	for _, every := range []int{0, 1, 10} {
		for _, endpoints := range []int{25, 100, 1000} {
			b.Run(fmt.Sprintf("every=%d/endpoints=%d", every, endpoints), func(b *testing.B) {
				w := newWorkload(b, endpoints)
				if every > 0 {
					candidate, err := scheduling.New(w.sched.Pool(), scheduling.Options{Profile: policy.Default(newIndex(b))})
					require.NoError(b, err)
					s, err := shadow.New(shadow.Options{Scheduler: candidate})
					require.NoError(b, err)
					w.sched.Observe(every, s)
				}
				c := w.client()
				b.ReportAllocs()
				for b.Loop() {
					c.pick(b)
				}
			})
		}
	}
}
