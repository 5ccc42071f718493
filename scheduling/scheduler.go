package scheduling

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxMetricAge is how old a metric may be where Options does not say.
const DefaultMaxMetricAge = 5 * time.Second

// MaxRanked is how many endpoints a decision ranks: the choice and its fallbacks.
const MaxRanked = 4

// Options are the parameters of a Scheduler. The zero value balances requests in flight.
type Options struct {
	// Profile chooses where a request runs as a whole.
	Profile Profile `json:"profile,omitzero"`
	// Stages, if there are any, take the place of Profile: each chooses an endpoint for its part of the request.
	Stages []Stage `json:"stages,omitempty"`
	// MaxMetricAge is the age from which a metric counts as missing; 0 means DefaultMaxMetricAge.
	MaxMetricAge time.Duration `json:"maxMetricAge,omitempty"`
	// Seed makes random choices repeatable; 0 draws one.
	Seed uint64 `json:"seed,omitempty"`
}

// Validate reports every problem with the options.
func (o Options) Validate() error {
	_, err := new(Scheduler).compile(o)
	return err
}

// Errors of Pick; a *PickError wraps one of them, or the error of a Refuser.
var (
	ErrUnknownModel = errors.New("unknown model")
	ErrNoEndpoint   = errors.New("no endpoint available")
	ErrFull         = errors.New("no endpoint has room")
)

// PickError says why a request could not be placed.
type PickError struct {
	Model, Adapter string
	// Stage is the one that found no endpoint, where there are stages.
	Stage string
	// Filter is the one that removed the last candidate, if one did.
	Filter string
	// Full, with ErrFull, is who could take the request if it had room: what the filter gave to Cycle.Full.
	Full []Slot
	// Explanation is set if the request asked for it and its model is known: which filter removed whom.
	Explanation *Explanation
	Err         error
}

func (e *PickError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v for model %q", e.Err, e.Model)
	if e.Adapter != "" {
		fmt.Fprintf(&b, " with adapter %q", e.Adapter)
	}
	if e.Stage != "" {
		fmt.Fprintf(&b, " in stage %q", e.Stage)
	}
	if e.Filter != "" {
		fmt.Fprintf(&b, ": %s left none", e.Filter)
	}
	return b.String()
}

func (e *PickError) Unwrap() error { return e.Err }

// Scheduler places requests on the endpoints of a pool. It is safe for concurrent use.
type Scheduler struct {
	pool      *Pool
	plan      atomic.Pointer[plan]
	observing atomic.Pointer[observing]
	seed      uint64
	cycles    sync.Pool

	_     [128]byte // every pick writes what follows: it is on a cache line of its own
	picks atomic.Uint64
	_     [120]byte
}

