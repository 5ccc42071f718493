package kvcache

import (
	"bytes"
	"container/list"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/kvcache/events"
)

const (
	benchBlock    = 16 // tokens
	benchResident = 500_000
)

var benchSpace = Space{Model: "m", BlockTokens: benchBlock}

// benchPrompt makes the tokens of a prompt that shares its blocks with no other.
func benchPrompt(id, blocks int) []uint32 {
	rng := rand.New(rand.NewPCG(uint64(id), 9))
	tokens := make([]uint32, blocks*benchBlock)
	for i := range tokens {
		tokens[i] = rng.Uint32N(128_000)
	}
	return tokens
}

// benchEvents cuts a prompt into the events of an engine.
func benchEvents(tokens []uint32, perEvent int) (list []events.Event) {
	blocks := len(tokens) / benchBlock
	names := make([]uint64, blocks)
	rng := rand.New(rand.NewPCG(uint64(tokens[0]), uint64(tokens[1])))
	for i := range names {
		names[i] = rng.Uint64()
	}
	for from := 0; from < blocks; from += perEvent {
		to := min(blocks, from+perEvent)
		e := events.Event{Kind: events.Stored, Tier: events.GPU, Group: -1, BlockTokens: benchBlock,
			Hashes: names[from:to], Tokens: tokens[from*benchBlock : to*benchBlock]}
		if from > 0 {
			e.Parent, e.HasParent = names[from-1], true
		}
		list = append(list, e)
	}
	return list
}

func benchIndex(b *testing.B, pods int) *Index {
	b.Helper()
	x, err := New(Options{MaxBytes: 128 << 20})
	require.NoError(b, err)
	for id := range uint32(pods) {
		require.NoError(b, x.Open(Pod{ID: id, Generation: 1}, PodOptions{Model: "m", Name: fmt.Sprint(id), Capacity: 1 << 20}))
	}
	return x
}

// resident is an index of 500,000 blocks: a chain that all pods hold, and chains that one pod each holds.
func resident(b *testing.B, pods, blocks int) (x *Index, shared []uint64, private [][]uint64) {
	x = benchIndex(b, pods)
	tokens := benchPrompt(0, blocks)
	shared = benchSpace.Append(nil, tokens, nil)
	for id := range uint32(pods) {
		for _, e := range benchEvents(tokens, 32) {
			x.Apply(Pod{ID: id, Generation: 1}, &e)
		}
	}
	for n := range benchResident / blocks {
		tokens := benchPrompt(n+1, blocks)
		private = append(private, benchSpace.Append(nil, tokens, nil))
		for _, e := range benchEvents(tokens, 32) {
			x.Apply(Pod{ID: uint32(n % pods), Generation: 1}, &e)
		}
	}
	require.InDelta(b, benchResident, x.Stats().Distinct, 2*float64(blocks))
	return x, shared, private
}

func BenchmarkMatch(b *testing.B) {
	for _, blocks := range []int{64, 512, 4096} {
		x, shared, private := resident(b, 64, blocks)
		among := all(64)
		var m Matches
		b.Run(fmt.Sprintf("blocks=%d/pods=64/shared", blocks), func(b *testing.B) {
			b.ReportAllocs()
			t := newMeter(b)
			for b.Loop() {
				x.Match(shared, benchBlock, among, &m)
			}
			t.perOperation()
			require.EqualValues(b, blocks, m.Blocks[63])
		})
		b.Run(fmt.Sprintf("blocks=%d/pods=64/private", blocks), func(b *testing.B) {
			order := rand.New(rand.NewPCG(1, 1)).Perm(len(private))
			b.ReportAllocs()
			t, n := newMeter(b), 0
			for b.Loop() {
				x.Match(private[order[n%len(order)]], benchBlock, among, &m)
				n++
			}
			t.perOperation()
			require.EqualValues(b, blocks, m.Blocks[order[(n-1)%len(order)]%64])
		})
	}
}

func BenchmarkMatchMiss(b *testing.B) {
	x, _, _ := resident(b, 64, 512)
	var chains [][]uint64
	for n := range 1024 {
		chains = append(chains, benchSpace.Append(nil, benchPrompt(1e6+n, 512), nil))
	}
	among := all(64)
	var m Matches
	b.ReportAllocs()
	t, n := newMeter(b), 0
	for b.Loop() {
		x.Match(chains[n%len(chains)], benchBlock, among, &m)
		n++
	}
	t.perOperation()
}

