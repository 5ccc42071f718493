package engine

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// plainOptions make times easy to reckon: a step is 10 ms and 1 ms more for each prefill token.
func plainOptions() Options {
	return Options{
		BlockTokens: 4, Blocks: 100, MaxRunning: 8, MaxBatchTokens: 64,
		PrefillRate: 1000, AttentionRate: math.Inf(1), StepTime: 10 * ms, StepTimePerSequence: 1, StepTimePerKVToken: 1,
	}
}

// chain returns n hashes that differ from those of any other seed.
func chain(seed uint64, n int) []uint64 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]uint64, n)
	for i := range out {
		out[i] = r.Uint64() | 1
	}
	return out
}

// record collects all reports.
type record struct {
	started  []uint64
	results  map[uint64]Result
	tokens   map[uint64]int
	last     map[uint64]time.Duration // of the last token
	cached   map[uint64]bool
	preempts int
	stored   []StoredBlocks
}

func newRecord() *record {
	return &record{
		results: map[uint64]Result{}, tokens: map[uint64]int{}, last: map[uint64]time.Duration{},
		cached: map[uint64]bool{},
	}
}

func (r *record) hooks(t require.TestingT) Hooks {
	return Hooks{
		Started: func(_ time.Duration, id uint64, _ int) { r.started = append(r.started, id) },
		Tokens: func(at time.Duration, id uint64, n, produced int) {
			r.tokens[id] += n
			require.Equal(t, r.tokens[id], produced)
			require.Greater(t, at, r.last[id])
			r.last[id] = at
		},
		Preempted: func(time.Duration, uint64) { r.preempts++ },
		Finished: func(res Result) {
			require.NotContains(t, r.results, res.ID, "a request ends once")
			r.results[res.ID] = res
		},
		Stored: func(s StoredBlocks) {
			for _, h := range s.Hashes {
				require.False(t, r.cached[h], "stored twice")
				r.cached[h] = true
			}
			s.Hashes = slices.Clone(s.Hashes)
			r.stored = append(r.stored, s)
		},
		Removed: func(_ time.Duration, hashes []uint64) {
			for _, h := range hashes {
				require.True(t, r.cached[h], "removed without being stored")
				delete(r.cached, h)
			}
		},
		Cleared: func(time.Duration) { clear(r.cached) },
	}
}

func start(t require.TestingT, o Options) (*Engine, *record) {
	r := newRecord()
	e, err := New(0, o, r.hooks(t))
	require.NoError(t, err)
	return e, r
}

func drain(e *Engine) {
	for at, ok := e.NextChange(); ok; at, ok = e.NextChange() {
		e.Advance(at)
	}
}

func TestTimeline(t *testing.T) {
	e, r := start(t, plainOptions())
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 10, OutputTokens: 3}))
	e.Advance(0)
	at, ok := e.NextStep()
	require.True(t, ok)
	require.Equal(t, 20*ms, at, "10 ms for the step and 1 ms for each of 10 tokens")
	e.Advance(at - 1)
	require.Zero(t, r.tokens[1])
	drain(e)
	got := r.results[1]
	require.Equal(t, 20*ms, got.FirstToken)
	// Two decodes: 10 ms, 1 ns for the sequence and 1 ns for each token of context (11, then 12).
	require.Equal(t, 40*ms+2+11+12, got.Finished)
	require.Equal(t, 3, got.OutputTokens)
	_, ok = e.NextStep()
	require.False(t, ok)
}

