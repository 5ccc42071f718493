package engine

import (
	"sort"
	"time"
)

// step is the forward pass in flight.
type step struct {
	inFlight bool
	startUp  bool // not a pass: the engine is starting
	end      time.Duration

	decodes       int
	contextTokens int // that the decodes read
	// shortestLeft is how many steps like this one the batch can make, this one included, before a
	// sequence finishes; 0 if the batch is no longer the one that was planned, or has prefill in it.
	shortestLeft int
}

// startUp and wake use an empty step to be called again: start-up is a step that ends when the
// engine is ready, and work that reaches an idle engine waits for a step that ends at once.
func (e *Engine) startUp() {
	e.step = step{}
	if e.o.StartUp > 0 {
		e.step = step{inFlight: true, startUp: true, end: e.now + e.o.StartUp}
	}
}

func (e *Engine) wake() {
	if !e.step.inFlight {
		e.step = step{inFlight: true, end: e.now}
	}
}

// performUntil ends steps and starts the ones after them until one ends beyond the limit.
func (e *Engine) performUntil(limit time.Duration) {
	for e.step.inFlight && e.step.end <= limit {
		n, end := e.quietSteps(limit)
		if n > 1 {
			e.reserveAhead(n, end)
		}
		e.endSteps(n, end)
		e.startStep(end)
	}
}

// quietSteps returns how many steps can be performed as one, the one in flight included, and when
// the last ends: all but the last finish no sequence, need no preemption and admit nobody, so only
// counts change between them. The end is at most limit if n is above 1.
func (e *Engine) quietSteps(limit time.Duration) (n int, end time.Duration) {
	n = e.step.shortestLeft
	admits := e.waiting.len > 0 && len(e.running) < e.o.MaxRunning && e.closed == open
	if n <= 1 || admits {
		return 1, e.step.end
	}
	for n > 1 && !e.fitsAhead(n) {
		n /= 2
	}
	r := len(e.running)
	first := e.cost.decode(r, e.step.contextTokens+r)
	growth := time.Duration(r) * e.cost.perKVToken
	after := func(more int) time.Duration { // the end of that many further steps
		m := time.Duration(more)
		return e.step.end + m*first + growth*(m*(m-1)/2)
	}
	more := n - 1
	if after(more) > limit {
		more = max(0, sort.Search(more, func(m int) bool { return after(m) > limit })-1)
	}
	return more + 1, after(more)
}

// fitsAhead reports whether there is memory for all sequences to make n steps in place of one.
func (e *Engine) fitsAhead(n int) bool {
	if len(e.running)*e.blocksFor(n) <= e.cache.free {
		return true
	}
	need := 0
	for _, s := range e.running {
		need += e.blocksFor(s.computed+n) - len(s.blocks)
	}
	return need <= e.cache.free
}

func (e *Engine) reserveAhead(n int, at time.Duration) {
	for _, s := range e.running {
		e.reserve(s, n, at)
	}
}

// endSteps accounts for n equal steps (n is 1 unless all sequences decode) that end at a time.
func (e *Engine) endSteps(n int, at time.Duration) {
	e.totals.Steps += uint64(n)
	kept := e.running[:0]
	for _, s := range e.running {
		if s.scheduled > 0 {
			s.computed += s.scheduled + n - 1
			s.scheduled = 0
			if s.computed >= s.known() && e.produce(s, n, at) {
				e.finish(s, at, Completed)
				continue
			}
		}
		kept = append(kept, s)
	}
	clear(e.running[len(kept):])
	e.running = kept
}

// produce adds n tokens to a sequence and reports whether it has all it asked for.
func (e *Engine) produce(s *sequence, n int, at time.Duration) (done bool) {
	if s.produced == 0 {
		s.firstToken = at
		e.totals.PromptTokens += uint64(s.PromptTokens)
	}
	s.produced += n
	e.totals.GenerationTokens += uint64(n)
	if e.hooks.Tokens != nil {
		e.hooks.Tokens(at, s.ID, n, s.produced)
	}
	return s.produced == s.OutputTokens
}

// startStep plans the next step: first whatever runs already, oldest first, then newcomers while
// there is budget. Those that run were admitted in order and at most the last of them is still in
// prefill, so decodes get their share of the budget before any prefill does.
func (e *Engine) startStep(at time.Duration) {
	p := plan{budget: e.o.MaxBatchTokens, shortestLeft: int(^uint(0) >> 1)}
	preempted := e.continueRunning(&p, at)
	if !preempted { // memory that was just taken from one is not for another
		e.admitWaiting(&p, at)
	}
	e.step = step{decodes: p.decodes, contextTokens: p.contextTokens}
	if len(e.running) == 0 {
		return
	}
	e.step.inFlight = true
	e.step.end = at + e.cost.step(&p)
	if p.decodes == len(e.running) {
		e.step.shortestLeft = p.shortestLeft
	}
}

// plan is a step in the making.
type plan struct {
	budget        int // tokens
	decodes       int
	contextTokens int
	shortestLeft  int
	prefill       int // tokens
	pairs         int // of a prefill token and a token that it looks back on
	loads         int // adapters brought in
}