// meter is a benchmark's timer with the processor time beside it, which other processes on the machine change less.
type meter struct {
	*testing.B
	cpu, began time.Duration
}

func newMeter(b *testing.B) *meter {
	m := &meter{B: b}
	m.began, _ = cputime.Used()
	return m
}

func (m *meter) pause() {
	now, _ := cputime.Used()
	m.cpu += now - m.began
	m.StopTimer()
}

// perOperation reports the processor time of an operation.
func (m *meter) perOperation() {
	m.pause()
	m.ReportMetric(float64(m.cpu.Nanoseconds())/float64(m.N), "cpu-ns/op")
}

func (m *meter) resume() {
	m.StartTimer()
	m.began, _ = cputime.Used()
}

// perBlock reports the time of each of n blocks an operation.
func (m *meter) perBlock(n int) {
	m.pause()
	m.ReportMetric(float64(m.Elapsed().Nanoseconds())/float64(m.N*n), "ns/block")
	m.ReportMetric(float64(m.cpu.Nanoseconds())/float64(m.N*n), "cpu-ns/block")
}

// BenchmarkStore stores chains of 512 blocks, 32 at a time, into an index of 500,000 others.
func BenchmarkStore(b *testing.B) {
	b.Run("event=32", func(b *testing.B) {
		const chains = 256
		x, _, _ := resident(b, 64, 512)
		for id := range uint32(16) {
			require.NoError(b, x.Open(Pod{ID: 64 + id, Generation: 1}, PodOptions{Model: "m"}))
		}
		var prepared []events.Event
		for n := range chains {
			prepared = append(prepared, benchEvents(benchPrompt(1e6+n, 512), 32)...)
		}
		cleared := events.Event{Kind: events.Cleared}
		b.ReportAllocs()
		t, n := newMeter(b), 0
		for b.Loop() {
			if n == len(prepared) {
				t.pause()
				for id := range uint32(16) {
					x.Apply(Pod{ID: 64 + id, Generation: 1}, &cleared)
				}
				n = 0
				t.resume()
			}
			x.Apply(Pod{ID: 64 + uint32(n/16%16), Generation: 1}, &prepared[n])
			n++
		}
		t.perBlock(32)
	})
}

// BenchmarkRemove removes chains of 512 blocks as engines do, from their ends, 32 blocks an event, from an index of 500,000 others.
func BenchmarkRemove(b *testing.B) {
	const chains = 256
	x, _, _ := resident(b, 64, 512)
	p := Pod{ID: 64, Generation: 1}
	require.NoError(b, x.Open(p, PodOptions{Model: "m"}))
	var stored, removed []events.Event
	for n := range chains {
		list := benchEvents(benchPrompt(1e6+n, 512), 32)
		stored = append(stored, list...)
		for i := len(list) - 1; i >= 0; i-- {
			e := events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1}
			for k := len(list[i].Hashes) - 1; k >= 0; k-- {
				e.Hashes = append(e.Hashes, list[i].Hashes[k])
			}
			removed = append(removed, e)
		}
	}
	b.ReportAllocs()
	t, n := newMeter(b), len(removed)
	for b.Loop() {
		if n == len(removed) {
			t.pause()
			for i := range stored {
				x.Apply(p, &stored[i])
			}
			n = 0
			t.resume()
		}
		x.Apply(p, &removed[n])
		n++
	}
	t.perBlock(32)
}

// BenchmarkMemory reports the memory in use for each block that a pod holds: 10 pods that hold the same with engine hashes that
// agree, and 10 pods that hold nothing in common.
func BenchmarkMemory(b *testing.B) {
	for _, shared := range []bool{true, false} {
		name := map[bool]string{true: "shared", false: "disjoint"}[shared]
		b.Run(name, func(b *testing.B) {
			var perHeld, forEach float64
			for b.Loop() {
				x := benchIndex(b, 10)
				empty := x.Stats().Bytes
				for n := range benchResident / 512 {
					list := benchEvents(benchPrompt(n, 512), 32)
					for id := range uint32(10) {
						if !shared && id != uint32(n%10) {
							continue
						}
						for i := range list {
							x.Apply(Pod{ID: id, Generation: 1}, &list[i])
						}
					}
				}
				s := x.Stats()
				require.Zero(b, s.Forgotten)
				perHeld = float64(s.Bytes-empty) / float64(s.Blocks)
				forEach = float64(s.Bytes-empty) / float64(s.Distinct)
			}
			b.ReportMetric(perHeld, "B/(block,pod)")
			b.ReportMetric(forEach, "B/block")
		})
	}
}