func TestPrefillIsChunkedAndSharesTheStep(t *testing.T) {
	o := plainOptions()
	o.MaxBatchTokens = 32
	e, r := start(t, o)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 1, OutputTokens: 100}))
	e.Advance(11 * ms)
	require.Equal(t, 1, r.tokens[1])
	require.NoError(t, e.Submit(12*ms, Request{ID: 2, PromptTokens: 62, OutputTokens: 1}))
	// The step in flight ends at about 21 ms; then come two steps of 31 prefill tokens each, in
	// which request 1 decodes too.
	e.Advance(22 * ms)
	require.Equal(t, 2, r.tokens[1])
	at, _ := e.NextStep()
	require.InDelta(t, 62*ms, at, float64(ms/10))
	e.Advance(at)
	require.Equal(t, 3, r.tokens[1])
	require.Zero(t, r.tokens[2])
	e.Advance(at + 42*ms)
	require.Equal(t, 4, r.tokens[1])
	require.Equal(t, 1, r.tokens[2])
}

func TestPrefixHit(t *testing.T) {
	tests := []struct {
		name           string
		prompt, shared int // tokens, blocks in common with an earlier request of 40 + 5 tokens
		cached         int
	}{
		{"nothing in common", 40, 0, 0},
		{"a part", 40, 6, 24},
		{"all of a prompt leaves the last token", 40, 10, 36},
		{"one token past the blocks", 41, 10, 40},
		{"blocks of the answer too", 60, 11, 44},
		{"the last token of an answer has no KV", 60, 12, 44},
		{"prompt shorter than a block", 3, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, r := start(t, plainOptions())
			first := chain(1, 12)
			require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 40, OutputTokens: 5, Blocks: first}))
			drain(e)
			blocks := slices.Concat(first[:tt.shared], chain(2, 20))
			require.NoError(t, e.Submit(e.Now(), Request{ID: 2, PromptTokens: tt.prompt, OutputTokens: 1, Blocks: blocks}))
			drain(e)
			require.Equal(t, tt.cached, r.results[2].CachedTokens)
			got := r.results[2]
			require.Equal(t, 10*ms+time.Duration(tt.prompt-tt.cached)*ms, got.FirstToken-got.Started)
			require.EqualValues(t, tt.cached, e.Stats().Totals.PrefixHits)
			require.EqualValues(t, 40+tt.prompt, e.Stats().Totals.PrefixQueries)
		})
	}
}

func TestBlockEventsCarryTheChain(t *testing.T) {
	e, r := start(t, plainOptions())
	blocks := chain(1, 3)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 9, OutputTokens: 4, Blocks: blocks}))
	drain(e)
	require.Len(t, r.stored, 2)
	require.Equal(t, 0, r.stored[0].First)
	require.Equal(t, blocks[:2], r.stored[0].Hashes)
	require.Equal(t, StoredBlocks{At: r.stored[1].At, Request: 1, First: 2, Hashes: blocks[2:], Parent: blocks[1]}, r.stored[1])

	require.True(t, e.ResetPrefixCache(e.Now()))
	require.Empty(t, r.cached)
	require.Zero(t, e.Stats().BlocksCached)
}

func TestPreemption(t *testing.T) {
	o := plainOptions()
	o.Blocks = 10 // 40 tokens; two requests of 12 + 20 want 62
	e, r := start(t, o)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 12, OutputTokens: 20, Blocks: chain(1, 7)}))
	require.NoError(t, e.Submit(0, Request{ID: 2, PromptTokens: 12, OutputTokens: 20, Blocks: chain(2, 7)}))
	drain(e)
	require.Equal(t, 1, r.preempts)
	require.Zero(t, r.results[1].Preemptions, "the younger one yields")
	require.Equal(t, 1, r.results[2].Preemptions)
	require.Equal(t, 20, r.tokens[2])
	require.Less(t, r.results[1].Finished, r.results[2].Finished)
}

