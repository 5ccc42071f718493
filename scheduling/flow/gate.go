package flow

import (
	"errors"
	"math"
	"sync/atomic"

	"github.com/inferloom/inferloom/scheduling"
)

// Limits bound what one endpoint is given. A zero field means no bound.
type Limits struct {
	// MaxRequests is how many requests of this process may be in flight on it.
	MaxRequests int `json:"maxRequests,omitempty"`
	// MaxPrefillTokens is how many prompt tokens may be waiting for or in prefill. A prompt that is longer gets an endpoint that
	// has none.
	MaxPrefillTokens int `json:"maxPrefillTokens,omitempty"`
	// MaxKVShare is how much of its KV cache, 0 to 1, the tokens of requests may take up, where its size is known. A prompt
	// that is longer gets an endpoint that has none.
	MaxKVShare float64 `json:"maxKVShare,omitempty"`
	// MaxWaiting and MaxKVUsage are of what the engine reports: how many requests may queue in it, those included that it was
	// given since it reported, and the used share of its KV cache. Where there is no fresh report they bound nothing.
	MaxWaiting int     `json:"maxWaiting,omitempty"`
	MaxKVUsage float64 `json:"maxKVUsage,omitempty"`
}

// Ceiling holds capacity back from what is less important.
type Ceiling struct {
	// Below is the priority below which it applies.
	Below int `json:"below"`
	// Share of each limit, 0 to 1, that such requests may fill.
	Share float64 `json:"share"`
}

// Gate is the filter that says which endpoints have room for a request: by the ledger, so that what was placed counts at
// once, and by what engines report. It goes into the profile of the scheduler, or of each of its stages, behind the filters
// that must hold and before those that only prefer: what it is offered and finds full is what the request waits for. A pick
// that it lets through commits to the ledger only if nothing was placed there in the meantime, so no limit of the ledger's is
// ever exceeded by concurrent picks. It can be in several profiles, but belongs to one Controller.
//
// Decision.Next moves a request that an endpoint failed without asking the gate: it holds its place already.
type Gate struct {
	// Limits apply to endpoints that do everything, and where the next two say nothing.
	Limits
	// Prefill and Decode are for endpoints of that role alone.
	Prefill *Limits `json:"prefill,omitempty"`
	Decode  *Limits `json:"decode,omitempty"`
	// Ceilings hold room back for more important requests. The lowest share that applies counts.
	Ceilings []Ceiling `json:"ceilings,omitempty"`
	// Adaptive finds out for each endpoint how many requests it can take at once; nil does not.
	Adaptive *Adaptive `json:"adaptive,omitempty"`

	// favoured is the request that the controller tries to place, under its lock, and claims what others come before it for.
	favoured atomic.Pointer[scheduling.Request]
	claims   slotSet
}

// Validate implements scheduling.Validator.
func (g *Gate) Validate() error {
	var p problems
	p.limits("", g.Limits)
	if g.Prefill != nil {
		p.limits("prefill.", *g.Prefill)
	}
	if g.Decode != nil {
		p.limits("decode.", *g.Decode)
	}
	for _, c := range g.Ceilings {
		if !(c.Share >= 0 && c.Share <= 1) {
			p.add("ceilings: share %v below %d: want 0 to 1", c.Share, c.Below)
		}
	}
	if g.Adaptive != nil {
		g.Adaptive.validate(&p)
	}
	return errors.Join(p...)
}

func (p *problems) limits(path string, l Limits) {
	p.notNegative(path+"max requests", int64(l.MaxRequests))
	p.notNegative(path+"max prefill tokens", int64(l.MaxPrefillTokens))
	p.notNegative(path+"max waiting", int64(l.MaxWaiting))
	p.amount(path+"max kv share", l.MaxKVShare)
	p.amount(path+"max kv usage", l.MaxKVUsage)
}

// Filter implements scheduling.Filter.
func (g *Gate) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	var claims slotSet
	if g.favoured.Load() == c.Request {
		claims = g.claims
	}
	v := view{gate: g, cycle: c, share: g.share(c.Request.Priority)}
	v.waiting, v.kvUsage = c.Metric(scheduling.Waiting), c.Metric(scheduling.KVUsage)
	first := 0
	for first < len(slots) && (claims.has(slots[first]) || !v.room(slots[first])) {
		first++
	}
	if first == len(slots) {
		c.Full(slots)
		return slots[:0]
	}
	kept := append(slots[:0], slots[first])
	for _, slot := range slots[first+1:] {
		if !claims.has(slot) && v.room(slot) {
			kept = append(kept, slot)
		}
	}
	return kept
}

