package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// longestDrain bounds a run whose drain has no bound.
const longestDrain = 24 * time.Hour

// epoch is the scheduler's wall clock at the start of a simulation.
var epoch = time.Unix(1_000_000_000, 0)

// run is a simulation under way.
type run struct {
	c         *Config
	ctx       context.Context
	observers []Observer
	result    *Result
	log       decisionLog
	failed    error

	now    time.Duration
	timers timers
	wakes  wakes

	gateways   []gateway
	pool       *scheduling.Pool      // of the first gateway
	prefillers *scheduling.Scheduler // with Disagg
	decider    Decider
	gate       Gate
	finished   bool
	placing    *request // what the scheduler is asked for, for the oracle

	nodes   []*node // those that are there, as they came
	bySlot  []*node
	serials int
	joined  []int // by group
	sizes   []int // block sizes of the fleet
	ended   []ended

	geometry []engine.Options // by group, defaults filled in

	next        func() (workload.Request, error, bool)
	coming      workload.Request // the next arrival
	more        bool             // there is one
	taken       int              // from the workload
	deadline    time.Duration    // of the drain, once arrivals are over
	requests    []*request       // by ID; those not in use are in idle
	idle        []*request
	uses        uint64
	inFlight    int // arrived and not ended
	held        int // of them by the gate
	sessions    map[int]*session
	said        map[uint64]struct{} // blocks, with Reuse
	zeros       []uint32            // stand in for the tokens of prompts, which nobody reads
	endedInAll  int
	sinceSample Sample

	arrivedTokens          uint64
	goneLookedUp, goneHits uint64 // of nodes that went
	lookedUp, hits         uint64 // at the last sample
	imbalance              float64
	imbalances             int
	endpointTime           time.Duration // of nodes that went
}

// gateway is a process that places requests. All have the same endpoints in the same slots.
type gateway struct {
	pool    *scheduling.Pool
	sched   *scheduling.Scheduler
	flow    *flow.Controller // nil without Config.Flow
	learner Learner          // of the policy; nil if it has none
	ender   Ender            // likewise
}

// listen finds who of a profile wants to know what becomes of requests.
func (g *gateway) listen(profile scheduling.Profile) {
	for _, p := range profile.Producers {
		if learner, ok := p.(Learner); ok {
			g.learner = learner
		}
		if ender, ok := p.(Ender); ok {
			g.ender = ender
		}
	}
}

// ended is a request that an engine let go of.
type ended struct {
	node   *node
	result engine.Result
}

// Run simulates a configuration to its end. Observers are called as things happen, in simulated order. The error is the
// configuration's (all that is wrong with it), the workload's, the log's, or the context's. Runs share nothing and may go on at
// the same time.
func Run(ctx context.Context, c Config, observers ...Observer) (*Result, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	r := &run{
		c: &c, ctx: ctx, observers: observers,
		result:   &Result{Policy: c.Policy.Name, Seed: c.Seed},
		log:      decisionLog{w: c.Log},
		joined:   make([]int, len(c.Fleet)),
		sessions: map[int]*session{},
	}
	next, stop := iter.Pull2(c.Workload)
	defer stop()
	r.next = next
	if err := r.start(); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	if err := r.loop(); err != nil {
		return nil, fmt.Errorf("simulation at %v: %w", r.now, err)
	}
	r.finish()
	return r.result, r.log.flush()
}

// start makes the fleet and all that drives it.
func (r *run) start() error {
	for i := range r.c.Fleet {
		g := &r.c.Fleet[i]
		e, err := engine.New(0, g.Engine, engine.Hooks{})
		if err != nil {
			return fmt.Errorf("group %q: %w", g.Name, err)
		}
		r.geometry = append(r.geometry, e.Options())
		r.sizeOf(e.Options().BlockTokens) // prompts need it even while a group has no replicas
		for range g.Count {
			if _, err := r.newNode(i); err != nil {
				return err
			}
		}
	}
	var list []scheduling.Endpoint
	for _, n := range r.nodes {
		list = append(list, r.endpoint(n))
	}
	for range r.c.Gateways {
		pool, err := scheduling.NewPool(scheduling.PoolOptions{
			Endpoints: list, MaxEndpoints: r.c.maxEndpoints(), Models: r.models(),
			Now: r.clock,
		})
		if err != nil {
			return err
		}
		r.gateways = append(r.gateways, gateway{pool: pool})
	}
	r.pool = r.gateways[0].pool
	r.mapSlots()
	phase := scheduling.Role(0)
	if r.c.Disagg != nil {
		phase = scheduling.Decode
	}
	for i := range r.gateways {
		g := &r.gateways[i]
		control, err := r.control(g.pool)
		if err != nil {
			return err
		}
		var profile scheduling.Profile
		if g.sched, profile, err = r.scheduler(r.c.Policy, g.pool, phase, control); err != nil {
			return err
		}
		g.listen(profile)
		if control == nil {
			continue
		}
		if g.flow, err = flow.New(g.sched, *control); err != nil {
			return fmt.Errorf("Flow: %w", err)
		}
	}
	if err := r.startDisagg(); err != nil {
		return err
	}
	if r.c.Gate != nil {
		var err error
		if r.gate, err = r.c.Gate(r.env()); err != nil {
			return fmt.Errorf("Gate: %w", err)
		}
	}
	if err := r.startScaling(); err != nil {
		return err
	}
	r.startFaults()
	r.startScraping()
	r.after(r.c.SampleEvery, r.sample)
	return r.pull()
}