func TestAdapters(t *testing.T) {
	o := plainOptions()
	o.MaxAdapters, o.AdapterLoad = 2, 100*ms
	e, r := start(t, o)
	for id, adapter := range []string{"a", "b", "c", "", "a"} {
		require.NoError(t, e.Submit(0, Request{ID: uint64(id), PromptTokens: 1, OutputTokens: 10 + id, Adapter: adapter}))
	}
	e.Advance(0)
	require.Equal(t, []uint64{0, 1, 3, 4}, r.started, "c finds no slot and is passed over")
	s := e.Stats()
	require.Equal(t, []string{"a", "b"}, s.RunningAdapters)
	require.Equal(t, []string{"c"}, s.WaitingAdapters)
	at, _ := e.NextStep()
	require.Equal(t, 214*ms, at, "two loads delay the first step of all four")
	drain(e)
	require.Equal(t, []string{"a", "c"}, e.Stats().ResidentAdapters, "b was idle first")
	require.Len(t, r.results, 5)

	e, _ = start(t, plainOptions())
	require.ErrorIs(t, e.Submit(0, Request{ID: 1, PromptTokens: 1, OutputTokens: 1, Adapter: "a"}), ErrNoAdapters)
}

func TestCancelAndRestart(t *testing.T) {
	o := plainOptions()
	o.MaxRunning, o.StartUp = 2, 500*ms
	e, r := start(t, o)
	for id := range uint64(4) {
		require.NoError(t, e.Submit(0, Request{ID: id, PromptTokens: 8, OutputTokens: 50, Blocks: chain(id, 14)}))
	}
	require.False(t, e.Ready())
	e.Advance(499 * ms)
	require.Empty(t, r.started)
	e.Advance(500 * ms)
	require.True(t, e.Ready())
	require.Equal(t, []uint64{0, 1}, r.started)
	require.True(t, e.Cancel(600*ms, 0))
	require.False(t, e.Cancel(600*ms, 0))
	require.True(t, e.Cancel(600*ms, 3))
	require.Equal(t, Cancelled, r.results[0].Reason)
	require.Equal(t, never, r.results[3].Started)
	e.Advance(650 * ms)
	require.Equal(t, []uint64{0, 1, 2}, r.started)
	require.False(t, e.ResetPrefixCache(650*ms), "blocks are in use")
	e.Restart(700 * ms)
	require.Equal(t, Lost, r.results[1].Reason)
	require.Empty(t, r.cached)
	require.Zero(t, e.Stats().BlocksUsed)
	at, _ := e.NextStep()
	require.Equal(t, 1200*ms, at)
	drain(e)
	require.Equal(t, Totals{PrefixQueries: 24, PromptTokens: 24, GenerationTokens: e.Stats().Totals.GenerationTokens,
		Steps: e.Stats().Totals.Steps, Cancelled: 2, Lost: 2}, e.Stats().Totals)
}

func TestSlowdown(t *testing.T) {
	e, r := start(t, plainOptions())
	require.ErrorIs(t, e.SetSlowdown(0, 0), ErrInvalid)
	require.NoError(t, e.SetSlowdown(0, 3))
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 10, OutputTokens: 1}))
	drain(e)
	require.Equal(t, 60*ms, r.results[1].Finished)
}

func TestSubmitRefuses(t *testing.T) {
	o := plainOptions()
	o.MaxWaiting, o.MaxContextTokens = 2, 500
	e, _ := start(t, o)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 1, OutputTokens: 1}))
	tests := []struct {
		name string
		r    Request
		want error
		text string
	}{
		{"no prompt", Request{ID: 2, OutputTokens: 1}, ErrInvalid, "PromptTokens is 0"},
		{"no output", Request{ID: 2, PromptTokens: 1}, ErrInvalid, "OutputTokens is 0"},
		{"beyond the context", Request{ID: 2, PromptTokens: 500, OutputTokens: 1}, ErrTooLong, "the context holds 500"},
		{"beyond memory", Request{ID: 2, PromptTokens: 400, OutputTokens: 2}, ErrTooLong, "KV memory holds 400"},
		{"same ID", Request{ID: 1, PromptTokens: 1, OutputTokens: 1}, ErrInvalid, "in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := e.Submit(0, tt.r)
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, tt.text)
		})
	}
	require.NoError(t, e.Submit(0, Request{ID: 2, PromptTokens: 400, OutputTokens: 1}))
	require.ErrorIs(t, e.Submit(0, Request{ID: 3, PromptTokens: 1, OutputTokens: 1}), ErrQueueFull)
}

