package scheduling

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
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
	Profile Profile
	// MaxMetricAge is the age from which a metric counts as missing; 0 means DefaultMaxMetricAge.
	MaxMetricAge time.Duration
	// Seed makes random choices repeatable; 0 draws one.
	Seed uint64
}

// Errors of Pick; a *PickError wraps one of them.
var (
	ErrUnknownModel = errors.New("unknown model")
	ErrNoEndpoint   = errors.New("no endpoint available")
)

// PickError says why a request could not be placed.
type PickError struct {
	Model, Adapter string
	// Filter is the one that removed the last candidate, if one did.
	Filter string
	Err    error
}

func (e *PickError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v for model %q", e.Err, e.Model)
	if e.Adapter != "" {
		fmt.Fprintf(&b, " with adapter %q", e.Adapter)
	}
	if e.Filter != "" {
		fmt.Fprintf(&b, ": %s left none", e.Filter)
	}
	return b.String()
}

func (e *PickError) Unwrap() error { return e.Err }

// Scheduler places requests on the endpoints of a pool. It is safe for concurrent use.
type Scheduler struct {
	pool       *Pool
	profile    Profile
	committers []Committer
	names      names
	maxAge     time.Duration
	seed       uint64
	picks      atomic.Uint64
	cycles     sync.Pool
}

type names struct{ filters, scorers []string }

// New makes a scheduler over a pool, or reports every problem with the options.
func New(pool *Pool, o Options) (*Scheduler, error) {
	s := &Scheduler{pool: pool, profile: o.Profile, maxAge: o.MaxMetricAge, seed: o.Seed}
	var problems []error
	if pool == nil {
		problems = append(problems, errors.New("pool: nil"))
	}
	if o.MaxMetricAge < 0 {
		problems = append(problems, fmt.Errorf("max metric age %v: negative", o.MaxMetricAge))
	}
	check := func(plugin any, path string) {
		if v := reflect.ValueOf(plugin); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			problems = append(problems, fmt.Errorf("profile.%s: nil", path))
			return
		}
		if v, ok := plugin.(Validator); ok {
			if err := v.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("profile.%s (%s): %w", path, nameOf(plugin), err))
			}
		}
		if c, ok := plugin.(Committer); ok {
			s.committers = append(s.committers, c)
		}
	}
	for i, p := range o.Profile.Producers {
		check(p, fmt.Sprintf("producers[%d]", i))
	}
	for i, f := range o.Profile.Filters {
		check(f, fmt.Sprintf("filters[%d]", i))
		s.names.filters = append(s.names.filters, nameOf(f))
	}
	s.profile.Scorers = slices.Clone(o.Profile.Scorers)
	for i := range s.profile.Scorers {
		w := &s.profile.Scorers[i]
		check(w.Scorer, fmt.Sprintf("scorers[%d]", i))
		if w.Weight < 0 || math.IsNaN(w.Weight) || math.IsInf(w.Weight, 0) {
			problems = append(problems, fmt.Errorf("profile.scorers[%d].weight %v: not a positive number", i, w.Weight))
		}
		if w.Weight == 0 {
			w.Weight = 1
		}
		s.names.scorers = append(s.names.scorers, nameOf(w.Scorer))
	}
	if o.Profile.Picker != nil {
		check(o.Profile.Picker, "picker")
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if s.maxAge == 0 {
		s.maxAge = DefaultMaxMetricAge
	}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	s.cycles.New = func() any { return new(Cycle) }
	return s, nil
}

// nameOf is a plugin's type as a user wrote it: scorer.Queue.
func nameOf(plugin any) string { return strings.TrimPrefix(fmt.Sprintf("%T", plugin), "*") }

// Pool returns the pool that the scheduler places requests on.
func (s *Scheduler) Pool() *Pool { return s.pool }

