package engine

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Engine is one simulated inference engine. See the package comment. Not safe for concurrent use.
type Engine struct {
	o     Options
	hooks Hooks
	cost  cost

	now      time.Duration
	waiting  queue
	running  []*sequence // in the order they joined
	byID     map[uint64]*sequence
	retired  []*sequence // for reuse
	cache    *blockCache
	adapters adapters

	step    step
	closed  admission
	scratch []int32  // of Cached
	shadows []shadow // of Forecast
	totals  Totals
}

// admission says whether anybody in the queue could join the running set.
type admission uint8

const (
	open          admission = iota
	closedMemory            // the head of the queue does not fit until memory is released
	closedAdapter           // all that wait need a slot that is taken
)

// New returns an idle engine at the given time. It reports every invalid option at once.
func New(now time.Duration, o Options, h Hooks) (*Engine, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("engine options: %w", err)
	}
	e := &Engine{
		o: o, hooks: h, now: now,
		byID:     map[uint64]*sequence{},
		cache:    newBlockCache(o.Blocks),
		adapters: newAdapters(o.MaxAdapters),
	}
	e.cost = newCost(o, 1)
	e.startUp()
	return e, nil
}

// Options returns the options in effect, with defaults filled in.
func (e *Engine) Options() Options { return e.o }

// Now is the latest time that the engine was told.
func (e *Engine) Now() time.Duration { return e.now }

// Ready reports whether start-up is over.
func (e *Engine) Ready() bool { return !(e.step.inFlight && e.step.startUp) }

// Check returns the error that Submit would give for the lengths of a request: ErrInvalid or
// ErrTooLong with the numbers, or nil.
func (e *Engine) Check(promptTokens, outputTokens int) error {
	switch {
	case promptTokens < 1:
		return fmt.Errorf("%w: PromptTokens is %d, want at least 1", ErrInvalid, promptTokens)
	case outputTokens < 1:
		return fmt.Errorf("%w: OutputTokens is %d, want at least 1", ErrInvalid, outputTokens)
	case promptTokens > math.MaxInt32 || outputTokens > math.MaxInt32 || promptTokens+outputTokens > e.o.MaxContextTokens:
		return fmt.Errorf("%w: %d prompt and %d output tokens, the context holds %d",
			ErrTooLong, promptTokens, outputTokens, e.o.MaxContextTokens)
	case e.blocksFor(promptTokens+outputTokens-1) > e.o.Blocks:
		return fmt.Errorf("%w: %d prompt and %d output tokens, KV memory holds %d",
			ErrTooLong, promptTokens, outputTokens, e.o.Blocks*e.o.BlockTokens)
	}
	return nil
}

// Submit queues a request. What is due before now is performed first; the request itself can start
// in a step that begins at now or later, and the first Advance(now) decides that, so requests
// submitted at the same time to an idle engine share a step.
func (e *Engine) Submit(now time.Duration, r Request) error {
	e.catchUp(now)
	if err := e.Check(r.PromptTokens, r.OutputTokens); err != nil {
		return fmt.Errorf("request %d: %w", r.ID, err)
	}
	if r.Adapter != "" && e.o.MaxAdapters == 0 {
		return fmt.Errorf("request %d, adapter %q: %w", r.ID, r.Adapter, ErrNoAdapters)
	}
	if e.byID[r.ID] != nil {
		return fmt.Errorf("request %d: %w: the ID is in use", r.ID, ErrInvalid)
	}
	if e.o.MaxWaiting > 0 && e.waiting.len >= e.o.MaxWaiting {
		return fmt.Errorf("request %d: %w: %d wait", r.ID, ErrQueueFull, e.waiting.len)
	}
	s := e.newSequence()
	s.Request = r
	s.adapter = e.adapters.intern(r.Adapter)
	s.arrived, s.started, s.firstToken = e.now, never, never
	e.byID[r.ID] = s
	e.waiting.pushBack(s)
	e.adapters.wait(s.adapter, 1)
	if e.closed == closedAdapter {
		e.closed = open
	}
	e.wake()
	return nil
}

// Cancel takes a request out at once, as vLLM's abort does; the step in flight keeps its length.
// It reports whether the request was there.
func (e *Engine) Cancel(now time.Duration, id uint64) bool {
	e.catchUp(now)
	s := e.byID[id]
	if s == nil {
		return false
	}
	e.evict(s, Cancelled)
	return true
}