func TestOptionsReportEveryProblem(t *testing.T) {
	_, err := New(0, Options{
		Blocks: -1, MaxBatchTokens: 10, PrefillRate: -3, AttentionRate: math.NaN(), ExpertTime: -1, ExpertShare: 2, StartUp: -1,
	}, Hooks{})
	for _, want := range []string{
		"Blocks is -1", "MaxBatchTokens is 10", "PrefillRate is -3", "AttentionRate is NaN", "ExpertTime is -1ns", "ExpertShare is 2",
		"StartUp is -1ns",
	} {
		require.ErrorContains(t, err, want)
	}
}

// workload is a random mix of everything an engine is asked to do.
type workload struct {
	options Options
	events  []event
}

type event struct {
	at     time.Duration
	submit *Request
	cancel uint64
}

func drawWorkload(t *rapid.T) workload {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	w := workload{options: Options{
		BlockTokens: 1 + r.IntN(8), Blocks: 20 + r.IntN(60), MaxRunning: 1 + r.IntN(6),
		PrefillRate: 1000, StepTime: 10 * ms, StepTimePerSequence: ms, StepTimePerKVToken: 10_000,
		AttentionRate: 50_000, ExpertTime: time.Duration(r.IntN(2)) * 20 * ms, ExpertShare: 0.2,
		MaxAdapters: 1 + r.IntN(2), AdapterLoad: 30 * ms, StartUp: time.Duration(r.IntN(2)) * 40 * ms,
	}}
	w.options.MaxBatchTokens = w.options.MaxRunning + r.IntN(40)
	capacity := w.options.Blocks * w.options.BlockTokens
	var prefixes [4][]uint64
	for i := range prefixes {
		prefixes[i] = chain(uint64(1000+i), capacity)
	}
	at := time.Duration(0)
	for id := range uint64(1 + r.IntN(40)) {
		at += time.Duration(r.IntN(int(60 * ms)))
		total := 2 + r.IntN(min(capacity-2, 60))
		prompt := 1 + r.IntN(total-1)
		n := total / w.options.BlockTokens
		p := r.IntN(len(prefixes))
		shared := min(r.IntN(prompt+1)/w.options.BlockTokens, n)
		req := Request{
			ID: id, PromptTokens: prompt, OutputTokens: total - prompt,
			Blocks: slices.Concat(prefixes[p][:shared], chain(id, n-shared)),
		}
		if r.IntN(3) == 0 {
			req.Adapter = []string{"a", "b", "c"}[r.IntN(3)]
		}
		w.events = append(w.events, event{at: at, submit: &req})
		if r.IntN(8) == 0 {
			w.events = append(w.events, event{at: at + time.Duration(r.IntN(int(400*ms))), cancel: id})
		}
	}
	slices.SortStableFunc(w.events, func(a, b event) int { return int(a.at - b.at) })
	return w
}

// run drives a workload; next is how the driver chooses its wake-ups.
func (w workload) run(t require.TestingT, next func(*Engine) (time.Duration, bool), check func(*Engine, *record)) (*Engine, *record) {
	e, r := start(t, w.options)
	wakeUntil := func(limit time.Duration) {
		for at, ok := next(e); ok && at < limit; at, ok = next(e) {
			e.Advance(at)
			check(e, r)
		}
	}
	for _, ev := range w.events {
		wakeUntil(ev.at)
		if ev.submit != nil {
			require.NoError(t, e.Submit(ev.at, *ev.submit))
		} else {
			e.Cancel(ev.at, ev.cancel)
		}
		check(e, r)
	}
	wakeUntil(1 << 62)
	return e, r
}