// clock is the wall clock of the scheduler and what is plugged into it.
func (r *run) clock() time.Time { return epoch.Add(r.now) }

// models lists the base models of the fleet, known to the pool even while no replica serves them.
func (r *run) models() []string {
	var names []string
	for _, g := range r.c.Fleet {
		if g.Model != "" && !slices.Contains(names, g.Model) {
			names = append(names, g.Model)
		}
	}
	return names
}

func (r *run) env() Env {
	e := Env{Pool: r.pool, MaxEndpoints: r.c.maxEndpoints(), Seed: r.c.Seed, Now: r.clock, run: r}
	for i, g := range r.c.Fleet {
		count := g.Count
		if s := r.c.scaling(i); s != nil {
			count = max(count, s.Max)
		}
		o := &r.geometry[i]
		e.CacheBlocks += count * o.Blocks
		e.CacheTokens += count * o.Blocks * o.BlockTokens
	}
	return e
}

// scheduler makes a scheduler over a pool, restricted to the endpoints that take a phase if one is given.
func (r *run) scheduler(p Policy, pool *scheduling.Pool, phase scheduling.Role, control *flow.Options) (*scheduling.Scheduler, scheduling.Profile, error) {
	env := r.env()
	env.Pool = pool
	profile, err := p.New(env)
	if err != nil {
		return nil, profile, fmt.Errorf("policy %q: %w", p.Name, err)
	}
	if phase != 0 {
		profile.Filters = append([]scheduling.Filter{filter.Role{Phase: phase}}, profile.Filters...)
	}
	if control != nil && control.Gate != nil {
		profile.Filters = append(slices.Clip(profile.Filters), control.Gate)
	}
	s, err := scheduling.New(pool, scheduling.Options{
		Profile: profile, MaxMetricAge: r.c.Scrape.MaxAge, Seed: mix(r.c.Seed) | 1,
	})
	if err != nil {
		return nil, profile, fmt.Errorf("policy %q: %w", p.Name, err)
	}
	return s, profile, nil
}

// loop performs events in order of time. At the same time, what was planned comes first, then the gate, then arrivals, and
// engines last, so that requests that arrive together can share a step.
func (r *run) loop() error {
	for r.failed == nil {
		if r.result.Events++; r.result.Events&1023 == 0 {
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
		if !r.more && r.inFlight == 0 {
			return nil
		}
		const (
			nothing = iota
			timer
			gate
			arrival
			wake
		)
		at, what := time.Duration(0), nothing
		earlier := func(t time.Duration, kind int) {
			if what == nothing || t < at {
				at, what = t, kind
			}
		}
		if len(r.timers.heap) > 0 {
			earlier(r.timers.heap[0].at, timer)
		}
		if r.gate != nil {
			if t, ok := r.gate.NextChange(); ok {
				earlier(t, gate)
			}
		}
		if r.more {
			earlier(r.coming.At, arrival)
		}
		if len(r.wakes) > 0 {
			earlier(r.wakes[0].wakeAt, wake)
		}
		if !r.more && at > r.deadline {
			r.now = r.deadline
			return nil
		}
		r.now = max(r.now, at)
		switch what {
		case timer:
			r.timers.pop()()
		case gate:
			r.gate.Advance(r.now)
		case arrival:
			r.arrive(r.coming)
			if err := r.pull(); err != nil {
				return err
			}
		case wake:
			n := r.wakes[0]
			n.engine.Advance(r.now)
			r.settle(n)
			r.collect()
		}
	}
	return r.failed
}

// pull fetches the next arrival, or notes that there is none.
func (r *run) pull() error {
	w, err, ok := r.next()
	if err != nil {
		return fmt.Errorf("workload: %w", err)
	}
	if ok && r.c.Duration > 0 && w.At > r.c.Duration || r.c.Requests > 0 && r.taken == r.c.Requests {
		ok = false
	}
	if ok && w.At < r.coming.At {
		return fmt.Errorf("workload: request at %v comes after one at %v, want them in order", w.At, r.coming.At)
	}
	if r.more = ok; ok {
		r.taken++
		r.coming = w
		return nil
	}
	r.result.LastArrival = r.now
	r.deadline = r.now + r.c.Drain
	if r.c.Drain < 0 {
		r.deadline = r.now + longestDrain
	}
	r.endpointTimeUpTo()
	return nil
}

// endpointTimeUpTo notes how long the endpoints have been there.
func (r *run) endpointTimeUpTo() {
	r.result.EndpointTime = r.endpointTime
	for _, n := range r.nodes {
		r.result.EndpointTime += r.now - n.joined
	}
}

// at plans something for a time, after for as long from now.
func (r *run) at(at time.Duration, do func()) { r.timers.add(max(at, r.now), do) }

func (r *run) after(wait time.Duration, do func()) { r.at(r.now+wait, do) }

// fail ends the run with an error.
func (r *run) fail(err error) { r.failed = errors.Join(r.failed, err) }

// finish ends what is still under way.
func (r *run) finish() {
	r.gate, r.finished = nil, true // nobody must go on now
	for _, g := range r.gateways {
		if g.flow != nil {
			g.flow.Close()
		}
	}
	var rest []*request
	for _, q := range r.requests {
		if q.active {
			rest = append(rest, q)
		}
	}
	slices.SortFunc(rest, func(a, b *request) int { return a.Request - b.Request })
	for _, q := range rest {
		r.end(q, Unfinished)
	}
	r.result.Simulated = r.now
	r.result.Window = max(0, r.result.LastArrival-r.c.WarmUp)
	r.result.Imbalance = ratio(r.imbalance, float64(r.imbalances))
}
