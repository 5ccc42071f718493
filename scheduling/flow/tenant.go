package flow

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/google/btree"
	"github.com/inferloom/inferloom/scheduling"
)

// account is a tenant, or a group of them, across priorities.
type account struct {
	name, label string
	parent      *account
	limits      Tenant
	named       bool // in Options.Tenants: never forgotten
	nodes       []*node
	group       bool
	members     int // of a group

	inFlight, waiting int
	outputs           float64 // the length of its answers, of late
	bucket            bucket

	parked bool // over a limit: its requests are out of the running
	place  int  // in Controller.recovering, -1 if not there
}

// bucket is a quota: what may be spent now, refilled as time goes by.
type bucket struct {
	balance float64 // in tokens of cost
	at      time.Time
}

func (a *account) refill(now time.Time) {
	l := &a.limits
	if l.Rate == 0 {
		return
	}
	if a.bucket.at.IsZero() {
		a.bucket = bucket{l.Burst, now}
	}
	if d := now.Sub(a.bucket.at); d > 0 {
		a.bucket.balance = min(l.Burst, a.bucket.balance+d.Seconds()*l.Rate)
		a.bucket.at = now
	}
}

// over reports whether the account is at a limit, and if that is its quota, when it no longer will be.
func (a *account) over(now time.Time) (bool, time.Duration) {
	if a.limits.MaxInFlight > 0 && a.inFlight >= a.limits.MaxInFlight {
		return true, 0
	}
	if a.limits.Rate > 0 {
		if a.refill(now); a.bucket.balance <= 0 {
			return true, time.Duration((-a.bucket.balance/a.limits.Rate)*float64(time.Second)) + 1
		}
	}
	return false, 0
}

// account returns the tenant's account, made at its first request.
func (c *Controller) account(name string) *account {
	if a := c.accounts[name]; a != nil {
		return a
	}
	if len(c.accounts) >= c.o.MaxTenants && !c.forget() {
		return c.others
	}
	return c.open(name)
}

func (c *Controller) open(name string) *account {
	limits, named := c.o.Tenants[name]
	if !named {
		limits = c.o.Tenant
	}
	a := &account{name: name, limits: limits.withDefaults(), named: named, place: -1, label: otherLabel}
	if named || c.labels < c.o.MaxLabels {
		a.label = name
		if !named {
			c.labels++
		}
	}
	var groups [maxDepth]string
	for _, g := range c.o.split(groups[:0], name) {
		if g == name {
			break // a tenant cannot be called like a group
		}
		up := c.accounts[g]
		if up == nil {
			up = &account{name: g, group: true, parent: a.parent, place: -1, label: g, limits: Tenant{}.withDefaults()}
			if l, ok := c.o.Tenants[g]; ok {
				up.limits, up.named = l.withDefaults(), true
			}
			if up.parent != nil {
				up.parent.members++
			}
			c.accounts[g] = up
		}
		a.parent = up
	}
	if a.parent != nil {
		a.parent.members++
	}
	c.accounts[name] = a
	return a
}

// otherLabel stands for tenants that are not told apart.
const otherLabel = "other"