func (g *Gate) share(priority int) float64 {
	share := 1.0
	for _, c := range g.Ceilings {
		if priority < c.Below {
			share = min(share, c.Share)
		}
	}
	return share
}

// view is one pick's look at the gate.
type view struct {
	gate             *Gate
	cycle            *scheduling.Cycle
	share            float64
	waiting, kvUsage scheduling.Column
}

// room reports whether an endpoint can take the request now.
func (v *view) room(slot scheduling.Slot) bool {
	g, c := v.gate, v.cycle
	e := c.Endpoint(slot)
	l := g.limits(e)
	requests := c.Requests(slot)
	if l.MaxRequests > 0 && requests >= v.part(l.MaxRequests) {
		return false
	}
	if g.Adaptive != nil {
		if limit := g.Adaptive.limit(slot, c.Snapshot.Generation(slot)); requests >= v.part(limit) {
			return false
		}
	}
	prefill, kv := c.Charge(slot)
	if now := c.PrefillTokens(slot); l.MaxPrefillTokens > 0 && now > 0 && now+prefill > v.part(l.MaxPrefillTokens) {
		return false
	}
	if size := e.BlockTokens * e.CacheBlocks; l.MaxKVShare > 0 && size > 0 {
		if now := c.KVTokens(slot); now > 0 && now+kv > v.part(int(l.MaxKVShare*float64(size))) {
			return false
		}
	}
	if l.MaxWaiting > 0 {
		if n, ok := v.waiting.At(slot); ok && int(n)+c.Unreported(slot) >= v.part(l.MaxWaiting) {
			return false
		}
	}
	if l.MaxKVUsage > 0 {
		if used, ok := v.kvUsage.At(slot); ok && used >= l.MaxKVUsage*v.share {
			return false
		}
	}
	return true
}

// limits are those of an endpoint.
func (g *Gate) limits(e *scheduling.Endpoint) *Limits {
	if e.Role == scheduling.Prefill && g.Prefill != nil {
		return g.Prefill
	}
	if e.Role == scheduling.Decode && g.Decode != nil {
		return g.Decode
	}
	return &g.Limits
}

// full reports whether all of some endpoints have as many requests as they may have, whatever a request needs: without a pick.
func (g *Gate) full(pool *scheduling.Pool, snap *scheduling.Snapshot, slots []scheduling.Slot, priority int) bool {
	v := view{gate: g, share: g.share(priority)}
	for _, slot := range slots {
		e := snap.Endpoint(slot)
		if e == nil {
			return false
		}
		limit := math.MaxInt
		if most := g.limits(e).MaxRequests; most > 0 {
			limit = v.part(most)
		}
		if g.Adaptive != nil {
			limit = min(limit, v.part(g.Adaptive.limit(slot, snap.Generation(slot))))
		}
		if pool.InFlight(slot).Requests < limit {
			return false
		}
	}
	return true
}

// part is the request's share of a limit, at least 1 unless the share is nothing.
func (v *view) part(limit int) int {
	if v.share == 1 {
		return limit
	}
	return int(math.Ceil(v.share * float64(limit)))
}

// try has f pick for a request while it must keep off what others come before it for.
func (g *Gate) try(r *scheduling.Request, claims slotSet, f func()) {
	g.claims = claims
	g.favoured.Store(r)
	defer g.favoured.Store(nil)
	f()
}

// slotSet is a set of slots.
type slotSet []uint64

func (s slotSet) has(slot scheduling.Slot) bool {
	return int(slot/64) < len(s) && s[slot/64]>>(slot%64)&1 != 0
}

func (s *slotSet) add(slots []scheduling.Slot) {
	for _, slot := range slots {
		if need := int(slot/64) + 1; need > len(*s) {
			*s = append(*s, make([]uint64, need-len(*s))...)
		}
		(*s)[slot/64] |= 1 << (slot % 64)
	}
}

func (s slotSet) clear() { clear(s) }