func checkInvariants(t require.TestingT) func(*Engine, *record) {
	return func(e *Engine, r *record) {
		require.LessOrEqual(t, len(e.running), e.o.MaxRunning)
		require.LessOrEqual(t, len(e.adapters.resident), e.o.MaxAdapters)
		refs := make([]int32, e.o.Blocks)
		for _, s := range e.running {
			require.GreaterOrEqual(t, len(s.blocks)*e.o.BlockTokens, s.computed)
			for _, b := range s.blocks {
				refs[b]++
			}
		}
		free := 0
		for b, want := range refs {
			require.Equal(t, want, e.cache.blocks[b].refs)
			if want == 0 {
				free++
			}
		}
		require.Equal(t, free, e.cache.free)
		walked := 0
		for b := e.cache.oldest; b != none; b = e.cache.blocks[b].newer {
			walked++
		}
		require.Equal(t, free, walked)
		require.Equal(t, e.cache.contents(), r.cached, "events replayed give the content")
		require.Equal(t, len(r.cached), e.cache.cached)
		require.Len(t, e.byID, e.waiting.len+len(e.running))
	}
}

func TestInvariantsUnderRandomLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorkload(t)
		e, r := w.run(t, (*Engine).NextStep, checkInvariants(t))
		for _, ev := range w.events {
			if ev.submit == nil {
				continue
			}
			res, ok := r.results[ev.submit.ID]
			require.True(t, ok, "request %d is lost", ev.submit.ID)
			require.Equal(t, r.tokens[res.ID], res.OutputTokens)
			if res.Reason == Completed {
				require.Equal(t, ev.submit.OutputTokens, res.OutputTokens)
				require.LessOrEqual(t, res.Arrived, res.Started)
				require.Less(t, res.Started, res.FirstToken)
				require.LessOrEqual(t, res.FirstToken, res.Finished)
			}
		}
		s := e.Stats()
		require.Zero(t, s.Running+s.Waiting+s.BlocksUsed)
		require.Empty(t, s.RunningAdapters)
		require.Empty(t, s.WaitingAdapters)

		again, second := w.run(t, (*Engine).NextStep, func(*Engine, *record) {})
		require.Equal(t, r, second, "the same calls give the same reports")
		require.Equal(t, s, again.Stats())
	})
}

func TestRequestsStartInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorkload(t)
		for i := range w.events {
			if s := w.events[i].submit; s != nil {
				s.Adapter = ""
			}
		}
		_, r := w.run(t, (*Engine).NextStep, func(*Engine, *record) {})
		require.True(t, slices.IsSorted(r.started), "started %v", r.started)
	})
}

func TestLongAdvancesChangeNothing(t *testing.T) {
	never := func(*Engine) (time.Duration, bool) { return 0, false }
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorkload(t)
		e, fine := w.run(t, (*Engine).NextStep, func(*Engine, *record) {})
		turning, coarse := w.run(t, (*Engine).NextChange, checkInvariants(t))
		require.Equal(t, fine.results, coarse.results)
		require.Equal(t, fine.started, coarse.started)
		require.Equal(t, fine.last, coarse.last)
		require.Equal(t, e.Stats(), turning.Stats())

		_, blind := w.run(t, never, checkInvariants(t))
		for id, res := range blind.results {
			require.Equal(t, fine.results[id], res)
		}
	})
}

func TestAdvanceDoesNotAllocate(t *testing.T) {
	e, err := New(0, Options{Blocks: 2000}, Hooks{})
	require.NoError(t, err)
	blocks := chain(1, 40)
	id := uint64(0)
	now := time.Duration(0)
	round := func() {
		for range 8 {
			id++
			if err := e.Submit(now, Request{ID: id, PromptTokens: 500, OutputTokens: 140, Blocks: blocks}); err != nil {
				panic(err)
			}
		}
		for at, ok := e.NextStep(); ok; at, ok = e.NextStep() {
			e.Advance(at)
			now = at
		}
	}
	round()
	require.Zero(t, testing.AllocsPerRun(10, round))
}
