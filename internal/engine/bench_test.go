package engine

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkAdvance simulates requests of 12,000 prompt and 340 output tokens on average, half of
// the prompt shared with one of 512 earlier conversations, on 64 engines that are woken at their
// turning points, in time order, as a discrete-event simulator does. One operation is one request.
// The benchmark's own share (hashes, the event queue) is in the figures.
func BenchmarkAdvance(b *testing.B) {
	for _, blockTokens := range []int{16, 128, 512} {
		b.Run(fmt.Sprintf("block=%d", blockTokens), func(b *testing.B) {
			benchmarkAdvance(b, 64, blockTokens)
		})
	}
}

func benchmarkAdvance(b *testing.B, engines, blockTokens int) {
	r := rand.New(rand.NewPCG(1, 2))
	const meanPrompt, meanOutput = 12_000, 340
	finished := 0
	free := make([][]uint64, 0, 1024)
	held := map[uint64][]uint64{}
	hooks := Hooks{Finished: func(res Result) {
		finished++
		free = append(free, held[res.ID])
		delete(held, res.ID)
	}}
	fleet := make(wakeQueue, engines)
	for i := range fleet {
		e, err := New(0, Options{BlockTokens: blockTokens, Blocks: 27_000 * 16 / blockTokens}, hooks)
		if err != nil {
			b.Fatal(err)
		}
		fleet[i] = &wake{e: e, place: i, at: 1 << 62}
	}
	byIndex := append(wakeQueue(nil), fleet...)
	var conversations [512][]uint64
	for i := range conversations {
		conversations[i] = chain(uint64(i), 20_000/blockTokens+1)
	}
	request := func(id uint64) (int, Request) {
		prompt := meanPrompt/2 + r.IntN(meanPrompt)
		output := meanOutput/2 + r.IntN(meanOutput)
		c := r.IntN(len(conversations))
		var blocks []uint64
		if n := len(free); n > 0 {
			blocks, free = free[n-1][:0], free[:n-1]
		}
		blocks = append(blocks, conversations[c][:prompt/2/blockTokens]...)
		for len(blocks) < (prompt+output)/blockTokens {
			blocks = append(blocks, r.Uint64())
		}
		held[id] = blocks
		return c % engines, Request{ID: id, PromptTokens: prompt, OutputTokens: output, Blocks: blocks}
	}
	settle := func(w *wake) {
		w.at = 1 << 62
		if at, ok := w.e.NextChange(); ok {
			w.at = at
		}
		heap.Fix(&fleet, w.place)
	}

	now := time.Duration(0)
	id := uint64(0)
	arrive := func() {
		now += time.Duration(r.ExpFloat64() * float64(time.Second) / (1.5 * float64(engines))) // about 0.6 of capacity
		for fleet[0].at <= now {
			w := fleet[0]
			w.e.Advance(w.at)
			settle(w)
		}
		id++
		i, req := request(id)
		w := byIndex[i]
		if err := w.e.Submit(now, req); err != nil {
			b.Fatal(err)
		}
		settle(w)
	}
	for range 64 * 100 { // until memory is full and evicts
		arrive()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		arrive()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	running := 0
	for _, w := range fleet {
		running += w.e.Stats().Running
	}
	b.ReportMetric(float64(running)/float64(engines), "running/engine")
}

type wake struct {
	e     *Engine
	at    time.Duration
	place int
}

type wakeQueue []*wake

func (q wakeQueue) Len() int           { return len(q) }
func (q wakeQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q wakeQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *wakeQueue) Push(any) {}
func (q *wakeQueue) Pop() any { return nil }
