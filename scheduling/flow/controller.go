package flow

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"github.com/inferloom/inferloom/scheduling"
)

// Controller decides when requests run, and asks a scheduler where. It is safe for concurrent use.
type Controller struct {
	o     Options
	sched *scheduling.Scheduler
	gate  *Gate
	timed bool // granting needs to know the time, even where nobody waits
	stop  func()

	waiting atomic.Int64 // also read without the lock
	waiters sync.Pool
	tickets sync.Pool

	mu         sync.Mutex
	closed     bool
	accounts   map[string]*account
	others     *account // for tenants that there is no room for
	labels     int
	bands      []*band
	lanes      []*lane // the first are the next two
	unplaced   *lane   // of requests whose tenant is over a limit
	rest       *lane   // of those for which there was no lane left
	running    int     // bands of lanes in which somebody could go
	serial     uint64  // of the last waiter
	ties       uint64  // of the last entry among tenants
	bytes      int64
	outputs    float64
	claims     slotSet
	seats      []*seat // to use again
	trees      *btree.FreeListG[*waiter]
	outbox     []*waiter
	deadlines  heap[*waiter]
	recovering heap[*account]
	timer      func() bool // stops it
	timerAt    time.Time
	engine     spread // from dispatch to the first token
	sheddable  []*ticket
	evicting   int
	owed       []eviction // calls, when the lock is free
	events     []Event
	rounds     uint64

	counts    [outcomes]atomic.Uint64
	evictions atomic.Uint64
}

// New makes a controller over a scheduler that has Options.Gate in its profiles, or reports every problem with the options.
// Close gives it up.
func New(sched *scheduling.Scheduler, o Options) (*Controller, error) {
	err := o.Validate()
	if sched == nil {
		err = errors.Join(errors.New("scheduler: nil"), err)
	}
	if o.Gate != nil {
		err = errors.Join(err, o.Gate.Validate())
	}
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c := &Controller{
		o: o, sched: sched, gate: o.Gate, accounts: map[string]*account{}, outputs: firstGuess,
		unplaced: &lane{any: true, blocked: nothing}, rest: &lane{any: true, blocked: nothing},
		trees: btree.NewFreeListG[*waiter](btree.DefaultFreeListSize),
	}
	_, decays := o.Discipline.(*LeastAttained)
	c.timed = decays || o.Gate.Adaptive != nil || o.Tenant.Rate > 0 || o.RefuseLate
	for _, t := range o.Tenants {
		c.timed = c.timed || t.Rate > 0
	}
	c.lanes = []*lane{c.unplaced, c.rest}
	c.others = &account{name: otherLabel, label: otherLabel, limits: o.Tenant, place: -1}
	for _, b := range o.Bands {
		c.band(b.Priority)
	}
	c.waiters.New = func() any { return &waiter{place: -1, ready: make(chan struct{}, 1)} }
	c.tickets.New = func() any { return &ticket{c: c, place: -1} }
	c.stop = sched.Pool().Notify(c.room)
	return c, nil
}

// Pool returns the pool whose endpoints the controller hands out.
func (c *Controller) Pool() *scheduling.Pool { return c.sched.Pool() }

// Scheduler returns the scheduler that chooses endpoints.
func (c *Controller) Scheduler() *scheduling.Scheduler { return c.sched }

// Acquire waits until the request may run, and chooses and reserves its endpoint in the same step. The decision's reservation
// is the grant: ending it hands what it held to the next request. The error is a *Rejected, which wraps the context's error if
// that ended first.
func (c *Controller) Acquire(ctx context.Context, r *scheduling.Request) (scheduling.Decision, error) {
	return c.AcquireEvictable(ctx, r, nil)
}

// AcquireEvictable is Acquire for a request that may be given up while it runs, if its priority is below 0: evict is called at
// most once, on any goroutine and outside of locks, with an *Evicted. It should end the request, and must not block. nil is
// not evictable.
func (c *Controller) AcquireEvictable(ctx context.Context, r *scheduling.Request, evict func(cause error)) (scheduling.Decision, error) {
	if err := ctx.Err(); err != nil {
		return scheduling.Decision{}, c.refused(r, ClientGone, err)
	}
	d, ok, err := c.straight(ctx, r, evict)
	if ok {
		return d, err
	}
	w := c.waiters.Get().(*waiter)
	w.ctx, w.request, w.evict, w.answer = ctx, r, evict, nil
	c.mu.Lock()
	c.arrive(w)
	c.unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		c.mu.Lock()
		if w.seat != nil {
			c.cancel(w, ctx.Err())
		}
		c.unlock()
		<-w.ready
	}
	d, err = w.decision, w.err
	w.decision, w.err, w.ctx, w.request, w.node = scheduling.Decision{}, nil, nil, nil, nil
	c.waiters.Put(w)
	return d, err
}

