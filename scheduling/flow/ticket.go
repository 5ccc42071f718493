package flow

import (
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// ticket is the account of a request that runs: it follows its reservation and settles what its tenant was charged.
type ticket struct {
	c       *Controller
	node    *node
	evict   func(error)
	evicted bool
	place   int // in Controller.sheddable, -1 if not there

	slot             scheduling.Slot
	generation       uint32
	prompt, cached   int
	expected, output int
	charged          int64
	settled          int // output tokens at the last settlement
	started          bool
	at               time.Time
	beside           int          // requests on the endpoint when it came, itself included
	sunk             atomic.Int64 // tokens produced, read without the account's lock
}

// settleEvery is after how many output tokens beyond what was charged the account is settled.
const settleEvery = 64

// ticket makes a ticket for a request that is about to be placed, which counts as in flight from here on.
func (c *Controller) ticket(n *node, r *scheduling.Request, evict func(error), now time.Time) *ticket {
	t := c.tickets.Get().(*ticket)
	t.node, t.at = n, now
	t.prompt = r.Prompt.Len()
	t.expected = c.estimate(n.account, r)
	for a := n.account; a != nil; a = a.parent {
		a.inFlight++
	}
	if evict != nil && r.Priority < 0 && c.o.EvictFor != nil {
		t.evict = evict
		t.place = len(c.sheddable)
		c.sheddable = append(c.sheddable, t)
	}
	return t
}

// begin charges a request that has been placed.
func (t *ticket) begin(d *scheduling.Decision) {
	c := t.c
	t.slot, t.cached = d.Slot(), min(d.CachedTokens, t.prompt)
	if c.gate.Adaptive != nil {
		t.generation = c.Pool().Snapshot().Generation(t.slot)
		t.beside = c.Pool().InFlight(t.slot).Requests
	}
	t.charged = c.cost(t.prompt-t.cached, t.cached, t.expected)
	c.charge(t.node, t.charged, true, t.at)
}

// settle charges the difference between what a request costs and what was charged.
func (t *ticket) settle(cost int64, now time.Time) {
	if cost != t.charged {
		t.c.charge(t.node, cost-t.charged, false, now)
		t.charged = cost
	}
}

func (t *ticket) time() time.Time {
	if t.c.timed {
		return t.c.o.Clock.Now()
	}
	return time.Time{}
}

// FirstToken implements scheduling.Follower.
func (t *ticket) FirstToken(slot scheduling.Slot) {
	if t.started {
		return
	}
	t.started = true
	t.sunk.Add(1)
	c := t.c
	a := c.gate.Adaptive
	if a == nil && !c.o.RefuseLate {
		return
	}
	took := c.o.Clock.Now().Sub(t.at)
	if a != nil && slot == t.slot {
		a.observe(slot, t.generation, t.prompt-t.cached, t.beside, took)
	}
	if c.o.RefuseLate && c.mu.TryLock() {
		c.engine.add(took)
		c.mu.Unlock()
	}
}

// Tokens implements scheduling.Follower. A lock that others hold is not waited for: what it could settle now it can later.
func (t *ticket) Tokens(n int) {
	t.output += n
	t.sunk.Store(int64(t.output) + 1)
	if t.output < t.expected+settleEvery || t.output < t.settled+settleEvery || !t.c.mu.TryLock() {
		return
	}
	t.settled = t.output
	t.settle(t.c.cost(t.prompt-t.cached, t.cached, t.output), t.time())
	t.c.mu.Unlock()
}

// Done implements scheduling.Follower. A request that got no token has cost its tenant nothing.
func (t *ticket) Done() {
	c := t.c
	now := t.time()
	c.mu.Lock()
	cost := int64(0)
	if t.started || t.output > 0 {
		cost = c.cost(t.prompt-t.cached, t.cached, t.output)
		c.learn(t.node.account, t.output)
	}
	t.settle(cost, now)
	c.release(t, now)
	c.mu.Unlock()
}

// release gives a tenant its place back and the ticket to the next request.
func (c *Controller) release(t *ticket, now time.Time) {
	for a := t.node.account; a != nil; a = a.parent {
		a.inFlight--
		if a.parked {
			c.unpark(a, now)
		}
	}
	if t.place >= 0 {
		last := c.sheddable[len(c.sheddable)-1]
		c.sheddable[t.place], last.place = last, t.place
		c.sheddable = c.sheddable[:len(c.sheddable)-1]
		if t.evicted {
			c.evicting--
		}
	}
	t.reset()
	c.tickets.Put(t)
}

func (t *ticket) reset() {
	t.node, t.evict, t.evicted, t.place, t.charged = nil, nil, false, -1, 0
	t.output, t.settled, t.started = 0, 0, false
	t.sunk.Store(0)
}
