package scheduling

// Decision is the outcome of a pick: where the request goes, where else it could go, and its reservation. With stages it is
// that of the primary one, and Stage has the others'. A Decision is used by one goroutine; its Reservation may be used by
// several.
type Decision struct {
	// Endpoint is where to send the request now.
	Endpoint *Endpoint
	// CachedTokens is how much of the prompt that endpoint is believed to have cached.
	CachedTokens int
	// Source has more of the prompt cached than Endpoint, if a plugin looked for one (prefix.Source): an engine that can fetch
	// KV blocks from others may do so.
	Source Source
	// Predicted is how long the request is expected to take on Endpoint, if a producer predicts.
	Predicted Prediction
	// Score is the choice's weighted score, 0 to 1.
	Score float64
	// Explanation is set if the request asked for it.
	Explanation *Explanation
	// Reservation accounts for the request on Endpoint. End it with Done, which ends those of the other stages as well.
	Reservation

	stage   *stage
	request *Request
	whole   Reservation // of the primary stage, in a decision that Stage returned for another one
	ranking
}

// ranking is a choice and its fallbacks, best first, and which of them is tried now.
type ranking struct {
	places [MaxRanked]place
	n, at  int
}

type place struct {
	endpoint   *Endpoint
	slot       Slot
	generation uint32
	cached     int32
}

func (r *ranking) push(c *Cycle, slot Slot) {
	r.places[r.n] = place{c.Snapshot.endpoints[slot], slot, c.Snapshot.generations[slot], c.Match.Cached[slot]}
	r.n++
}

// decision is what a leg comes to.
func (l *leg) decision(r *Request, held Reservation) Decision {
	d := Decision{
		stage: l.stage, request: r, ranking: l.ranking, Explanation: l.explanation, Source: l.source, Predicted: l.predicted, Score: l.score,
		Reservation: held,
	}
	d.stand(l.at)
	return d
}

func (d *Decision) stand(at int) {
	d.at = at
	d.Endpoint, d.CachedTokens = d.places[at].endpoint, int(d.places[at].cached)
}

// Slot is the slot of Endpoint.
func (d *Decision) Slot() Slot { return d.places[d.at].slot }

// Fallbacks returns the endpoints that Next would try, best first.
func (d *Decision) Fallbacks() []*Endpoint {
	var rest []*Endpoint
	for _, p := range d.places[min(d.at+1, d.n):d.n] {
		rest = append(rest, p.endpoint)
	}
	return rest
}

// Stages returns the names of the stages that the request could have had, in the order in which they run. It must not be
// changed.
func (d *Decision) Stages() []string {
	if d.stage == nil {
		return nil
	}
	return d.stage.plan.names
}

// Primary reports whether the decision is the whole one, not that of another stage.
func (d *Decision) Primary() bool { return d.stage == nil || d.stage.primary() }

// Stage returns the result of a stage: its endpoint, with its own fallbacks and reservation, which may end before that of the
// whole. It reports false if the stage did not run, and once the whole has ended.
func (d *Decision) Stage(name string) (Decision, bool) {
	if d.stage == nil {
		return Decision{}, false
	}
	if d.stage.name == name {
		return *d, true
	}
	a := d.Reservation.open()
	if a == nil {
		return Decision{}, false
	}
	defer a.mu.Unlock()
	for i := range a.legs {
		if l := &a.legs[i]; l.stage.name == name {
			other := l.decision(d.request, l.reservation)
			other.whole = d.Reservation
			return other, true
		}
	}
	return Decision{}, false
}

// Next gives the request up on its endpoint and moves it, with its reservation, to the next one in the ranking that is
// still in the pool. It reports false when there is none; the reservation has ended then. With stages it moves the one that the
// decision is of, and the others stay where they are; but where the primary one has no other endpoint, all end.
func (d *Decision) Next() bool {
	if d.stage == nil {
		return false
	}
	s := d.stage.plan.scheduler
	c := s.begin(d.stage.plan, d.request, s.picks.Add(1))
	defer s.end(c)
	c.Peer = d.request.Peer
	for at := d.at + 1; at < d.n; at++ {
		p := &d.places[at]
		if c.Snapshot.Endpoint(p.slot) == nil || c.Snapshot.generations[p.slot] != p.generation {
			continue
		}
		d.stage.produce(c)
		for _, slot := range c.Snapshot.live {
			c.see(slot, s.pool.ledger.read(slot))
		}
		predicted := d.stage.predict(c, p.slot)
		if !d.Reservation.move(d.stage, c, p) {
			continue
		}
		for _, committer := range d.stage.committers {
			committer.Commit(c, p.slot)
		}
		d.Source, d.Predicted = c.Source, predicted
		p.cached = c.Match.Cached[p.slot]
		d.stand(at)
		d.remember()
		return true
	}
	d.Done()
	d.at = d.n - 1
	return false
}

// remember tells the whole where its leg is now.
func (d *Decision) remember() {
	a := d.whole.open()
	if a == nil {
		return
	}
	for i := range a.legs {
		if l := &a.legs[i]; l.stage == d.stage {
			l.ranking, l.source, l.predicted = d.ranking, d.Source, d.Predicted
		}
	}
	a.mu.Unlock()
}