// New makes a scheduler over a pool, or reports every problem with the options.
func New(pool *Pool, o Options) (*Scheduler, error) {
	s := &Scheduler{pool: pool, seed: o.Seed}
	p, err := s.compile(o)
	if pool == nil {
		err = errors.Join(errors.New("pool: nil"), err)
	}
	if err != nil {
		return nil, err
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	s.plan.Store(p)
	s.cycles.New = func() any { return new(Cycle) }
	return s, nil
}

// Swap makes the scheduler choose by other options from now on, in one step: a pick goes by the old ones or the new ones as
// a whole, and decisions that were made by the old ones end as if nothing had happened. If there is a problem with the options
// it reports every one, and nothing changes. The seed stays as it is.
//
// What plugins have learned is theirs: those that are to keep it must be the same values as before.
func (s *Scheduler) Swap(o Options) error {
	p, err := s.compile(o)
	if err == nil {
		s.plan.Store(p)
	}
	return err
}

// Pool returns the pool that the scheduler places requests on.
func (s *Scheduler) Pool() *Pool { return s.pool }

// Pick chooses an endpoint for the request, or one for each stage that runs, and accounts for it in one step. The caller ends
// the decision with Done. The error is a *PickError, or the context's; nothing is reserved then.
func (s *Scheduler) Pick(ctx context.Context, r *Request) (Decision, error) {
	return s.pick(ctx, r, false)
}

func (s *Scheduler) pick(ctx context.Context, r *Request, preview bool) (Decision, error) {
	p := s.plan.Load()
	var number uint64
	if preview {
		number = s.picks.Load() + 1 // it draws what the next pick will
	} else {
		number = s.picks.Add(1)
	}
	c := s.begin(p, r, number)
	defer s.end(c)
	c.preview = preview
	if o := s.observing.Load(); o != nil && !preview && number%o.every == 0 {
		c.observers = o.observers
	}
	for {
		err := p.choose(ctx, c)
		if err == nil {
			return p.decide(c), nil
		}
		if err != errLayout {
			return Decision{}, err
		}
		c.release()
		c.restarts++
		c.Snapshot, c.produced = s.pool.Snapshot(), 0
	}
}

// errLayout says that the pool's layout has changed since the snapshot was taken.
var errLayout = errors.New("layout changed")

// begin returns a cycle for the pick of a number.
func (s *Scheduler) begin(p *plan, r *Request, number uint64) *Cycle {
	c := s.cycles.Get().(*Cycle)
	c.Request = r
	c.Snapshot = s.pool.Snapshot()
	c.PromptTokens = r.Prompt.Len()
	c.pool = s.pool
	c.now = s.pool.now().UnixNano()
	c.freshAfter = c.now - int64(p.maxAge)
	c.seed = s.seed + number<<20
	c.draws, c.restarts, c.produced = 0, 0, 0
	return c
}

func (s *Scheduler) end(c *Cycle) {
	c.release()
	for i := range c.chains {
		c.chains[i].filled = false
	}
	if c.observers != nil {
		c.forget()
	}
	c.preview, c.keys, c.inFlight = false, c.keys[:0], nil
	c.Request, c.Snapshot, c.Peer, c.Source, c.stage = nil, nil, nil, Source{}, nil
	s.cycles.Put(c)
}

// release takes back what the stages of a pick that came to nothing were charged.
func (c *Cycle) release() {
	for i := range c.legs {
		c.pool.ledger.release(&c.legs[i].charge)
	}
	clear(c.legs)
	c.legs = c.legs[:0]
}

// choose runs the stages. What they chose is in the cycle's legs, and on the ledger.
func (p *plan) choose(ctx context.Context, c *Cycle) error {
	for i := range p.stages {
		st := &p.stages[i]
		c.enter(st)
		if st.when != nil && !st.when.Holds(c) {
			continue
		}
		err := st.choose(ctx, c)
		if err == ErrNoEndpoint || err == ErrFull { // the stage is optional
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// choose appends what the stage chooses to the cycle's legs. The error is ErrNoEndpoint or ErrFull itself where the request can do
// without the stage.
func (st *stage) choose(ctx context.Context, c *Cycle) error {
	st.produce(c)
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.pool.Snapshot().layout != c.Snapshot.layout {
			return errLayout
		}
		var x *Explanation
		if c.Request.Explain {
			x = st.explanation(c, c.restarts+attempt)
		}
		slots, filter, err := st.candidates(c, x)
		if err != nil {
			return st.failure(c, filter, err, x)
		}
		scores := st.score(c, slots, x)
		ranked := st.rank(c, slots, scores)
		slot := slots[ranked[0]]
		var charge charge
		if !c.preview {
			var ok bool
			prefill, kv := st.charges(c, slot, c.prefillTaken())
			if charge, ok = c.pool.ledger.take(slot, c.seen[slot], prefill, kv); !ok {
				continue // more was placed there since the ledger was read: choose again, knowing it
			}
		}
		c.legs = append(c.legs, leg{stage: st, score: scores[ranked[0]], charge: charge, explanation: x})
		l := &c.legs[len(c.legs)-1]
		for _, i := range ranked {
			l.push(c, slots[i])
		}
		if p := c.Prediction(slot); p != nil {
			l.predicted = *p
		}
		if c.observers != nil {
			c.capture(slots, scores)
		}
		x.rank(ranked)
		return nil
	}
}

// failure is the error of a pick for which the stage found no endpoint.
func (st *stage) failure(c *Cycle, filter string, err error, x *Explanation) error {
	if err == ErrUnknownModel {
		x = nil // there was nothing to choose from
	} else if st.optional && err == ErrNoEndpoint {
		return err
	}
	e := &PickError{Model: c.Request.Model, Adapter: c.Request.Adapter, Stage: st.name, Filter: filter, Err: err, Explanation: x}
	if err == ErrFull {
		e.Full = slices.Clone(c.full)
	}
	return e
}

// charges returns the tokens that an endpoint of the stage is charged with.
func (st *stage) charges(c *Cycle, slot Slot, prefillTaken bool) (prefill, kv int) {
	if st.takes&Prefill != 0 || st.primary() && !prefillTaken {
		prefill = c.Uncached(slot)
	}
	if st.holdsKV() {
		kv = c.PromptTokens
	}
	return prefill, kv
}

// decide tells observers and plugins what was chosen and hands the legs over to the decision.
func (p *plan) decide(c *Cycle) Decision {
	c.observe()
	if !c.preview {
		c.commit()
	}
	primary := 0
	for i := range c.legs {
		if c.legs[i].stage.primary() {
			primary = i
		}
	}
	l := &c.legs[primary]
	relieved := c.prefillTaken()
	if relieved {
		c.pool.ledger.prefilled(&l.charge)
	}
	d := l.decision(c.Request, c.pool.reservation(l.charge))
	if len(c.legs) > 1 {
		a := d.Reservation.account
		a.mu.Lock()
		a.relieved = relieved
		for i := range c.legs {
			if i != primary {
				a.legs = append(a.legs, heldLeg{c.legs[i], c.pool.reservation(c.legs[i].charge)})
			}
		}
		a.mu.Unlock()
	}
	d.Explanation.stages(p, c.legs)
	clear(c.legs)
	c.legs = c.legs[:0]
	return d
}

// commit tells the plugins of each stage what it chose.
func (c *Cycle) commit() {
	for i := range c.legs {
		l := &c.legs[i]
		if len(c.legs) > 1 {
			c.enter(l.stage)
			l.stage.produce(c)
			if l.predicted.Known() {
				c.Predictions()[l.places[0].slot] = l.predicted
			}
		}
		c.Source = Source{}
		for _, committer := range l.stage.committers {
			committer.Commit(c, l.places[0].slot)
		}
		l.source = c.Source
	}
}

// produce fills in what the stage's plugins need, unless an earlier stage's producers were the same.
func (st *stage) produce(c *Cycle) {
	if c.produced == st.produces {
		return
	}
	c.produced = st.produces
	n := c.Snapshot.Len()
	c.loads, c.seen = resize(c.loads, n), resize(c.seen, n)
	c.elsewhere = c.pool.elsewhere.Load()
	c.counted = [counts]bool{}
	c.Match.Known = false
	c.Match.Cached = resize(c.Match.Cached, n)
	clear(c.Match.Cached)
	c.Match.Media = c.Match.Media[:0]
	c.predicted = c.predicted[:0]
	for _, p := range st.profile.Producers {
		p.Produce(c)
	}
}

// candidates freezes the ledger and filters the endpoints that serve the model. It names the filter that left none.
func (st *stage) candidates(c *Cycle, x *Explanation) (slots []Slot, filter string, err error) {
	c.counted = [counts]bool{}
	c.full = c.full[:0]
	able, known := c.Snapshot.candidates(c.Request.Model, c.Request.Adapter)
	if !known {
		return nil, "", ErrUnknownModel
	}
	slots = resize(c.slots, len(able))[:0]
	for _, slot := range able {
		l := c.pool.ledger.read(slot)
		// A slot of another generation is changing hands: the snapshot that says so is about to be published.
		if l.generation() == uint16(c.Snapshot.generations[slot]) && l.requests() < maxRequest {
			c.see(slot, l)
			slots = append(slots, slot)
		}
	}
	if c.observers != nil {
		c.freeze(slots)
	}
	return st.filter(c, slots, x)
}

// filter returns which of the slots the filters leave, or ErrNoEndpoint, or the error of a Refuser, and which of them
// left none.
func (st *stage) filter(c *Cycle, slots []Slot, x *Explanation) (left []Slot, filter string, err error) {
	c.slots = slots
	for _, p := range st.predictors {
		p.Predict(c, slots)
	}
	empty := ErrNoEndpoint
	for i, f := range st.profile.Filters {
		if len(slots) == 0 {
			break
		}
		x.before(slots)
		slots = f.Filter(c, slots)
		filter = st.filters[i]
		x.removed(c, filter, slots)
		if refuser, ok := f.(Refuser); ok && len(slots) == 0 {
			empty = refuser.Refusal()
		}
	}
	if len(slots) == 0 && len(c.full) > 0 {
		return nil, filter, ErrFull
	}
	if len(slots) == 0 {
		return nil, filter, empty
	}
	x.candidates(c, slots, len(st.scorers))
	return slots, "", nil
}

// score returns the weighted mean of the scores of each slot. Where a scorer abstains it counts as the mean of what it
// gave the others, and where it abstains for all it does not count.
func (st *stage) score(c *Cycle, slots []Slot, x *Explanation) []float64 {
	c.scores, c.sums = resize(c.scores, len(slots)), resize(c.sums, len(slots))
	scores, sums := c.scores, c.sums
	clear(sums)
	weight := 0.0
	for i, w := range st.profile.Scorers {
		w.Scorer.Score(c, slots, scores)
		abstained := 0
		for j, v := range scores {
			if v >= 0 && v <= 1 {
				sums[j] += w.Weight * v
				continue
			}
			if math.IsNaN(v) || math.IsInf(v, 0) {
				scores[j] = Abstain
				abstained++
				continue
			}
			scores[j] = min(max(v, 0), 1)
			sums[j] += w.Weight * scores[j]
		}
		x.scored(st.scorers[i], w.Weight, scores)
		if abstained == len(scores) {
			continue
		}
		weight += w.Weight
		if abstained > 0 {
			fill(sums, scores, w.Weight)
		}
	}
	if weight > 0 {
		for j, share := 0, 1/weight; j < len(sums); j++ {
			sums[j] *= share
		}
	}
	x.totals(sums)
	return sums
}

// fill gives those of whom a scorer knew nothing the mean of what it gave the others.
func fill(sums, scores []float64, weight float64) {
	total, voted := 0.0, 0
	for _, v := range scores {
		if !math.IsNaN(v) {
			total += v
			voted++
		}
	}
	for j, v := range scores {
		if math.IsNaN(v) {
			sums[j] += weight * total / float64(voted)
		}
	}
}

func (st *stage) rank(c *Cycle, slots []Slot, scores []float64) []int {
	ranked := c.ranked[:0]
	if st.profile.Picker != nil {
		ranked = st.profile.Picker.Pick(c, slots, scores, ranked)
		ranked = slices.DeleteFunc(ranked, func(i int) bool { return i < 0 || i >= len(slots) })
	}
	if len(ranked) == 0 {
		ranked = c.Rank(slots, scores, c.ranked[:0])
	}
	return ranked
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
