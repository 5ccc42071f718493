package flow

import (
	"context"
	"math"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// waiter is a request that is not placed yet. It belongs to the controller from arrival until its end, both under the lock.
type waiter struct {
	ctx     context.Context
	request *scheduling.Request
	node    *node
	seat    *seat // nil when it does not wait
	evict   func(error)

	serial uint64 // order of arrival
	order  int64  // Options.Order
	since  time.Time
	due    time.Time // its deadline; zero is none
	cost   int64     // estimated
	bytes  int64
	place  int    // in Controller.deadlines, -1 if not there
	round  uint64 // of dispatching in which it last changed lanes

	prev, next   *waiter // in a line
	older, newer *waiter // in a lane and band

	// What came of it, and who is told: ready gets a value, or answer is called outside of the lock.
	decision scheduling.Decision
	err      error
	ready    chan struct{}
	answer   func(scheduling.Decision, error)
}

// prepare fills in what a request's place depends on.
func (c *Controller) prepare(w *waiter, now time.Time) {
	r := w.request
	w.since = now
	c.serial++
	w.serial = c.serial
	w.bytes = size(r)
	w.cost = c.cost(r.Prompt.Len(), 0, c.estimate(w.node.account, r))
	c.expiry(w, c.unplaced, now)
	w.round = 0
	const never = math.MaxInt64 / 2
	switch c.o.Order {
	case FirstCome:
		w.order = int64(w.serial)
	case EarliestDeadline:
		if w.order = never; !w.due.IsZero() {
			w.order = w.due.UnixNano()
		}
	case ObjectiveDeadline:
		if w.order = never; r.TTFT > 0 {
			w.order = now.Add(r.TTFT).UnixNano()
		}
	case ShortestFirst:
		w.order = w.cost
	}
}

// expiry sets a waiter's deadline in a lane.
func (c *Controller) expiry(w *waiter, l *lane, now time.Time) {
	w.due = time.Time{}
	if ttl := w.node.band.ttl; ttl > 0 {
		w.due = w.since.Add(ttl)
	}
	if l.quiet {
		w.due = now.Add(c.o.NoEndpointTTL)
	}
	if r := w.request; c.o.RefuseLate && r.TTFT > 0 {
		if at := w.since.Add(max(0, r.TTFT-c.engine.likely())); w.due.IsZero() || at.Before(w.due) {
			w.due = at // later it cannot keep its objective, and would only keep others from theirs
		}
	}
	if at, ok := w.ctx.Deadline(); ok && (w.due.IsZero() || at.Before(w.due)) {
		w.due = at
	}
}

// size is the memory that a waiting request's prompt takes up.
func size(r *scheduling.Request) int64 {
	n := int64(len(r.Prompt.Text)) + 4*int64(len(r.Prompt.Tokens))
	for i := range r.Prompt.Chains {
		n += 8 * int64(len(r.Prompt.Chains[i].Hashes))
	}
	return n
}

// enqueue puts a waiter into a lane.
func (c *Controller) enqueue(w *waiter, l *lane, now time.Time) {
	n := w.node
	b, a := n.band, n.account
	c.waiting.Add(1)
	c.bytes += w.bytes
	b.waiting++
	b.bytes += w.bytes
	b.queued += w.cost
	for up := a; up != nil; up = up.parent {
		up.waiting++
	}
	n.queued += w.cost
	n.hoarding()
	if l.quiet {
		c.expiry(w, l, now)
	}
	if !w.due.IsZero() {
		w.place = c.deadlines.push(w.due.UnixNano(), w.serial, w)
	}
	c.sit(w, l, now)
}

// sit gives a waiter its place in a lane.
func (c *Controller) sit(w *waiter, l *lane, now time.Time) {
	s := c.seat(w.node, l)
	w.seat = s
	if l.waiting == 0 {
		l.pace.begin(now)
	}
	l.waiting++
	s.line.add(w)
	root := s
	for up := s; up != nil; up = up.parent {
		up.waiting++
		up.queued += w.cost
		root = up
	}
	if s.line.len() == 1 {
		root.weight += 1 / w.node.perWeight
	}
	if c.o.Aging > 0 {
		root.arrived(w)
	}
	c.show(s)
}

// rise takes a waiter out of its lane.
func (c *Controller) rise(w *waiter) {
	s := w.seat
	w.seat = nil
	s.lane.waiting--
	s.line.remove(w)
	root := s
	for up := s; up != nil; up = up.parent {
		up.waiting--
		up.queued -= w.cost
		root = up
	}
	if s.line.len() == 0 {
		root.weight -= 1 / w.node.perWeight
	}
	if c.o.Aging > 0 {
		root.left(w)
	}
	if s.line.len() == 0 {
		c.hide(s)
		c.unseat(s)
	} else {
		c.rekey(s)
	}
}

// dequeue undoes enqueue.
func (c *Controller) dequeue(w *waiter) {
	n := w.node
	b := n.band
	c.rise(w)
	c.waiting.Add(-1)
	c.bytes -= w.bytes
	b.waiting--
	b.bytes -= w.bytes
	b.queued -= w.cost
	if b.waiting == 0 {
		b.credit = 0 // nobody saves up service by not asking for it
	}
	for up := n.account; up != nil; up = up.parent {
		if up.waiting--; up.waiting == 0 {
			c.forgive(up)
		}
	}
	n.queued -= w.cost
	n.hoarding()
	if w.place >= 0 {
		c.deadlines.remove(w.place)
		w.place = -1
	}
}

// end tells who asked what came of a request. The lock is held; callbacks come when it is not.
func (c *Controller) end(w *waiter, err error) {
	w.err = err
	if w.answer != nil {
		c.outbox = append(c.outbox, w)
	} else {
		w.ready <- struct{}{}
	}
}
