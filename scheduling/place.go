package scheduling

import (
	"context"
	"fmt"
)

// Preview tells what the next Pick of the request would choose, without its effects: nothing is reserved, and neither plugins nor
// observers learn of it. The decision's Next reports false.
func (s *Scheduler) Preview(ctx context.Context, r *Request) (Decision, error) {
	return s.pick(ctx, r, true)
}

// Place accounts for a request on the endpoint of an ID, which somebody else has chosen, as if the primary stage had: it is on the
// ledger, and plugins learn of it. The decision has no fallbacks. The error wraps ErrUnknownEndpoint, or is a *PickError if the
// endpoint is full.
func (s *Scheduler) Place(r *Request, id string) (Decision, error) {
	p := s.plan.Load()
	st := p.find("")
	c := s.begin(p, r, s.picks.Add(1))
	defer s.end(c)
	slot, ok := c.Snapshot.Find(id)
	if !ok {
		return Decision{}, fmt.Errorf("%w: %q", ErrUnknownEndpoint, id)
	}
	c.enter(st)
	st.produce(c)
	for _, other := range c.Snapshot.live {
		c.see(other, s.pool.ledger.read(other))
	}
	predicted := st.predict(c, slot)
	prefill, kv := st.charges(c, slot, false)
	charge, ok := s.pool.ledger.force(slot, c.Snapshot.generations[slot], prefill, kv)
	if !ok {
		return Decision{}, &PickError{Model: r.Model, Adapter: r.Adapter, Stage: st.name, Err: ErrNoEndpoint}
	}
	c.legs = append(c.legs, leg{stage: st, charge: charge, predicted: predicted})
	c.legs[0].push(c, slot)
	return p.decide(c), nil
}
