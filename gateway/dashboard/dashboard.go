package dashboard

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// What Options mean where they do not say.
const (
	DefaultWindow    = 5 * time.Minute
	DefaultRecent    = time.Minute
	DefaultStep      = 5 * time.Second
	DefaultDecisions = 50
	DefaultFailures  = 20
	DefaultMaxRows   = 200
)

// maxSteps bounds how finely a window may be divided, and so its memory.
const maxSteps = 3600

// Options are the parameters of a Dashboard; Pool is required.
type Options struct {
	// Pool is whose endpoints are shown.
	Pool *scheduling.Pool
	// Flow is whose queues are shown; nil shows none.
	Flow *flow.Controller
	// Title tells this gateway from others, at the top of the page; empty shows none.
	Title string
	// Window is how far back the charts reach; 0 means DefaultWindow.
	Window time.Duration
	// Recent is how far back the figures of an endpoint and of the whole gateway reach; 0 means DefaultRecent, or Window
	// if that is shorter. Each Step of it costs 0.7 KiB an endpoint.
	Recent time.Duration
	// Step is the resolution of both, which must be multiples of it; 0 means DefaultStep. A chart shows complete steps;
	// the figures include the running one, and so cover up to a step less than Recent.
	Step time.Duration
	// Decisions is how many of the last decisions are kept; 0 means DefaultDecisions. Their explanations stay in memory
	// as the scheduler made them, about 60 bytes an endpoint and scorer.
	Decisions int
	// Failures is how many of the last failed and rejected requests are kept; 0 means DefaultFailures.
	Failures int
	// MaxRows bounds the endpoints that the page lists, in favour of the busiest; 0 means DefaultMaxRows. One is about
	// 400 bytes of JSON a second for each viewer.
	MaxRows int
	// MaxMetricAge is the age from which an engine's report is marked as stale; 0 means
	// scheduling.DefaultMaxMetricAge. Use the scheduler's.
	MaxMetricAge time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) normalise() error {
	var problems []error
	if o.Pool == nil {
		problems = append(problems, errors.New("pool: nil"))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	count := func(name string, v *int, otherwise int) {
		if *v < 0 {
			problems = append(problems, fmt.Errorf("%s %d: negative", name, *v))
		} else if *v == 0 {
			*v = otherwise
		}
	}
	count("decisions", &o.Decisions, DefaultDecisions)
	count("failures", &o.Failures, DefaultFailures)
	count("max rows", &o.MaxRows, DefaultMaxRows)
	duration := func(name string, v *time.Duration, otherwise time.Duration) {
		if *v < 0 {
			problems = append(problems, fmt.Errorf("%s %v: negative", name, *v))
		} else if *v == 0 {
			*v = otherwise
		}
	}
	duration("step", &o.Step, DefaultStep)
	duration("window", &o.Window, DefaultWindow)
	duration("recent", &o.Recent, min(DefaultRecent, o.Window))
	duration("max metric age", &o.MaxMetricAge, scheduling.DefaultMaxMetricAge)
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	spans := []struct {
		name string
		v    time.Duration
	}{{"window", o.Window}, {"recent", o.Recent}}
	for _, s := range spans {
		if s.v%o.Step != 0 {
			problems = append(problems, fmt.Errorf("%s %v: not a multiple of the step, %v", s.name, s.v, o.Step))
		} else if s.v/o.Step > maxSteps {
			problems = append(problems, fmt.Errorf("%s %v: more than %d steps of %v", s.name, s.v, maxSteps, o.Step))
		}
	}
	if o.Recent > o.Window {
		problems = append(problems, fmt.Errorf("recent %v: longer than the window, %v", o.Recent, o.Window))
	}
	return errors.Join(problems...)
}

// Dashboard observes requests and serves the page that shows them. It is safe for concurrent use.
type Dashboard struct {
	o       Options
	page    page
	started time.Time

	// mu is held for one record, or while one endpoint is read: never for a whole document.
	mu        sync.Mutex
	step      int64         // the running one; steps count from started and never go back
	all       window        // every request
	ever      outcomeCounts // since started
	endpoints map[string]*window
	pruned    int64 // the step in which endpoints were last looked through
	decisions ring[decisionRecord]
	failures  ring[failureRecord]
	explained time.Time // when a decision last came with an explanation
}

// New makes a Dashboard, or reports every problem with the options.
func New(o Options) (*Dashboard, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	page, err := newPage()
	if err != nil {
		return nil, err
	}
	return &Dashboard{
		o: o, page: page, started: o.Now(),
		all:       newWindow(int(o.Window/o.Step) + 1), // the complete steps and the running one
		endpoints: map[string]*window{},
		pruned:    -1,
		decisions: newRing[decisionRecord](o.Decisions),
		failures:  newRing[failureRecord](o.Failures),
	}, nil
}

// Observe implements gateway.Observer.
func (d *Dashboard) Observe(r gateway.Record) {
	outcome := r.Outcome()
	var failure failureRecord
	failing := outcome == failed || outcome == rejected
	now := d.o.Now()
	if failing {
		failure = newFailureRecord(&r, now, outcome)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance(now)
	d.ever[outcome]++
	d.all.at(d.step).count(&r, outcome)
	if w := d.endpoint(r.Endpoint); w != nil {
		w.at(d.step).count(&r, outcome)
	}
	if failing {
		d.failures.push(failure)
	}
	if d.worthKeeping(&r, now) {
		d.decisions.push(newDecisionRecord(&r, now, outcome))
	}
}

// advance moves to the step that now is in. Time comes from a clock that may be read out of order, by goroutines that
// then meet here, or set back; steps only go forward.
func (d *Dashboard) advance(now time.Time) {
	d.step = max(d.step, int64(now.Sub(d.started)/d.o.Step))
}

// endpoint returns the window of the endpoint with the ID, made at its first request; nil for a request that was never
// sent to one, or when there are too many.
func (d *Dashboard) endpoint(id string) *window {
	if id == "" {
		return nil
	}
	if w := d.endpoints[id]; w != nil {
		return w
	}
	if len(d.endpoints) >= d.o.Pool.MaxEndpoints() {
		// Endpoints come and go under new names. Forget those of which nothing is recent, and look at most once a step.
		if d.pruned == d.step {
			return nil
		}
		d.pruned = d.step
		for known, w := range d.endpoints {
			if w.last() <= d.step-d.recentSteps() {
				delete(d.endpoints, known)
			}
		}
		if len(d.endpoints) >= d.o.Pool.MaxEndpoints() {
			return nil
		}
	}
	w := newWindow(int(d.recentSteps()))
	d.endpoints[id] = &w
	return &w
}

func (d *Dashboard) recentSteps() int64 { return int64(d.o.Recent / d.o.Step) }
