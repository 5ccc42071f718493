package flow

import (
	"math"
	"slices"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// lane is a set of endpoints that requests wait for: those that the gate was offered for them and found full. Whatever filters
// there are, requests that could run on the same endpoints wait in one lane, and one that is full does not hold up others.
type lane struct {
	slots []scheduling.Slot // sorted
	set   slotSet
	// any lanes are woken by whatever happens: requests of which it is not known yet what they wait for, and those for which
	// there was no lane left. They lay no claim to endpoints.
	any bool
	// A quiet lane is for requests that no endpoint could serve, of one model and adapter. It holds nobody up, and only
	// endpoints that come wake it.
	quiet          bool
	model, adapter string

	roots   []*seat // by priority, the highest first
	waiting int
	layout  uint64 // of the pool, when the slots were found
	pace    drain

	// blocked is the priority from which downwards requests found no room since something last happened to the lane.
	blocked int
	done    bool // in this round of dispatching
	natural bool // in this round nobody is promoted any more
}

// nothing is below all priorities: a lane in which nobody is blocked.
const nothing = math.MinInt

// lane returns the lane for a set of full endpoints, in which w is to wait, or waits already.
func (c *Controller) lane(full []scheduling.Slot, w *waiter) *lane {
	slices.Sort(full)
	layout := c.sched.Pool().Snapshot().Layout()
	if w.seat != nil {
		l := w.seat.lane
		switch {
		case slices.Equal(l.slots, full) || w.round == c.rounds:
			return l
		case !l.any && !l.quiet && l.layout != layout:
			// Endpoints have come or gone: what holds for the first of a lane holds for those behind it.
			l.slots, l.layout = full, layout
			l.set.clear()
			l.set.add(full)
			return l
		}
	}
	for _, l := range c.lanes {
		if !l.any && !l.quiet && slices.Equal(l.slots, full) {
			return l
		}
	}
	l := &lane{slots: full, layout: layout, blocked: nothing}
	l.set.add(full)
	return c.keep(l)
}

// anyLanes is how many lanes there always are.
const anyLanes = 2

// quietLane returns the lane for requests that no endpoint could serve.
func (c *Controller) quietLane(r *scheduling.Request) *lane {
	for _, l := range c.lanes {
		if l.quiet && l.model == r.Model && l.adapter == r.Adapter {
			return l
		}
	}
	l := &lane{quiet: true, model: r.Model, adapter: r.Adapter, blocked: nothing}
	return c.keep(l)
}

// keep adds a lane, in place of one that is empty if there are too many. If all are in use it returns the one for the rest.
func (c *Controller) keep(l *lane) *lane {
	if len(c.lanes) >= c.o.MaxLanes+anyLanes {
		i := slices.IndexFunc(c.lanes, func(l *lane) bool { return !l.any && l.waiting == 0 })
		if i < 0 {
			return c.rest
		}
		c.lanes = slices.Delete(c.lanes, i, i+1)
	}
	c.lanes = append(c.lanes, l)
	return l
}

// wake says that something happened to a slot, or to any.
func (c *Controller) wake(slot scheduling.Slot) {
	for _, l := range c.lanes {
		if l.blocked != nothing && (slot == scheduling.AnySlot || l.any || l.set.has(slot)) {
			l.blocked = nothing
		}
	}
}

// turn is who is next in a lane: a band's root, and its oldest request if that is why it is.
type turn struct {
	lane *lane
	root *seat
	// due bands are ahead of their place, because of their floor or the age of their oldest.
	due, aged bool
}

// before reports whether t comes before the turn of another lane.
func (t turn) before(o turn) bool {
	if o.root == nil {
		return true
	}
	if t.promoted() != o.promoted() {
		return t.promoted()
	}
	if p, q := t.root.node.band.priority, o.root.node.band.priority; p != q {
		return p > q
	}
	return t.root.members.key()-o.root.members.key() < 0
}

func (t turn) promoted() bool { return t.due || t.aged }

// turn finds who is next in a lane; root is nil if nobody is.
func (c *Controller) turn(l *lane) turn {
	t := turn{lane: l}
	for _, root := range l.roots {
		if root.members.len() == 0 {
			continue
		}
		switch {
		case t.root == nil:
			t.root = root
		case l.natural:
			return t
		case root.node.band.credit > 0 && (!t.due || root.node.band.credit > t.root.node.band.credit):
			t.root, t.due = root, true
		case !t.due && c.o.Aging > 0 && root.oldest.virtual(c) < t.root.oldest.virtual(c):
			t.root, t.aged = root, true
		}
	}
	return t
}

// virtual is when a waiter came, put off by Aging for each band above its own: among the oldest of each band the earliest is
// next.
func (w *waiter) virtual(c *Controller) int64 {
	return w.since.Add(time.Duration(w.node.band.rank) * c.o.Aging).UnixNano()
}

// next finds the lane and band whose turn it is, lays the claims of those before it, and passes over what is blocked.
func (c *Controller) next() turn {
	for {
		var best turn
		for _, l := range c.lanes {
			if l.done || l.waiting == 0 {
				continue
			}
			if t := c.turn(l); t.root == nil {
				l.done = true
			} else if t.before(best) {
				best = t
			}
		}
		if best.root == nil || best.root.node.band.priority > best.lane.blocked {
			return best
		}
		c.pass(best)
	}
}

// pass puts a turn off that found no room. What is behind it in the order keeps off what it waits for; a promoted band loses
// its promotion.
func (c *Controller) pass(t turn) {
	l := t.lane
	if t.promoted() {
		l.natural = true
		return
	}
	l.done = true
	l.blocked = max(l.blocked, t.root.node.band.priority)
	c.claims.add(l.slots)
}

// head descends to the request whose turn it is, parking tenants that are over their limits on the way. It returns nil if there
// is none after all.
func (c *Controller) head(t turn, now time.Time) *waiter {
	if t.aged {
		return t.root.oldest
	}
descend:
	for t.root.members.len() > 0 {
		s := t.root
		for s.members.len() > 0 && s.line.len() == 0 {
			s = s.members.least()
			if !s.node.limited {
				continue
			}
			if over, wait := s.node.account.over(now); over {
				c.park(s.node.account, wait, now)
				continue descend
			}
		}
		w := s.line.head()
		for ; s.parent != nil; s = s.parent {
			if !c.o.Discipline.Turn(&s.node.Share, w.cost) {
				c.retag(s.node)
				continue descend
			}
		}
		return w
	}
	return nil
}

// arrived adds a waiter to the list of a root's, by age. It is looked for from the end, where new ones belong.
func (s *seat) arrived(w *waiter) {
	after := s.newest
	for after != nil && after.since.After(w.since) {
		after = after.older
	}
	w.older = after
	if after != nil {
		w.newer, after.newer = after.newer, w
	} else {
		w.newer, s.oldest = s.oldest, w
	}
	if w.newer != nil {
		w.newer.older = w
	} else {
		s.newest = w
	}
}

func (s *seat) left(w *waiter) {
	if w.older != nil {
		w.older.newer = w.newer
	} else {
		s.oldest = w.newer
	}
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		s.newest = w.older
	}
	w.older, w.newer = nil, nil
}