// BenchmarkRemovePod closes a pod with one chain of 512 blocks among 1,000,000 blocks of others.
func BenchmarkRemovePod(b *testing.B) {
	x := benchIndex(b, 64)
	for n := range 1_000_000 / 512 {
		list := benchEvents(benchPrompt(n, 512), 512)
		x.Apply(Pod{ID: uint32(n % 64), Generation: 1}, &list[0])
	}
	require.Zero(b, x.Stats().Forgotten)
	own := benchEvents(benchPrompt(1e6, 512), 512)
	b.ReportAllocs()
	p, t := Pod{ID: 64}, newMeter(b)
	for b.Loop() {
		t.pause()
		p.Generation++
		require.NoError(b, x.Open(p, PodOptions{Model: "m"}))
		x.Apply(p, &own[0])
		t.resume()
		x.Close(p)
	}
	t.perOperation()
}

func BenchmarkRestore(b *testing.B) {
	const blocks = 1_000_000
	b.Run(fmt.Sprintf("blocks=%d", blocks), func(b *testing.B) {
		x := benchIndex(b, 64)
		for n := range blocks / 500 {
			list := benchEvents(benchPrompt(n, 500), 500)
			x.Apply(Pod{ID: uint32(n % 64), Generation: 1}, &list[0])
		}
		snapshot := x.snapshot()
		b.ReportAllocs()
		t := newMeter(b)
		for b.Loop() {
			t.pause()
			y := benchIndex(b, 64)
			t.resume()
			require.NoError(b, y.Restore(bytes.NewReader(snapshot), func(name string) (p Pod, ok bool) {
				_, err := fmt.Sscan(name, &p.ID)
				p.Generation = 1
				return p, err == nil
			}))
			t.pause()
			require.Equal(b, blocks, y.Stats().Blocks)
			t.resume()
		}
		t.pause()
		b.ReportMetric(t.cpu.Seconds()*1000/float64(b.N), "cpu-ms/op")
		b.ReportMetric(float64(len(snapshot))/blocks, "B/block")
	})
}

// replayStep is a request of a trace: the prompt that is asked for, and what its engine then says.
type replayStep struct {
	chain    []uint64
	pod      Pod
	sequence uint64
	events   []events.Event
}

// replaySteps plays a trace on engines with room for 16,384 blocks each, which evict their least recently used blocks, the end of
// a prompt first, and tell of each in an event of its own, as vLLM does.
func replaySteps(requests iter.Seq[[]uint64], pods, most int) (steps []replayStep, operations int) {
	const capacity = 16_384
	type cached struct {
		recent   list.List
		at       map[uint64]*list.Element
		sequence uint64
	}
	engines := make([]cached, pods)
	for i := range engines {
		engines[i].at = map[uint64]*list.Element{}
	}
	tokensOf := map[uint64][]uint32{}
	for ids := range requests {
		if len(steps) == most {
			break
		}
		var tokens []uint32
		var names []uint64
		for _, id := range ids {
			if tokensOf[id] == nil {
				tokensOf[id] = benchPrompt(int(id), workload.MooncakeBlockTokens/benchBlock)
			}
			tokens = append(tokens, tokensOf[id]...)
			for k := range uint64(workload.MooncakeBlockTokens / benchBlock) {
				names = append(names, (id<<8|k)*0x9e3779b97f4a7c15)
			}
		}
		chain := benchSpace.Append(nil, tokens, nil)
		id := int(ids[min(1, len(ids)-1)]) % pods
		step := replayStep{chain: chain, pod: Pod{ID: uint32(id), Generation: 1}}
		operations += len(chain)
		e := &engines[id]
		hit := 0
		for hit < len(names) && e.at[names[hit]] != nil {
			hit++
		}
		for i := hit - 1; i >= 0; i-- { // what is in use is not evicted
			e.recent.MoveToFront(e.at[names[i]])
		}
		for _, name := range names[hit:] {
			if old := e.at[name]; old != nil {
				e.recent.Remove(old)
				delete(e.at, name)
			}
		}
		for e.recent.Len()+len(names)-hit > capacity && e.recent.Len() > 0 {
			name := e.recent.Remove(e.recent.Back()).(uint64)
			delete(e.at, name)
			step.events = append(step.events, events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: []uint64{name}})
			operations++
		}
		for from := hit; from < len(names); from += 512 {
			to := min(len(names), from+512)
			ev := events.Event{Kind: events.Stored, Tier: events.GPU, Group: -1, BlockTokens: benchBlock,
				Hashes: names[from:to], Tokens: tokens[from*benchBlock : to*benchBlock]}
			if from > 0 {
				ev.Parent, ev.HasParent = names[from-1], true
			}
			step.events = append(step.events, ev)
			operations += to - from
		}
		for i := len(names) - 1; i >= 0; i-- {
			if at := e.at[names[i]]; at != nil {
				e.recent.MoveToFront(at)
			} else {
				e.at[names[i]] = e.recent.PushFront(names[i])
			}
		}
		e.sequence++
		step.sequence = e.sequence
		steps = append(steps, step)
	}
	return steps, operations
}

