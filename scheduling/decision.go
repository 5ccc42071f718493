package scheduling

// Decision is the outcome of a pick: where the request goes, where else it could go, and its reservation. A Decision is
// used by one goroutine; its Reservation may be used by several.
type Decision struct {
	// Endpoint is where to send the request now.
	Endpoint *Endpoint
	// CachedTokens is how much of the prompt that endpoint is believed to have cached.
	CachedTokens int
	// Source has more of the prompt cached than Endpoint, if a plugin looked for one (prefix.Source): an engine that can fetch
	// KV blocks from others may do so.
	Source Source
	// Score is the choice's weighted score, 0 to 1.
	Score float64
	// Explanation is set if the request asked for it.
	Explanation *Explanation
	// Reservation accounts for the request on Endpoint. End it with Done.
	Reservation

	scheduler *Scheduler
	request   *Request
	ranked    [MaxRanked]place
	n, at     int
}

type place struct {
	endpoint   *Endpoint
	slot       Slot
	generation uint32
	cached     int32
}

func (d *Decision) push(c *Cycle, slot Slot) {
	d.ranked[d.n] = place{c.Snapshot.endpoints[slot], slot, c.Snapshot.generations[slot], c.Match.Cached[slot]}
	d.n++
}

func (d *Decision) stand(at int) {
	d.at = at
	d.Endpoint, d.CachedTokens = d.ranked[at].endpoint, int(d.ranked[at].cached)
}

// Slot is the slot of Endpoint.
func (d *Decision) Slot() Slot { return d.ranked[d.at].slot }

// Fallbacks returns the endpoints that Next would try, best first.
func (d *Decision) Fallbacks() []*Endpoint {
	var rest []*Endpoint
	for _, p := range d.ranked[min(d.at+1, d.n):d.n] {
		rest = append(rest, p.endpoint)
	}
	return rest
}

// Next gives the request up on its endpoint and moves it, with its reservation, to the next one in the ranking that is
// still in the pool. It reports false when there is none; the reservation has ended then.
func (d *Decision) Next() bool {
	d.Done()
	if d.scheduler == nil {
		return false
	}
	s := d.scheduler
	for at := d.at + 1; at < d.n; at++ {
		p := d.ranked[at]
		if snap := s.pool.Snapshot(); snap.Endpoint(p.slot) == nil || snap.generations[p.slot] != p.generation {
			continue
		}
		c := s.begin(d.request)
		s.produce(c)
		for _, slot := range c.Snapshot.live {
			c.loads[slot] = s.pool.ledger.read(slot)
		}
		charge, ok := s.pool.ledger.force(p.slot, p.generation, c.Uncached(p.slot), c.PromptTokens)
		if ok {
			for _, committer := range s.committers {
				committer.Commit(c, p.slot)
			}
			d.Source = c.Source
			d.Reservation = s.pool.reservation(charge)
			d.ranked[at].cached = c.Match.Cached[p.slot]
			d.stand(at)
		}
		s.end(c)
		if ok {
			return true
		}
	}
	d.at = d.n - 1
	return false
}