// Ask is Acquire for callers that do not wait: answer is called once, by Ask itself or later on the goroutine that frees
// capacity, outside of locks. It must not block. cancel gives the request up; if it was not answered yet, the answer comes
// then. The request must stay as it is until the answer.
func (c *Controller) Ask(ctx context.Context, r *scheduling.Request, answer func(scheduling.Decision, error)) (cancel func()) {
	if d, ok, err := c.straight(ctx, r, nil); ok {
		answer(d, err)
		return func() {}
	}
	w := &waiter{place: -1, ctx: ctx, request: r, answer: answer}
	c.mu.Lock()
	c.arrive(w)
	c.unlock()
	return func() {
		c.mu.Lock()
		if w.seat != nil {
			c.cancel(w, context.Canceled)
		}
		c.unlock()
	}
}

// straight grants a request without further ado if nobody waits. ok is false if it has to line up.
func (c *Controller) straight(ctx context.Context, r *scheduling.Request, evict func(error)) (d scheduling.Decision, ok bool, err error) {
	var now time.Time
	if c.timed {
		now = c.o.Clock.Now()
	}
	c.mu.Lock()
	if c.closed || c.running > 0 {
		c.mu.Unlock()
		return d, false, nil
	}
	n := c.account(r.Tenant).node(c.band(r.Priority))
	if n.over(now) {
		c.mu.Unlock()
		return d, false, nil
	}
	t := c.ticket(n, r, evict, now)
	c.mu.Unlock()

	d, err = c.choose(ctx, r)
	c.mu.Lock()
	if err == nil {
		c.join(n)
		t.begin(&d)
	} else {
		c.release(t, now)
	}
	c.mu.Unlock()
	if err == nil {
		d.Follow(t)
		c.counts[Granted].Add(1)
		if o := c.o.Observer; o != nil {
			o.Observe(Event{Granted, n.account.label, n.band.priority, 0})
		}
	}
	// Whoever was turned away by what this pick tried to take looks again.
	if c.waiting.Load() > 0 {
		c.room(scheduling.AnySlot)
	}
	if err == nil {
		return d, true, nil
	}
	if errors.Is(err, scheduling.ErrFull) || errors.Is(err, scheduling.ErrNoEndpoint) && c.o.NoEndpointTTL > 0 {
		return d, false, nil
	}
	return d, true, c.refusal(r, err)
}

// choose picks. A plugin that panics fails the request that it was asked about, not the one whose end made room, and does not
// leave the lock held.
func (c *Controller) choose(ctx context.Context, r *scheduling.Request) (d scheduling.Decision, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the scheduler panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return c.sched.Pick(ctx, r)
}

// arrive takes in a request that could not be granted straight away: it is granted now, refused now, or waits.
func (c *Controller) arrive(w *waiter) {
	now := c.o.Clock.Now()
	b := c.band(w.request.Priority)
	w.node = c.account(w.request.Tenant).node(b)
	c.prepare(w, now)
	if c.closed {
		c.reject(w, &Rejected{Outcome: ShutDown}, now)
		return
	}
	lane := c.unplaced
	if !w.node.over(now) {
		c.claims.clear()
		for _, l := range c.lanes {
			for _, root := range l.roots {
				if root.members.len() > 0 {
					c.claims.add(l.slots)
					break
				}
			}
		}
		var granted bool
		if lane, granted = c.pick(w, now); granted || lane == nil {
			return
		}
	}
	if refusal := c.admit(w, lane, now); refusal != nil {
		c.reject(w, refusal, now)
		return
	}
	c.enqueue(w, lane, now)
	if lane.blocked != nothing && c.first(w) {
		lane.blocked = nothing // who was tried before may need more room than this one
	}
	if lane.blocked == nothing {
		c.dispatch(now)
	}
	c.plan(now)
}