// forget drops an account that has nothing going on, if a few looks find one. What is lost is by how much it was ahead of the
// others when it went idle, at most a request's cost.
func (c *Controller) forget() bool {
	looks := 16
	for name, a := range c.accounts {
		if a.idle(c) {
			delete(c.accounts, name)
			if a.parent != nil {
				a.parent.members--
			}
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}

func (a *account) idle(c *Controller) bool {
	if a.named || a == c.others || a.inFlight > 0 || a.waiting > 0 || a.members > 0 {
		return false
	}
	if a.limits.Rate > 0 {
		a.refill(c.o.Clock.Now())
		return a.bucket.balance >= a.limits.Burst
	}
	return true
}

// node is an account in one band.
type node struct {
	Share
	parent  *node
	seats   []*seat
	only    [1]*seat // what seats mostly are
	served  int64
	limited bool  // its account, or one above it, has limits on what runs
	clock   int64 // the tag of the member that was served last
	queued  int64 // the cost of its own requests that wait
	place   int   // in band.hoards, -1 if not there
	account *account
	band    *band
}

// node returns the account's node in a band.
func (a *account) node(b *band) *node {
	for _, n := range a.nodes {
		if n.band == b {
			return n
		}
	}
	n := &node{account: a, band: b, parent: b.root, place: -1}
	n.perWeight = 1 / a.limits.Weight
	if a.parent != nil {
		n.parent = a.parent.node(b)
	}
	n.seats = n.only[:0]
	for up := a; up != nil; up = up.parent {
		n.limited = n.limited || up.limits.MaxInFlight > 0 || up.limits.Rate > 0
	}
	n.Tag = n.parent.clock
	a.nodes = append(a.nodes, n)
	return n
}

// over reports whether the node's account, or one that it belongs to, is at a limit.
func (n *node) over(now time.Time) bool {
	if !n.limited {
		return false
	}
	for a := n.account; a != nil; a = a.parent {
		if over, _ := a.over(now); over {
			return true
		}
	}
	return false
}

// seat is a node's place in one lane. The seats of a lane and band are a tree whose root has no parent.
type seat struct {
	node    *node
	lane    *lane
	parent  *seat
	place   int // among the parent's members, -1 while it is out of the running
	line    line
	members heap[*seat]
	waiting int     // in line, or below
	queued  int64   // their cost
	weight  float64 // of the tenants at a root that have something waiting
	// The waiters of a root by age, where aging is on.
	oldest, newest *waiter
}

// ready reports whether something waits here that could go now.
func (s *seat) ready() bool { return s.line.len() > 0 || s.members.len() > 0 }

// order is where the seat's first request is in Options.Order.
func (s *seat) order() int64 {
	if s.line.len() > 0 {
		return s.line.head().order
	}
	return s.members.key()
}

// key asks the discipline for a seat's tag.
func (c *Controller) key(s *seat) int64 {
	c.o.Discipline.Head(&s.node.Share, s.order())
	return s.node.Tag
}

// seat returns a node's place in a lane.
func (c *Controller) seat(n *node, l *lane) *seat {
	for _, s := range n.seats {
		if s.lane == l {
			return s
		}
	}
	var s *seat
	if k := len(c.seats); k > 0 {
		s, c.seats = c.seats[k-1], c.seats[:k-1]
	} else {
		s = &seat{place: -1}
		if c.o.Order != FirstCome {
			s.line.sorted = btree.NewWithFreeListG(8, (*waiter).before, c.trees)
		}
	}
	s.node, s.lane = n, l
	n.seats = append(n.seats, s)
	if n.parent != nil {
		s.parent = c.seat(n.parent, l)
	} else {
		at, _ := slices.BinarySearchFunc(l.roots, n.band.priority, func(r *seat, p int) int { return cmp.Compare(p, r.node.band.priority) })
		l.roots = slices.Insert(l.roots, at, s)
	}
	return s
}

// unseat gives up a place at which nothing waits, and those above that are empty with it.
func (c *Controller) unseat(s *seat) {
	for s != nil && s.waiting == 0 {
		up := s.parent
		n := s.node
		i := slices.Index(n.seats, s)
		n.seats[i] = n.seats[len(n.seats)-1]
		n.seats = n.seats[:len(n.seats)-1]
		if up == nil {
			s.lane.roots = slices.DeleteFunc(s.lane.roots, func(r *seat) bool { return r == s })
		}
		members, sorted := s.members, s.line.sorted
		*s = seat{place: -1, members: members}
		s.line.sorted = sorted
		c.seats = append(c.seats, s)
		s = up
	}
}

// show puts a seat at which something waits into the running, and those above with it.
func (c *Controller) show(s *seat) {
	for ; s.parent != nil && s.place < 0 && s.ready() && !s.node.account.parked; s = s.parent {
		up := s.parent
		level := up.node.clock
		if up.members.len() > 0 {
			level = earlier(level, up.members.key())
		} else if up.parent == nil && !s.lane.quiet {
			c.running++
		}
		was := s.node.Tag
		c.o.Discipline.Join(&s.node.Share, level)
		if s.node.Tag != was {
			c.retag(s.node)
		}
		c.ties++
		s.place = up.members.push(c.key(s), c.ties, s)
	}
	c.rekey(s)
}

// hide takes a seat out of the running, and those above that have nothing else.
func (c *Controller) hide(s *seat) {
	for ; s.parent != nil && s.place >= 0; s = s.parent {
		up := s.parent
		up.members.remove(s.place)
		s.place = -1
		if up.members.len() > 0 {
			c.rekey(up)
			return
		}
		if up.parent == nil && !s.lane.quiet {
			c.running--
		}
	}
}

// rekey orders a seat, and those above it, anew after its first request has changed.
func (c *Controller) rekey(s *seat) {
	for ; s.parent != nil && s.place >= 0; s = s.parent {
		s.parent.members.set(s.place, c.key(s))
	}
}

// retag orders a node's seats anew after its tag has changed.
func (c *Controller) retag(n *node) {
	for _, s := range n.seats {
		if s.place >= 0 {
			s.parent.members.set(s.place, c.key(s))
		}
	}
}

func earlier(a, b int64) int64 {
	if a-b < 0 {
		return a
	}
	return b
}

// join lifts a node that does not wait to where the others are, as it would be if it did.
func (c *Controller) join(n *node) {
	for ; n.parent != nil; n = n.parent {
		if !slices.ContainsFunc(n.seats, func(s *seat) bool { return s.place >= 0 }) {
			c.o.Discipline.Join(&n.Share, n.parent.clock)
		}
	}
}

// charge accounts for service of a node: its cost at dispatch, a difference later.
func (c *Controller) charge(n *node, cost int64, dispatched bool, now time.Time) {
	if n.limited {
		for a := n.account; a != nil; a = a.parent {
			if a.limits.Rate > 0 {
				a.refill(now)
				a.bucket.balance -= float64(cost) / tokenCost
			}
		}
	}
	n.served += cost
	for ; n.parent != nil; n = n.parent {
		if dispatched {
			n.parent.clock = later(n.parent.clock, n.Tag)
		}
		c.o.Discipline.Charge(&n.Share, cost, dispatched, now)
		c.retag(n)
	}
}

// Charge accounts for service that a tenant got elsewhere, by another replica say, in tokens of cost: it weighs as if it had
// been dispatched here, in the tenant's turns and against its quota, and is not in Stats.
func (c *Controller) Charge(tenant string, priority int, tokens float64) {
	if !(tokens > 0) || tokens > 1e15 {
		return
	}
	cost := int64(tokens * tokenCost)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.account(tenant).node(c.band(priority))
	c.join(n)
	c.charge(n, cost, true, c.o.Clock.Now())
	n.served -= cost
}

// park takes an account that is over a limit out of the running, until it is not.
func (c *Controller) park(a *account, wait time.Duration, now time.Time) {
	a.parked = true
	if wait > 0 && a.place < 0 {
		a.place = c.recovering.push(now.Add(wait).UnixNano(), 0, a)
	}
	for _, n := range a.nodes {
		for _, s := range n.seats {
			c.hide(s)
		}
	}
}

// unpark lets an account run again if it is under its limits.
func (c *Controller) unpark(a *account, now time.Time) {
	over, wait := a.over(now)
	if a.place >= 0 {
		c.recovering.remove(a.place)
		a.place = -1
	}
	if over {
		if wait > 0 {
			a.place = c.recovering.push(now.Add(wait).UnixNano(), 0, a)
		}
		return
	}
	a.parked = false
	for _, n := range a.nodes {
		for _, s := range n.seats {
			c.show(s)
		}
	}
}

// forgive ends the parking of an account that has nothing waiting any more: there is nothing to wake up for.
func (c *Controller) forgive(a *account) {
	a.parked = false
	if a.place >= 0 {
		c.recovering.remove(a.place)
		a.place = -1
	}
}

// estimate is how long the answer to a request of the account is expected to be, in tokens.
func (c *Controller) estimate(a *account, r *scheduling.Request) int {
	if !c.o.Discipline.Prepaid() {
		return 0
	}
	expected := a.outputs
	if expected == 0 {
		expected = c.outputs
	}
	if r.MaxTokens > 0 {
		expected = min(expected, float64(r.MaxTokens))
	}
	return int(math.Round(expected))
}

// firstGuess is how long an answer is taken to be before any has been seen, in tokens.
const firstGuess = 256

func (c *Controller) learn(a *account, tokens int) {
	if a.outputs == 0 {
		a.outputs = float64(tokens)
	}
	a.outputs += (float64(tokens) - a.outputs) / 16
	c.outputs += (float64(tokens) - c.outputs) / 64
}

// cost is what a request costs, by its tokens.
func (c *Controller) cost(uncached, cached, output int) int64 {
	o := &c.o.Cost
	return int64(tokenCost * (o.Prompt*float64(uncached) + o.Cached*float64(cached) + o.Output*float64(output)))
}
