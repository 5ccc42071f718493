package flow

import (
	"cmp"
	"slices"
	"time"
)

// Observer is told of each request that comes to an end at flow control. It must be safe for concurrent use and must not block.
type Observer interface {
	Observe(Event)
}

// Event is the end of one request's wait.
type Event struct {
	Outcome Outcome
	// Tenant is its label: at most Options.MaxLabels different ones beside those in Options.Tenants, and "other".
	Tenant   string
	Priority int
	Waited   time.Duration
}

// observe counts an outcome, and has it told when the lock is free.
func (c *Controller) observe(n *node, o Outcome, waited time.Duration) {
	c.counts[o].Add(1)
	if c.o.Observer != nil {
		c.events = append(c.events, Event{o, n.account.label, n.band.priority, waited})
	}
}

// Stats is what goes on in a controller.
type Stats struct {
	// Waiting requests, their prompts' Bytes, and what they are expected to cost, in tokens.
	Waiting    int
	Bytes      int64
	CostTokens float64
	// Outcomes counts the requests that came to an end, by Outcome; Evictions those that were given up later.
	Outcomes  [outcomes]uint64
	Evictions uint64
	Bands     []BandStats
	Lanes     []LaneStats
	Tenants   []TenantStats
}

// BandStats is one priority, the highest first.
type BandStats struct {
	Priority, Waiting int
	Bytes             int64
}

// LaneStats is what some of the waiting requests wait for.
type LaneStats struct {
	// Endpoints are the IDs of those that are full. It is empty for requests that wait for something else: NoEndpoint for one
	// that serves their model, the others for their tenant's limits.
	Endpoints  []string
	NoEndpoint bool
	Waiting    int
	// Pace is how much is dispatched a second, in tokens of cost; 0 if it is not known.
	Pace float64
}

// TenantStats is one tenant, or all those that are not told apart.
type TenantStats struct {
	Tenant            string
	Weight            float64
	Waiting, InFlight int
	// ServedTokens is the cost that it was charged so far.
	ServedTokens float64
	// Limited tenants wait because of their own quota or cap.
	Limited bool
}

// Stats returns what goes on. It takes the lock for as long as it looks at each tenant that is remembered.
func (c *Controller) Stats() Stats {
	now := c.o.Clock.Now()
	snap := c.Pool().Snapshot()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Waiting: int(c.waiting.Load()), Bytes: c.bytes, Evictions: c.evictions.Load()}
	for o := range s.Outcomes {
		s.Outcomes[o] = c.counts[o].Load()
	}
	for _, b := range c.bands {
		s.CostTokens += float64(b.queued) / tokenCost
		s.Bands = append(s.Bands, BandStats{b.priority, b.waiting, b.bytes})
	}
	for _, l := range c.lanes {
		if l.waiting == 0 {
			continue
		}
		ls := LaneStats{NoEndpoint: l.quiet, Waiting: l.waiting}
		for _, slot := range l.slots {
			if e := snap.Endpoint(slot); e != nil {
				ls.Endpoints = append(ls.Endpoints, e.ID)
			}
		}
		if rate, ok := l.pace.rate(now); ok {
			ls.Pace = rate / tokenCost
		}
		s.Lanes = append(s.Lanes, ls)
	}
	others := TenantStats{Tenant: otherLabel, Weight: 1}
	for _, a := range c.accounts {
		if a.group {
			continue // its members are listed
		}
		t := a.stats()
		if a.label == otherLabel {
			others.add(t)
			continue
		}
		s.Tenants = append(s.Tenants, t)
	}
	others.add(c.others.stats())
	if others.ServedTokens > 0 || others.Waiting > 0 || others.InFlight > 0 {
		s.Tenants = append(s.Tenants, others)
	}
	slices.SortFunc(s.Tenants, func(a, b TenantStats) int {
		return cmp.Or(cmp.Compare(b.ServedTokens, a.ServedTokens), cmp.Compare(a.Tenant, b.Tenant))
	})
	return s
}

func (a *account) stats() TenantStats {
	t := TenantStats{a.label, a.limits.Weight, a.waiting, a.inFlight, 0, a.parked}
	for _, n := range a.nodes {
		t.ServedTokens += float64(n.served) / tokenCost
	}
	return t
}

func (t *TenantStats) add(o TenantStats) {
	t.Waiting += o.Waiting
	t.InFlight += o.InFlight
	t.ServedTokens += o.ServedTokens
	t.Limited = t.Limited || o.Limited
}