// first reports whether a waiter is the next of its lane.
func (c *Controller) first(w *waiter) bool {
	s := w.seat
	if s.line.head() != w {
		return false
	}
	for ; s.parent != nil; s = s.parent {
		if s.place < 0 || s.parent.members.least() != s {
			return false
		}
	}
	for _, root := range s.lane.roots {
		if root.members.len() > 0 {
			return root == s
		}
	}
	return false
}

// pick tries to place a request and ends it if it succeeds, or if waiting does not help: lane is nil then. Else lane is what it
// has to wait for.
func (c *Controller) pick(w *waiter, now time.Time) (lane *lane, granted bool) {
	var err error
	c.gate.try(w.request, c.claims, func() { w.decision, err = c.choose(w.ctx, w.request) })
	if err == nil {
		c.grant(w, now)
		return nil, true
	}
	e, _ := errors.AsType[*scheduling.PickError](err)
	switch {
	case e != nil && e.Err == scheduling.ErrFull:
		return c.lane(e.Full, w), false
	case e != nil && e.Err == scheduling.ErrNoEndpoint && c.o.NoEndpointTTL > 0:
		return c.quietLane(w.request), false
	}
	outcome := Failed
	if w.ctx.Err() != nil {
		outcome = ClientGone
	} else if errors.Is(err, scheduling.ErrNoEndpoint) {
		outcome = NoEndpoint
	}
	c.reject(w, &Rejected{Outcome: outcome, Err: err}, now)
	return nil, false
}

// grant hands a waiter its decision.
func (c *Controller) grant(w *waiter, now time.Time) {
	if w.seat == nil {
		c.join(w.node)
	} else {
		w.seat.lane.pace.add(w.cost, now)
		c.dequeue(w)
	}
	t := c.ticket(w.node, w.request, w.evict, now)
	t.begin(&w.decision)
	w.decision.Follow(t)
	c.spent(w.node.band, t.charged)
	c.observe(w.node, Granted, now.Sub(w.since))
	c.end(w, nil)
}

// reject ends a request with an error.
func (c *Controller) reject(w *waiter, refusal *Rejected, now time.Time) {
	if w.seat != nil {
		if refusal.Outcome == Expired {
			refusal.RetryAfter = c.retryAfter(w, w.seat.lane, now, 0)
		}
		c.dequeue(w)
	}
	refusal.Waited = now.Sub(w.since)
	c.observe(w.node, refusal.Outcome, refusal.Waited)
	c.end(w, refusal)
}

// cancel gives up a request that waits.
func (c *Controller) cancel(w *waiter, cause error) {
	now := c.o.Clock.Now()
	l := w.seat.lane
	led := l.blocked != nothing && c.first(w)
	c.reject(w, &Rejected{Outcome: ClientGone, Err: cause}, now)
	if led && c.waiting.Load() > 0 {
		// What it was waiting for may be enough for another.
		c.wake(scheduling.AnySlot)
		c.dispatch(now)
	}
}

// refused counts a request that never got in.
func (c *Controller) refused(r *scheduling.Request, outcome Outcome, err error) error {
	c.mu.Lock()
	defer c.unlock()
	c.observe(c.account(r.Tenant).node(c.band(r.Priority)), outcome, 0)
	return &Rejected{Outcome: outcome, Err: err}
}

// refusal is the error for one that the scheduler gave to a request that cannot wait.
func (c *Controller) refusal(r *scheduling.Request, err error) error {
	outcome := Failed
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		outcome = ClientGone
	} else if errors.Is(err, scheduling.ErrNoEndpoint) {
		outcome = NoEndpoint
	}
	return c.refused(r, outcome, err)
}

// room is told by the pool that there may be room in a slot, or in any.
func (c *Controller) room(slot scheduling.Slot) {
	if c.waiting.Load() == 0 {
		return
	}
	c.mu.Lock()
	c.wake(slot)
	c.dispatch(c.o.Clock.Now())
	c.unlock()
}

// batch is how many requests are dispatched before others get the lock.
const batch = 64

// dispatch grants what can be granted, in order, until nobody who waits finds room.
func (c *Controller) dispatch(now time.Time) {
	for granted := 0; ; granted++ {
		if granted == batch {
			granted = 0
			c.unlock()
			c.mu.Lock()
		}
		if !c.round(now) {
			break
		}
	}
	c.evictFor()
	c.plan(now)
}

