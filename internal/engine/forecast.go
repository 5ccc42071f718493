package engine

import (
	"math"
	"time"
)

// Cached returns how many prompt tokens a request would find in the prefix cache if it started now.
func (e *Engine) Cached(r *Request) int {
	hits, _ := e.cached(r.Blocks, r.PromptTokens)
	return hits * e.o.BlockTokens
}

// PrefillTime is what prefilling a prompt adds to steps, given how many of its tokens are cached.
func (e *Engine) PrefillTime(promptTokens, cachedTokens int) time.Duration {
	var p plan
	p.chunk(promptTokens-cachedTokens, cachedTokens)
	return e.cost.step(&p) - e.cost.step(&plan{})
}

// cached counts the leading blocks of the first known tokens that are in the cache, and those of them that nobody holds.
func (e *Engine) cached(hashes []uint64, known int) (hits, free int) {
	hashes = hashes[:min(len(hashes), (known-1)/e.o.BlockTokens)]
	e.scratch, free = e.cache.match(e.scratch[:0], hashes)
	return len(e.scratch), free
}

// Forecast returns how long after now a request that is submitted now would have its first token, if nothing is submitted
// behind it. It plays the coming steps through on counts, knowing where all answers end: exact but for blocks that others in
// the queue will bring into the prefix cache or evict from it, and for preemptions. It changes nothing. It takes time in
// proportion to the requests in the engine and the steps until the first token; stretches of steps without prefill count as
// one. Behind more than 32 waiting requests it is an estimate.
func (e *Engine) Forecast(now time.Duration, r *Request) time.Duration {
	at := max(now, e.now)
	if e.step.inFlight {
		at = max(at, e.step.end)
	}
	if e.waiting.len > playedWaiting {
		return at - now + e.drain(r)
	}
	f := forecast{e: e, running: e.shadows[:0], free: e.cache.free}
	for _, s := range e.running {
		// As after the step in flight.
		x := shadow{
			left: s.known() - s.computed - s.scheduled, output: s.OutputTokens - s.produced, decodes: s.produced > 0,
			context: s.computed + s.scheduled, blocks: len(s.blocks),
		}
		if x.left <= 0 && s.scheduled > 0 {
			x.left, x.decodes = 1, true
			x.output--
		}
		if x.output == 0 {
			f.free += x.blocks
			continue
		}
		f.running = append(f.running, x)
	}
	next := e.waiting.front
	for {
		p := plan{budget: e.o.MaxBatchTokens}
		shortest := 0
		for i := range f.running {
			shortest = f.schedule(&p, &f.running[i], shortest)
		}
		for f.own == 0 && p.budget > 0 && len(f.running) < e.o.MaxRunning {
			waiting, known, produced := r, r.PromptTokens, 0
			if next != nil {
				waiting, known, produced = &next.Request, next.known(), next.produced
			}
			hits, hitsFree := e.cached(waiting.Blocks, known)
			need := e.blocksFor(known) - hits
			if need > f.free-hitsFree && len(f.running) > 0 {
				break
			}
			f.free -= need + hitsFree
			computed := max(hits*e.o.BlockTokens, min(waiting.LoadedTokens, known-1))
			f.running = append(f.running, shadow{
				left: known - computed, output: waiting.OutputTokens - produced, decodes: produced > 0,
				context: computed, blocks: need + hitsFree,
			})
			shortest = f.schedule(&p, &f.running[len(f.running)-1], shortest)
			if next == nil {
				f.own = len(f.running)
				break
			}
			next = next.next
		}
		steps := 1
		if p.decodes == len(f.running) && shortest > 1 {
			steps = shortest // until one ends: nobody can join before
		}
		n := time.Duration(steps)
		at += e.cost.step(&p) + (n-1)*e.cost.decode(p.decodes, p.contextTokens+p.decodes*steps/2)
		if f.end(steps) {
			e.shadows = f.running
			return at - now
		}
	}
}

// playedWaiting is how long a queue may be that Forecast plays through one by one.
const playedWaiting = 32

// drain estimates how long a long queue takes until a request behind it has its first token: all prompt tokens, less the
// share that was found in the cache so far, in full steps beside the requests that decode.
func (e *Engine) drain(r *Request) time.Duration {
	tokens := 0
	for s := e.waiting.front; s != nil; s = s.next {
		tokens += s.known()
	}
	uncached := 1.0
	if e.totals.PrefixQueries > 0 {
		uncached -= float64(e.totals.PrefixHits) / float64(e.totals.PrefixQueries)
	}
	p := plan{decodes: len(e.running), prefill: max(1, e.o.MaxBatchTokens-len(e.running))}
	for _, s := range e.running {
		p.contextTokens += s.computed
	}
	steps := (float64(tokens)*uncached + float64(r.PromptTokens-e.Cached(r))) / float64(p.prefill)
	return time.Duration(math.Ceil(steps) * float64(e.cost.step(&p)))
}

// forecast is the state of an engine that is played through.
type forecast struct {
	e       *Engine
	running []shadow
	free    int // blocks
	own     int // place in running of the request in question, plus one; 0 while it waits
}

// shadow is what a running sequence is in a forecast.
type shadow struct {
	left      int  // tokens until it produces the next
	output    int  // tokens to produce
	decodes   bool // it has produced one
	context   int  // tokens whose KV is there
	blocks    int
	scheduled int
}

// schedule gives a sequence its part of a step, and returns the least output that one of the decoding ones has left.
func (f *forecast) schedule(p *plan, x *shadow, shortest int) int {
	x.scheduled = min(x.left, p.budget)
	p.budget -= x.scheduled
	if x.decodes && x.left == 1 && x.scheduled == 1 {
		p.decodes++
		p.contextTokens += x.context + 1
		if shortest == 0 || x.output < shortest {
			return x.output
		}
		return shortest
	}
	p.chunk(x.scheduled, x.context)
	return shortest
}

// end performs as many equal steps, and reports whether the request in question has its first token.
func (f *forecast) end(steps int) bool {
	if f.own > 0 {
		if x := &f.running[f.own-1]; x.scheduled == x.left {
			return true
		}
	}
	kept := f.running[:0]
	for i := range f.running {
		x := f.running[i]
		x.context += x.scheduled * steps
		if x.left -= x.scheduled; x.left == 0 {
			x.left, x.decodes = 1, true
			x.output -= steps
			blocks := f.e.blocksFor(x.context)
			if grown := blocks - x.blocks; grown > 0 && x.output > 0 {
				f.free -= grown
				x.blocks = blocks
			}
		}
		if x.output <= 0 {
			f.free += x.blocks
			continue
		}
		if i+1 == f.own {
			f.own = len(kept) + 1
		}
		kept = append(kept, x)
	}
	f.running = kept
	return false
}