func (p *plan) add(s *sequence, tokens int) {
	s.scheduled = tokens
	p.budget -= tokens
	if s.produced > 0 && s.computed+tokens == s.known() && tokens == 1 {
		p.decodes++
		p.contextTokens += s.computed + 1
		p.shortestLeft = min(p.shortestLeft, s.OutputTokens-s.produced)
		return
	}
	p.chunk(tokens, s.computed)
}

// chunk adds prefill tokens of a sequence that has computed some before.
func (p *plan) chunk(tokens, computed int) {
	p.prefill += tokens
	p.pairs += tokens*computed + tokens*(tokens+1)/2
}

func (e *Engine) continueRunning(p *plan, at time.Duration) (preempted bool) {
	for i := 0; i < len(e.running); i++ {
		s := e.running[i]
		tokens := min(s.known()-s.computed, p.budget)
		if tokens == 0 {
			continue
		}
		for !e.reserve(s, tokens, at) {
			preempted = true
			if e.preemptYoungest(at) == s {
				return preempted
			}
		}
		p.add(s, tokens)
	}
	return preempted
}

// preemptYoungest takes all memory from the sequence that joined last; it is computed again later,
// from whatever of it is still in the prefix cache.
func (e *Engine) preemptYoungest(at time.Duration) *sequence {
	last := len(e.running) - 1
	s := e.running[last]
	e.running[last] = nil
	e.running = e.running[:last]
	e.stop(s)
	s.preemptions++
	e.totals.Preemptions++
	e.waiting.pushFront(s)
	e.adapters.wait(s.adapter, 1)
	if e.hooks.Preempted != nil {
		e.hooks.Preempted(at, s.ID)
	}
	return s
}

// admitWaiting moves sequences from the queue to the running set while the step has budget for
// them and memory holds their whole prompt. The first that does not fit keeps its place and stops
// the others; one that lacks an adapter slot is passed over.
func (e *Engine) admitWaiting(p *plan, at time.Duration) {
	if e.closed != open {
		return
	}
	var next *sequence
	for s := e.waiting.front; s != nil; s = next {
		next = s.next
		if p.budget == 0 || len(e.running) == e.o.MaxRunning {
			return
		}
		if !e.adapters.canRun(s.adapter) {
			continue
		}
		// The last known token is computed in any case: its output is the next token.
		hashes := s.Blocks[:min(len(s.Blocks), (s.known()-1)/e.o.BlockTokens)]
		var hitsFree int
		s.blocks, hitsFree = e.cache.match(s.blocks, hashes)
		hits := len(s.blocks)
		if e.blocksFor(s.known())-hits > e.cache.free-hitsFree {
			s.blocks = s.blocks[:0]
			e.closed = closedMemory
			return
		}
		e.waiting.remove(s)
		e.adapters.wait(s.adapter, -1)
		e.running = append(e.running, s)
		s.running = true
		e.cache.share(s.blocks)
		s.stored, s.computed = hits, hits*e.o.BlockTokens
		if s.started == never {
			s.computed = max(s.computed, min(s.LoadedTokens, s.PromptTokens-1))
		}
		if e.adapters.acquire(s.adapter) {
			p.loads++
		}
		if s.started == never {
			s.started, s.cached = at, s.computed
			e.totals.PrefixQueries += uint64(s.PromptTokens)
			e.totals.PrefixHits += uint64(s.cached)
			if e.hooks.Started != nil {
				e.hooks.Started(at, s.ID, s.cached)
			}
		}
		tokens := min(s.known()-s.computed, p.budget)
		e.reserve(s, tokens, at)
		p.add(s, tokens)
	}
	if e.waiting.len > 0 {
		e.closed = closedAdapter
	}
}

// reserve gives a sequence the memory for its next tokens and puts the blocks that they fill into
// the prefix cache, or reports that there is not enough and changes nothing.
func (e *Engine) reserve(s *sequence, tokens int, at time.Duration) bool {
	total := s.computed + tokens
	if need := e.blocksFor(total) - len(s.blocks); need > 0 {
		if need > e.cache.free {
			return false
		}
		s.blocks = e.cache.allocate(s.blocks, need)
		if evicted := e.cache.evicted; len(evicted) > 0 {
			if e.hooks.Removed != nil {
				e.hooks.Removed(at, evicted)
			}
			e.cache.evicted = evicted[:0]
		}
	}
	if full := min(total/e.o.BlockTokens, len(s.Blocks)); full > s.stored {
		e.storeBlocks(s, full, at)
	}
	return true
}

// storeBlocks puts blocks [s.stored, full) into the prefix cache and reports each unbroken run of
// new ones.
func (e *Engine) storeBlocks(s *sequence, full int, at time.Duration) {
	run := s.stored
	flush := func(end int) {
		if run < end && e.hooks.Stored != nil {
			ev := StoredBlocks{At: at, Request: s.ID, First: run, Hashes: s.Blocks[run:end], Adapter: s.Adapter}
			if run > 0 {
				ev.Parent = s.Blocks[run-1]
			}
			e.hooks.Stored(ev)
		}
	}
	for i := s.stored; i < full; i++ {
		if hash := s.Blocks[i]; hash == 0 || !e.cache.store(s.blocks[i], hash) {
			flush(i)
			run = i + 1
		}
	}
	flush(full)
	s.stored = full
}