// likeConversation generates requests with the statistics of the Mooncake conversation trace: all begin with the same block,
// conversations go on with what was there before, and 24 blocks of 512 tokens are the mean length.
func likeConversation(yield func([]uint64) bool) {
	rng := rand.New(rand.NewPCG(7, 7))
	var open [][]uint64
	next := uint64(1)
	for {
		var ids []uint64
		if len(open) > 200 && rng.Float64() < .6 {
			i := rng.IntN(len(open))
			ids, open[i] = open[i], open[len(open)-1]
			open = open[:len(open)-1]
		} else {
			ids = []uint64{0}
		}
		ids = append([]uint64(nil), ids...)
		for range 1 + int(rng.ExpFloat64()*15) {
			if len(ids) < 247 {
				ids = append(ids, next)
				next++
			}
		}
		open = append(open, ids)
		if !yield(ids) {
			return
		}
	}
}

func conversationTrace(b *testing.B) iter.Seq[[]uint64] {
	f, err := os.Open("../../shared/data/traces/mooncake_conversation.jsonl")
	if err != nil {
		b.Skip("the trace is not here")
	}
	b.Cleanup(func() { f.Close() })
	return func(yield func([]uint64) bool) {
		for r, err := range workload.Mooncake(f) {
			require.NoError(b, err)
			var ids []uint64
			for _, p := range r.Messages[0].Pieces {
				if p.Tokens == workload.MooncakeBlockTokens {
					ids = append(ids, p.ID)
				}
			}
			if len(ids) > 0 && !yield(ids) {
				return
			}
		}
	}
}

// BenchmarkTraceReplay asks for each prompt of a trace and then applies what its engine says. A block that is asked for, stored or
// removed is an operation. Hashing the tokens of stored blocks is part of it, hashing prompts is not.
func BenchmarkTraceReplay(b *testing.B) {
	for _, trace := range []string{"generated", "conversation"} {
		b.Run(trace, func(b *testing.B) {
			const pods = 32
			requests := iter.Seq[[]uint64](likeConversation)
			if trace == "conversation" {
				requests = conversationTrace(b)
			}
			steps, operations := replaySteps(requests, pods, 3000)
			among := all(pods)
			var m Matches
			var stats Stats
			var batch events.Batch
			b.ReportAllocs()
			t := newMeter(b)
			for b.Loop() {
				t.pause()
				x := benchIndex(b, pods)
				t.resume()
				for i := range steps {
					s := &steps[i]
					x.Match(s.chain, benchBlock, among, &m)
					batch.Events = s.events
					if x.ApplyBatch(s.pod, s.sequence, &batch) != Applied {
						b.Fatal("not applied")
					}
				}
				stats = x.Stats()
			}
			t.pause()
			require.Zero(b, stats.Waiting+int(stats.Unknown+stats.Skipped+stats.Forgotten))
			b.ReportMetric(float64(operations)*float64(b.N)/t.cpu.Seconds(), "blocks/cpu-s")
			b.ReportMetric(float64(operations)*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}