// round tries the waiting requests in order until one is placed. It reports whether one was.
func (c *Controller) round(now time.Time) bool {
	c.rounds++
	c.claims.clear()
	for _, l := range c.lanes {
		l.done, l.natural = false, false
	}
	for c.waiting.Load() > 0 {
		t := c.next()
		if t.root == nil {
			return false
		}
		if l := t.lane; len(l.slots) > 0 {
			pool := c.sched.Pool()
			if snap := pool.Snapshot(); snap.Layout() == l.layout && c.gate.full(pool, snap, l.slots, t.root.node.band.priority) {
				c.pass(t)
				continue
			}
		}
		w := c.head(t, now)
		if w == nil {
			continue // those were all over their limits
		}
		l, granted := c.pick(w, now)
		switch {
		case granted:
			return true
		case l == nil: // refused
		case l == w.seat.lane:
			c.pass(t)
		default:
			c.rehome(w, l, now)
		}
	}
	return false
}

// rehome moves a waiter to another lane.
func (c *Controller) rehome(w *waiter, l *lane, now time.Time) {
	from := w.seat.lane
	c.rise(w)
	c.sit(w, l, now)
	w.round = c.rounds
	l.done = false
	if from.quiet == l.quiet {
		return
	}
	// What it may wait for an endpoint to come is another time than what it may wait for its turn.
	if w.place >= 0 {
		c.deadlines.remove(w.place)
		w.place = -1
	}
	c.expiry(w, l, now)
	if !w.due.IsZero() {
		w.place = c.deadlines.push(w.due.UnixNano(), w.serial, w)
	}
}

// unlock gives the lock back and calls those who asked without waiting.
func (c *Controller) unlock() {
	outbox, owed, events := c.outbox, c.owed, c.events
	c.outbox, c.owed, c.events = nil, nil, nil
	c.mu.Unlock()
	for _, e := range events {
		c.o.Observer.Observe(e)
	}
	for _, e := range owed {
		e.call(e.cause)
	}
	for _, w := range outbox {
		w.answer(w.decision, w.err)
	}
}

// plan sets the timer to when something is due next.
func (c *Controller) plan(now time.Time) {
	var at int64
	if c.deadlines.len() > 0 {
		at = c.deadlines.key()
	}
	if c.recovering.len() > 0 && (at == 0 || c.recovering.key() < at) {
		at = c.recovering.key()
	}
	if at == 0 {
		if c.timer != nil {
			c.timer()
			c.timer = nil
		}
		return
	}
	due := time.Unix(0, at)
	if c.timer != nil {
		if !due.Before(c.timerAt) {
			return // it fires early, and is set again then
		}
		c.timer()
	}
	c.timerAt = due
	c.timer = c.o.Clock.AfterFunc(due.Sub(now), c.tick)
}

// tick does what is due.
func (c *Controller) tick() {
	c.mu.Lock()
	now := c.o.Clock.Now()
	if c.timer != nil && !c.timerAt.After(now) {
		c.timer = nil // else this is one that could not be stopped in time
	}
	for c.deadlines.len() > 0 && c.deadlines.key() <= now.UnixNano() {
		w := c.deadlines.least()
		outcome := Expired
		if w.seat.lane.quiet {
			outcome = NoEndpoint
		}
		refusal := &Rejected{Outcome: outcome}
		if at, ok := w.ctx.Deadline(); ok && !at.After(now) {
			refusal.Err = context.DeadlineExceeded
		}
		c.reject(w, refusal, now)
	}
	for c.recovering.len() > 0 && c.recovering.key() <= now.UnixNano() {
		c.unpark(c.recovering.least(), now)
	}
	c.wake(scheduling.AnySlot)
	c.dispatch(now)
	c.unlock()
}

// Close refuses what waits and what comes. Reservations that were handed out stay as they are.
func (c *Controller) Close() {
	c.stop()
	c.mu.Lock()
	c.closed = true
	now := c.o.Clock.Now()
	for _, a := range c.accounts {
		c.clear(a, now)
	}
	c.clear(c.others, now)
	c.plan(now)
	c.unlock()
}

// clear refuses all that waits of a tenant.
func (c *Controller) clear(a *account, now time.Time) {
	for _, n := range a.nodes {
		for {
			i := slices.IndexFunc(n.seats, func(s *seat) bool { return s.line.len() > 0 })
			if i < 0 {
				break
			}
			c.reject(n.seats[i].line.head(), &Rejected{Outcome: ShutDown}, now)
		}
	}
}