// Pick chooses an endpoint for the request and accounts for it in one step. The caller ends the decision with Done. The
// error is a *PickError, or the context's.
func (s *Scheduler) Pick(ctx context.Context, r *Request) (Decision, error) {
	c := s.begin(r)
	defer s.end(c)
	s.produce(c)
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return Decision{}, err
		}
		if snap := s.pool.Snapshot(); snap.layout != c.Snapshot.layout {
			c.Snapshot = snap
			s.produce(c)
		}
		var x *Explanation
		if r.Explain {
			x = &Explanation{Model: r.Model, Adapter: r.Adapter, PromptTokens: c.PromptTokens, Attempts: attempt}
		}
		slots, err := s.candidates(c, x)
		if err != nil {
			return Decision{}, err
		}
		scores := s.score(c, slots, x)
		ranked := s.rank(c, slots, scores)
		slot := slots[ranked[0]]
		charge, ok := s.pool.ledger.take(slot, c.loads[slot], c.Uncached(slot), c.PromptTokens)
		if !ok {
			continue // more was placed there since the ledger was read: choose again, knowing it
		}
		for _, p := range s.committers {
			p.Commit(c, slot)
		}
		d := Decision{
			scheduler: s, request: r, Explanation: x, Source: c.Source,
			Score: scores[ranked[0]], Reservation: s.pool.reservation(charge),
		}
		for _, i := range ranked {
			d.push(c, slots[i])
		}
		d.stand(0)
		x.rank(ranked)
		return d, nil
	}
}

func (s *Scheduler) begin(r *Request) *Cycle {
	c := s.cycles.Get().(*Cycle)
	c.Request = r
	c.Snapshot = s.pool.Snapshot()
	c.PromptTokens = r.Prompt.Len()
	c.pool = s.pool
	c.now = s.pool.now().UnixNano()
	c.freshAfter = c.now - int64(s.maxAge)
	c.seed = s.seed + s.picks.Add(1)<<20
	c.draws = 0
	return c
}

func (s *Scheduler) end(c *Cycle) {
	for i := range c.chains {
		c.chains[i].filled = false
	}
	c.Request, c.Snapshot, c.Source = nil, nil, Source{}
	s.cycles.Put(c)
}

func (s *Scheduler) produce(c *Cycle) {
	n := c.Snapshot.Len()
	c.loads = resize(c.loads, n)
	c.counted = [counts]bool{}
	c.Match.Known = false
	c.Match.Cached = resize(c.Match.Cached, n)
	clear(c.Match.Cached)
	c.Match.Media = c.Match.Media[:0]
	for _, p := range s.profile.Producers {
		p.Produce(c)
	}
}

// candidates freezes the ledger and filters the endpoints that serve the model.
func (s *Scheduler) candidates(c *Cycle, x *Explanation) ([]Slot, error) {
	c.counted = [counts]bool{}
	r := c.Request
	able, known := c.Snapshot.candidates(r.Model, r.Adapter)
	if !known {
		return nil, &PickError{Model: r.Model, Adapter: r.Adapter, Err: ErrUnknownModel}
	}
	slots := resize(c.slots, len(able))[:0]
	for _, slot := range able {
		l := s.pool.ledger.read(slot)
		// A slot of another generation is changing hands: the snapshot that says so is about to be published.
		if l.generation() == uint16(c.Snapshot.generations[slot]) && l.requests() < maxRequest {
			c.loads[slot] = l
			slots = append(slots, slot)
		}
	}
	c.slots = slots
	last := ""
	for i, f := range s.profile.Filters {
		if len(slots) == 0 {
			break
		}
		x.before(slots)
		slots = f.Filter(c, slots)
		last = s.names.filters[i]
		x.removed(c, last, slots)
	}
	if len(slots) == 0 {
		return nil, &PickError{Model: r.Model, Adapter: r.Adapter, Filter: last, Err: ErrNoEndpoint}
	}
	x.candidates(c, slots)
	return slots, nil
}

// score returns the weighted mean of the scores of each slot. Where a scorer abstains it counts as the mean of what it
// gave the others, and where it abstains for all it does not count.
func (s *Scheduler) score(c *Cycle, slots []Slot, x *Explanation) []float64 {
	c.scores, c.sums = resize(c.scores, len(slots)), resize(c.sums, len(slots))
	scores, sums := c.scores, c.sums
	clear(sums)
	weight := 0.0
	for i, w := range s.profile.Scorers {
		w.Scorer.Score(c, slots, scores)
		x.scored(s.names.scorers[i], w.Weight, scores)
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

func (s *Scheduler) rank(c *Cycle, slots []Slot, scores []float64) []int {
	ranked := c.ranked[:0]
	if s.profile.Picker != nil {
		ranked = s.profile.Picker.Pick(c, slots, scores, ranked)
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