// ResetPrefixCache forgets all cached blocks. Like vLLM's it does so only when no block is in use,
// and reports whether it did.
func (e *Engine) ResetPrefixCache(now time.Duration) bool {
	e.catchUp(now)
	if e.cache.free != e.o.Blocks {
		return false
	}
	e.clearCache()
	return true
}

// Restart is a crash: all requests are lost, memory and adapter slots are empty, and the engine
// starts up again.
func (e *Engine) Restart(now time.Duration) {
	e.catchUp(now)
	for len(e.running) > 0 {
		e.evict(e.running[len(e.running)-1], Lost)
	}
	for e.waiting.len > 0 {
		e.evict(e.waiting.front, Lost)
	}
	e.adapters.unload()
	e.clearCache()
	e.startUp()
}

// SetSlowdown makes every later step take factor times as long; 1 is the engine's own speed. It
// fails unless the factor is finite and above zero.
func (e *Engine) SetSlowdown(now time.Duration, factor float64) error {
	if !(factor > 0) || math.IsInf(factor, 0) {
		return fmt.Errorf("%w: slowdown factor is %v, want a finite number above zero", ErrInvalid, factor)
	}
	e.catchUp(now)
	e.cost = newCost(e.o, factor)
	return nil
}

// Advance performs everything that is due at or before now. A now before the engine's own is
// taken as the latter.
func (e *Engine) Advance(now time.Duration) {
	e.performUntil(now)
	e.now = max(e.now, now)
}

// catchUp performs what is due before now, so that an input at now acts on the state of that time.
func (e *Engine) catchUp(now time.Duration) {
	e.performUntil(now - 1)
	e.now = max(e.now, now)
}

// NextStep is when the step in flight ends, the earliest time at which Advance has something to do.
// It is false while the engine is idle.
func (e *Engine) NextStep() (time.Duration, bool) {
	return e.step.end, e.step.inFlight
}

// NextChange is the earliest time at which something other than further tokens of the running
// requests can happen if nothing is submitted or cancelled. It is false while the engine is idle.
func (e *Engine) NextChange() (time.Duration, bool) {
	if !e.step.inFlight {
		return e.step.end, false
	}
	_, end := e.quietSteps(math.MaxInt64)
	return end, true
}

// evict ends a request before its time.
func (e *Engine) evict(s *sequence, reason Reason) {
	if s.running {
		i := slices.Index(e.running, s)
		e.running = slices.Delete(e.running, i, i+1)
		e.step.shortestLeft = 0
	} else {
		e.waiting.remove(s)
		e.adapters.wait(s.adapter, -1)
		e.closed = open // it may have been the one in the way
	}
	e.finish(s, e.now, reason)
}

// finish reports the end of a sequence that is in neither the queue nor the running set any more.
func (e *Engine) finish(s *sequence, at time.Duration, reason Reason) {
	if s.running {
		e.stop(s)
	}
	switch reason {
	case Completed:
		e.totals.Completed++
	case Cancelled:
		e.totals.Cancelled++
	case Lost:
		e.totals.Lost++
	}
	delete(e.byID, s.ID)
	if e.hooks.Finished != nil {
		e.hooks.Finished(s.result(at, reason))
	}
	blocks := s.blocks
	*s = sequence{blocks: blocks}
	e.retired = append(e.retired, s)
}

// stop gives back what a running sequence holds.
func (e *Engine) stop(s *sequence) {
	e.cache.release(s.blocks)
	s.blocks, s.stored, s.computed, s.scheduled = s.blocks[:0], 0, 0, 0
	s.running = false
	e.adapters.release(s.adapter)
	e.closed = open
}

func (e *Engine) newSequence() *sequence {
	if n := len(e.retired); n > 0 {
		s := e.retired[n-1]
		e.retired = e.retired[:n-1]
		return s
	}
	return &sequence{}
}

func (e *Engine) clearCache() {
	e.cache.clear()
	if e.hooks.Cleared != nil {
		e.hooks.Cleared(e.now)
	}
}

func (e *Engine) blocksFor(tokens int) int {
	return (tokens + e.o.BlockTokens - 1) / e.o.BlockTokens
}
