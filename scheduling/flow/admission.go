package flow

import (
	"math"
	"time"
)

// admit makes sure that there is room for a request to wait in a lane, or says why it is refused.
func (c *Controller) admit(w *waiter, l *lane, now time.Time) *Rejected {
	for a := w.node.account; a != nil; a = a.parent {
		if a.limits.MaxWaiting > 0 && a.waiting >= a.limits.MaxWaiting {
			return &Rejected{Outcome: Saturated, RetryAfter: c.retryAfter(w, l, now, 0)}
		}
	}
	if wait, ok := c.allowed(w, now); ok && c.o.RefuseLate {
		if need := c.predict(w, l, now); need > wait {
			return &Rejected{Outcome: Late, RetryAfter: c.retryAfter(w, l, now, wait)}
		}
	}
	b := w.node.band
	for b.MaxRequests > 0 && b.waiting >= b.MaxRequests || b.MaxBytes > 0 && b.bytes+w.bytes > b.MaxBytes {
		if !c.displace(b, w, now) {
			return &Rejected{Outcome: Saturated, RetryAfter: c.retryAfter(w, l, now, 0)}
		}
	}
	for int(c.waiting.Load()) >= c.o.MaxRequests || c.bytes+w.bytes > c.o.MaxBytes {
		least := c.bands[0]
		for _, other := range c.bands {
			if other.waiting > 0 {
				least = other
			}
		}
		if !c.displace(least, w, now) {
			return &Rejected{Outcome: Saturated, RetryAfter: c.retryAfter(w, l, now, 0)}
		}
	}
	return nil
}

// displace gives up the last request of the tenant that has most waiting in a band, for its weight. It reports false if that is
// not less worthy to wait than w.
func (c *Controller) displace(b *band, w *waiter, now time.Time) bool {
	if b.hoards.len() == 0 || b.rank < w.node.band.rank {
		return false
	}
	most := b.hoards.least()
	if b == w.node.band && (most == w.node || most.Scaled(most.queued) <= w.node.Scaled(w.node.queued+w.cost)) {
		return false
	}
	var victim *waiter
	for _, s := range most.seats {
		if s.line.len() > 0 {
			if last := s.line.tail(); victim == nil || victim.before(last) {
				victim = last
			}
		}
	}
	c.reject(victim, &Rejected{Outcome: Displaced, RetryAfter: c.retryAfter(victim, victim.seat.lane, now, 0)}, now)
	return true
}

// allowed is how long a request may wait: until its deadline, or until its TTFT objective can no longer be met.
func (c *Controller) allowed(w *waiter, now time.Time) (time.Duration, bool) {
	allowed := time.Duration(math.MaxInt64)
	if !w.due.IsZero() {
		allowed = w.due.Sub(now)
	}
	if w.request.TTFT > 0 {
		allowed = min(allowed, max(0, w.request.TTFT-c.engine.likely()))
	}
	return allowed, allowed < math.MaxInt64
}

// predict is how long a request that joins a lane now is going to wait, by the lane's pace: for all that is more important, and
// for what is ahead of it in its band, which is all of it or, if that is less, its tenant's own times how many share with it.
// It is 0 as long as the pace is not known.
func (c *Controller) predict(w *waiter, l *lane, now time.Time) time.Duration {
	quota := time.Duration(0)
	for a := w.node.account; a != nil; a = a.parent {
		if a.limits.Rate > 0 {
			a.refill(now)
			if debt := c.spentAhead(a) - a.bucket.balance; debt > 0 {
				quota = max(quota, time.Duration(debt/a.limits.Rate*float64(time.Second)))
			}
		}
	}
	rate, ok := l.pace.rate(now)
	if !ok {
		return quota
	}
	ahead := 0.0
	for _, root := range l.roots {
		switch p := root.node.band.priority; {
		case p > w.node.band.priority:
			ahead += float64(root.queued)
		case p == w.node.band.priority:
			own := 0.0
			weight, all := 1/w.node.perWeight, root.weight+1/w.node.perWeight
			for _, s := range w.node.seats {
				if s.lane == l && s.queued > 0 {
					own, all = float64(s.queued), root.weight
				}
			}
			ahead += min(float64(root.queued), own*all/weight)
		}
	}
	return max(quota, time.Duration(ahead/rate*float64(time.Second)))
}

// spentAhead is what an account's waiting requests will take of its quota, in tokens of cost.
func (c *Controller) spentAhead(a *account) float64 {
	queued := int64(0)
	for _, n := range a.nodes {
		queued += n.queued
	}
	return float64(queued) / tokenCost
}

// Bounds on what clients are told to wait.
const (
	leastRetry = time.Second
	mostRetry  = 30 * time.Second
)

// retryAfter is when a request like this would no longer have to wait for longer than allowed.
func (c *Controller) retryAfter(w *waiter, l *lane, now time.Time, allowed time.Duration) time.Duration {
	return min(max(c.predict(w, l, now)-allowed, leastRetry), mostRetry)
}

// spread is a running mean and mean deviation of durations, as of round trips in TCP (Jacobson 1988).
type spread struct{ mean, deviation float64 }

func (s *spread) add(d time.Duration) {
	v := float64(d)
	if s.mean == 0 {
		s.mean, s.deviation = v, v/2
	}
	s.deviation += (math.Abs(v-s.mean) - s.deviation) / 32
	s.mean += (v - s.mean) / 64
}

// likely is what most are below.
func (s *spread) likely() time.Duration { return time.Duration(s.mean + 2*s.deviation) }

// drain is the pace at which a lane is served while requests wait in it: cost over time, with what is older than some seconds
// fading.
type drain struct {
	cost, seconds float64
	at            time.Time
}

// fades is the time constant.
const fades = 10 * time.Second

// begin says that requests wait from now on.
func (d *drain) begin(now time.Time) { d.at = now }

func (d *drain) add(cost int64, now time.Time) {
	passed := max(0, now.Sub(d.at).Seconds())
	keep := math.Exp(-passed / fades.Seconds())
	d.cost = d.cost*keep + float64(cost)
	d.seconds = d.seconds*keep + passed
	d.at = now
}

// rate is in cost a second. It is unknown until requests have waited for a second in all.
func (d *drain) rate(now time.Time) (float64, bool) {
	seconds := d.seconds + max(0, now.Sub(d.at).Seconds())
	return d.cost / seconds, seconds >= 1 && d.cost > 0
}
