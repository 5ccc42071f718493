package scheduling

import "sync/atomic"

// ledger counts what is in flight on each slot. What a choice depends on is one word a slot, so that reading it is one
// load and committing to it one compare-and-swap:
//
//	generation (16 bits) | requests (16 bits) | prompt tokens still to prefill (32 bits)
//
// The generation makes a change for an endpoint that has left the slot fail in the same instruction. KV tokens have a
// word of their own; a pick adds them before it commits the first word, so whoever sees the request sees its tokens.
type ledger struct {
	load []atomic.Uint64
	kv   []atomic.Uint64 // generation (16 bits) | KV tokens (48 bits)
}

const (
	prefillBits = 32
	requestBits = 16
	kvBits      = 48

	oneRequest = 1 << prefillBits
	maxPrefill = 1<<prefillBits - 1
	maxRequest = 1<<requestBits - 1
	maxKV      = 1<<kvBits - 1
)

// load is a slot's first word.
type load uint64

func (l load) generation() uint16 { return uint16(l >> (prefillBits + requestBits)) }
func (l load) requests() int      { return int(l >> prefillBits & maxRequest) }
func (l load) prefill() int       { return int(l & maxPrefill) }

// counters orders loads by requests, then by prefill tokens.
func (l load) counters() uint64 { return uint64(l) & (1<<(prefillBits+requestBits) - 1) }

// exceeds reports whether more was placed on the slot than when seen was read.
func (l load) exceeds(seen load) bool {
	return l.generation() != seen.generation() || l.requests() > seen.requests() || l.prefill() > seen.prefill()
}

func newLedger(slots int) ledger {
	return ledger{load: make([]atomic.Uint64, slots), kv: make([]atomic.Uint64, slots)}
}

// open starts a slot's account at nothing for a new generation.
func (g *ledger) open(slot Slot, generation uint32) {
	g.kv[slot].Store(uint64(uint16(generation)) << kvBits)
	g.load[slot].Store(uint64(uint16(generation)) << (prefillBits + requestBits))
}

func (g *ledger) read(slot Slot) load { return load(g.load[slot].Load()) }

func (g *ledger) kvTokens(slot Slot) int { return int(g.kv[slot].Load() & maxKV) }

// charge is what one request weighs on a slot.
type charge struct {
	slot       Slot
	generation uint16
	requests   uint16
	prefill    uint32
	kv         uint64
}

// take commits a request to a slot, unless more has been placed there than seen shows. It fills in what was charged,
// which is less than asked where a counter is at its end.
func (g *ledger) take(slot Slot, seen load, prefill, kv int) (charge, bool) {
	c := charge{slot: slot, generation: seen.generation(), requests: 1}
	c.kv = g.addKV(slot, c.generation, kv)
	for {
		now := g.read(slot)
		if now.exceeds(seen) || now.requests() == maxRequest {
			g.subKV(c, c.kv)
			return charge{}, false
		}
		c.prefill = uint32(min(prefill, maxPrefill-now.prefill()))
		if g.load[slot].CompareAndSwap(uint64(now), uint64(now)+oneRequest+uint64(c.prefill)) {
			return c, true
		}
	}
}

// force commits a request to a slot however much is there, unless the endpoint is gone.
func (g *ledger) force(slot Slot, generation uint32, prefill, kv int) (charge, bool) {
	for {
		seen := g.read(slot)
		if seen.generation() != uint16(generation) || seen.requests() == maxRequest {
			return charge{}, false
		}
		if c, ok := g.take(slot, seen, prefill, kv); ok {
			return c, true
		}
	}
}

// prefilled takes back the prompt tokens of a charge.
func (g *ledger) prefilled(c *charge) {
	g.sub(c, 0, c.prefill)
	c.prefill = 0
}

// release takes back a whole charge.
func (g *ledger) release(c *charge) {
	g.sub(c, c.requests, c.prefill)
	g.subKV(*c, c.kv)
	*c = charge{}
}

func (g *ledger) sub(c *charge, requests uint16, prefill uint32) {
	for {
		now := g.read(c.slot)
		if now.generation() != c.generation {
			return
		}
		next := uint64(now) - uint64(requests)*oneRequest - uint64(prefill)
		if g.load[c.slot].CompareAndSwap(uint64(now), next) {
			return
		}
	}
}

func (g *ledger) addKV(slot Slot, generation uint16, tokens int) uint64 {
	for {
		now := g.kv[slot].Load()
		if uint16(now>>kvBits) != generation {
			return 0
		}
		n := min(uint64(max(tokens, 0)), maxKV-now&maxKV)
		if g.kv[slot].CompareAndSwap(now, now+n) {
			return n
		}
	}
}

func (g *ledger) subKV(c charge, tokens uint64) {
	for {
		now := g.kv[c.slot].Load()
		if uint16(now>>kvBits) != c.generation {
			return
		}
		if g.kv[c.slot].CompareAndSwap(now, now-tokens) {
			return
		}
	}
}
