package scheduling

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxEndpoints is how many endpoints a pool holds where PoolOptions does not say.
const DefaultMaxEndpoints = 1024

// PoolOptions are the parameters of a Pool. The zero value is an empty pool.
type PoolOptions struct {
	// Endpoints are in the pool from the start.
	Endpoints []Endpoint
	// Models are base models that are known even while no endpoint serves them: a request for one is then refused as
	// unavailable rather than unknown.
	Models []string
	// MaxEndpoints bounds the pool; 0 means DefaultMaxEndpoints. Each costs 16 bytes up front.
	MaxEndpoints int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ErrUnknownEndpoint is wrapped by errors about an endpoint ID that is not in the pool.
var ErrUnknownEndpoint = errors.New("unknown endpoint")

// Pool is the mutable set of endpoints and the ledger of what is in flight on them. It is safe for concurrent use.
// Changes are serialised; readers take no lock.
type Pool struct {
	now      func() time.Time
	ledger   ledger
	accounts sync.Pool
	current  atomic.Pointer[Snapshot]

	elsewhere atomic.Pointer[elsewhere]
	listeners listeners

	mu          sync.Mutex // held while the next snapshot is made
	ids         map[string]Slot
	vacant      []Slot
	generations []uint32 // by slot, for ever
	models      []string
	max         int
}

// NewPool makes a pool, or reports every problem with the options.
func NewPool(o PoolOptions) (*Pool, error) {
	p := &Pool{now: o.Now, ids: map[string]Slot{}, max: o.MaxEndpoints, models: slices.Clone(o.Models)}
	if p.now == nil {
		p.now = time.Now
	}
	if p.max == 0 {
		p.max = DefaultMaxEndpoints
	}
	if p.max < 0 {
		return nil, fmt.Errorf("max endpoints %d: negative", o.MaxEndpoints)
	}
	p.ledger = newLedger(p.max)
	p.accounts.New = func() any { return &account{pool: p} }
	first := &Snapshot{changed: make(chan struct{}), lora: newResidency(nil, nil)}
	first.index(p.models)
	p.current.Store(first)
	return p, p.Set(o.Endpoints)
}

// MaxEndpoints is how many endpoints the pool can hold; slots are below it.
func (p *Pool) MaxEndpoints() int { return p.max }

// Snapshot returns the pool as it is now.
func (p *Pool) Snapshot() *Snapshot { return p.current.Load() }

// Set makes the pool hold exactly these endpoints: it adds, updates and removes what differs. If one is invalid nothing
// changes.
func (p *Pool) Set(endpoints []Endpoint) error {
	defer p.listeners.tell(AnySlot) // once the lock is free
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := make(map[string]bool, len(endpoints))
	for _, e := range endpoints {
		n, err := e.normalised()
		if err == nil {
			wanted[n.ID] = true
		}
	}
	var gone []string
	for _, slot := range p.Snapshot().live {
		if id := p.Snapshot().endpoints[slot].ID; !wanted[id] {
			gone = append(gone, id)
		}
	}
	return p.change(endpoints, gone)
}

// Upsert adds endpoints, or updates those whose ID is in the pool already. One whose address, rank or model changed is
// another engine: it gets a new generation, and what was known of the old one is forgotten. Else a cache geometry that is not
// said stays as it was reported.
func (p *Pool) Upsert(endpoints ...Endpoint) error {
	defer p.listeners.tell(AnySlot) // once the lock is free
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.change(endpoints, nil)
}

// Remove takes endpoints out of the pool. IDs that are not in it are passed over.
func (p *Pool) Remove(ids ...string) {
	defer p.listeners.tell(AnySlot) // once the lock is free
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.change(nil, ids) // removing cannot fail
}

func (p *Pool) change(endpoints []Endpoint, gone []string) error {
	var problems []error
	add := make([]*Endpoint, 0, len(endpoints))
	seen := map[string]bool{}
	for _, e := range endpoints {
		n, err := e.normalised()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if seen[n.ID] {
			problems = append(problems, fmt.Errorf("endpoint %q: given twice", n.ID))
		}
		seen[n.ID] = true
		add = append(add, n)
	}
	old := p.Snapshot()
	size := len(old.live)
	for id := range seen {
		if _, ok := p.ids[id]; !ok {
			size++
		}
	}
	for _, id := range gone {
		if _, ok := p.ids[id]; ok {
			size--
		}
	}
	if size > p.max {
		problems = append(problems, fmt.Errorf("%d endpoints: more than the pool's maximum of %d", size, p.max))
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}

	next := old.clone()
	changed := false
	for _, id := range gone {
		if slot, ok := p.ids[id]; ok {
			p.vacate(next, slot)
			changed = true
		}
	}
	for _, e := range add {
		slot, ok := p.ids[e.ID]
		if ok {
			was := next.endpoints[slot]
			if was.Address != e.Address || was.Rank != e.Rank || was.Model != e.Model {
				p.vacate(next, slot)
				ok = false
			} else {
				e.BlockTokens, e.CacheBlocks = cmpOr(e.BlockTokens, was.BlockTokens), cmpOr(e.CacheBlocks, was.CacheBlocks)
			}
			if ok && was.equal(e) {
				continue
			}
		}
		if !ok {
			slot = p.occupy(next, e.ID)
		}
		next.endpoints[slot] = e
		changed = true
	}
	if changed {
		next.index(p.models)
		p.publish(old, next)
	}
	return nil
}

func (p *Pool) vacate(next *Snapshot, slot Slot) {
	delete(p.ids, next.endpoints[slot].ID)
	next.endpoints[slot] = nil
	for m := range next.values {
		next.values[m].at[slot] = 0
	}
	next.lora.states[slot], next.lora.at[slot] = nil, 0
	p.vacant = append(p.vacant, slot)
}

func (p *Pool) occupy(next *Snapshot, id string) Slot {
	var slot Slot
	if n := len(p.vacant); n > 0 {
		slot, p.vacant = p.vacant[n-1], p.vacant[:n-1]
	} else {
		slot = Slot(len(p.generations))
		p.generations = append(p.generations, 0)
		next.grow()
	}
	p.generations[slot]++
	next.generations[slot] = p.generations[slot]
	next.baseline[slot] = 0
	p.ledger.open(slot, p.generations[slot])
	p.ids[id] = slot
	return slot
}

// Report records what was observed of endpoints. One call publishes one snapshot, so a scraper reports a round at once.
// States of unknown endpoints are skipped and named in the error, which wraps ErrUnknownEndpoint.
func (p *Pool) Report(states ...State) error {
	defer p.listeners.tell(AnySlot) // once the lock is free
	p.mu.Lock()
	defer p.mu.Unlock()
	var problems []error
	old := p.Snapshot()
	next := *old // shares with old all that it does not own
	var own struct {
		values                    [metrics]bool
		baseline, endpoints, lora bool
	}
	lora := *old.lora
	for i := range states {
		st := &states[i]
		slot, ok := p.ids[st.Endpoint]
		if !ok {
			problems = append(problems, fmt.Errorf("%w: %q", ErrUnknownEndpoint, st.Endpoint))
			continue
		}
		at := st.At.UnixNano()
		if st.At.IsZero() {
			at = p.now().UnixNano()
		}
		for _, v := range st.Values {
			if v.Metric >= metrics || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Value < 0 {
				continue
			}
			column := &next.values[v.Metric]
			if !own.values[v.Metric] {
				*column, own.values[v.Metric] = column.clone(), true
			}
			column.values[slot], column.at[slot] = v.Value, at
			if v.Metric == Waiting || v.Metric == Running {
				if !own.baseline {
					next.baseline, own.baseline = slices.Clone(next.baseline), true
				}
				next.baseline[slot] = uint16(p.ledger.read(slot).requests())
			}
		}
		if st.Adapters != nil {
			if !own.lora {
				lora.states, lora.at, own.lora = slices.Clone(lora.states), slices.Clone(lora.at), true
			}
			lora.states[slot], lora.at[slot] = st.Adapters.clone(), at
		}
		e := next.endpoints[slot]
		if blocks, tokens := cmpOr(st.CacheBlocks, e.CacheBlocks), cmpOr(st.BlockTokens, e.BlockTokens); blocks != e.CacheBlocks || tokens != e.BlockTokens {
			if !own.endpoints {
				next.endpoints, own.endpoints = slices.Clone(next.endpoints), true
			}
			updated := *e
			updated.CacheBlocks, updated.BlockTokens = blocks, tokens
			next.endpoints[slot] = &updated
		}
	}
	if own.lora {
		next.lora = newResidency(lora.states, lora.at)
	}
	if own.endpoints {
		next.index(p.models)
		p.publish(old, &next)
	} else {
		p.current.Store(&next)
	}
	return errors.Join(problems...)
}

// cmpOr returns the reading where it is one, else what was known.
func cmpOr(reading, known int) int {
	if reading > 0 {
		return reading
	}
	return known
}

func (a *AdapterState) clone() *AdapterState {
	return &AdapterState{Active: slices.Clone(a.Active), Waiting: slices.Clone(a.Waiting), Max: a.Max}
}

// publish makes next current under a new layout and wakes those who wait for one.
func (p *Pool) publish(old, next *Snapshot) {
	next.layout = old.layout + 1
	next.changed = make(chan struct{})
	p.current.Store(next)
	close(old.changed)
}

// clone copies what a change of endpoints may touch.
func (s *Snapshot) clone() *Snapshot {
	next := *s
	next.endpoints = slices.Clone(s.endpoints)
	next.generations = slices.Clone(s.generations)
	next.baseline = slices.Clone(s.baseline)
	for m := range next.values {
		next.values[m] = s.values[m].clone()
	}
	lora := *s.lora
	lora.states, lora.at = slices.Clone(lora.states), slices.Clone(lora.at)
	next.lora = &lora
	return &next
}

func (c column) clone() column { return column{slices.Clone(c.values), slices.Clone(c.at)} }

func (s *Snapshot) grow() {
	s.endpoints = append(s.endpoints, nil)
	s.generations = append(s.generations, 0)
	s.baseline = append(s.baseline, 0)
	for m := range s.values {
		s.values[m].values = append(s.values[m].values, 0)
		s.values[m].at = append(s.values[m].at, 0)
	}
	s.lora.states = append(s.lora.states, nil)
	s.lora.at = append(s.lora.at, 0)
}

// index derives from the endpoints who serves what. An endpoint without a model is a candidate for every one.
func (s *Snapshot) index(models []string) {
	s.live = nil
	s.served, s.base = map[service][]Slot{}, map[string]string{}
	for _, m := range models {
		s.served[service{m, ""}] = nil
	}
	for i, e := range s.endpoints {
		if e == nil {
			continue
		}
		s.live = append(s.live, Slot(i))
		s.served[service{e.Model, ""}] = append(s.served[service{e.Model, ""}], Slot(i))
		for _, a := range e.Adapters {
			s.served[service{e.Model, a}] = append(s.served[service{e.Model, a}], Slot(i))
			s.base[a] = e.Model
		}
	}
	any := s.served[service{}]
	for what, slots := range s.served {
		if what.model != "" && what.adapter == "" && len(any) > 0 {
			s.served[what] = slices.Sorted(slices.Values(slices.Concat(slots, any)))
		}
	}
}

// ChangeKind is what happened to an endpoint.
type ChangeKind uint8

// What can happen to an endpoint.
const (
	Added ChangeKind = iota
	Updated
	Removed
)

// Change is one endpoint that came, changed or went.
type Change struct {
	Kind       ChangeKind
	Slot       Slot
	Generation uint32
	Endpoint   *Endpoint
}

// Watch yields every endpoint of the pool as Added, then what changes, until the context ends. A reader that is slow
// sees the sum of what happened: nothing queues up, and an endpoint that came and went between two looks is not shown.
// Removals come before additions.
func (p *Pool) Watch(ctx context.Context) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		type seen struct {
			generation uint32
			endpoint   *Endpoint
		}
		known := map[Slot]seen{}
		for {
			s := p.Snapshot()
			for _, slot := range slices.Sorted(maps.Keys(known)) {
				k := known[slot]
				if s.Endpoint(slot) == nil || s.Generation(slot) != k.generation {
					delete(known, slot)
					if !yield(Change{Removed, slot, k.generation, k.endpoint}) {
						return
					}
				}
			}
			for _, slot := range s.live {
				e, generation := s.endpoints[slot], s.generations[slot]
				k, had := known[slot]
				if had && k.endpoint == e {
					continue
				}
				known[slot] = seen{generation, e}
				kind := Added
				if had {
					kind = Updated
				}
				if !yield(Change{kind, slot, generation, e}) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-s.changed:
			}
		}
	}
}

// Load is what the ledger holds for an endpoint.
type Load struct {
	Requests, PrefillTokens, KVTokens int
}

// InFlight returns what this process has in flight on a slot.
func (p *Pool) InFlight(slot Slot) Load {
	if int(slot) >= p.max {
		return Load{}
	}
	l := p.ledger.read(slot)
	return Load{l.requests(), l.prefill(), p.ledger.kvTokens(slot)}
}

// Total returns what this process has in flight on all endpoints.
func (p *Pool) Total() Load {
	var sum Load
	for _, slot := range p.Snapshot().live {
		l := p.InFlight(slot)
		sum.Requests += l.Requests
		sum.PrefillTokens += l.PrefillTokens
		sum.KVTokens += l.KVTokens
	}
	return sum
}
