package enginemetrics

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Options are the parameters of a Scraper. The zero value works.
type Options struct {
	// Sources are what pages may say; nil means Builtin.
	Sources []Source
	// Custom selects metrics of the program's own.
	Custom map[scheduling.Metric]string
	// URL is where an endpoint's page is; nil means http://ADDRESS/metrics. Endpoints with the same URL share a page.
	URL func(*scheduling.Endpoint) string
	// Header is sent with every request, TLS is for https.
	Header http.Header
	TLS    *tls.Config

	// MinInterval is the time between two readings of a busy endpoint, 0 means 100 ms; MaxInterval that of an idle one, 0 means
	// 1 s; MaxBackoff that of one which does not answer, 0 means 10 s.
	MinInterval, MaxInterval, MaxBackoff time.Duration
	// Timeout bounds a reading; 0 means 1 s.
	Timeout time.Duration
	// Workers is how many endpoints can be read at once, each by a goroutine; 0 means 8.
	Workers int
	// MaxPageBytes bounds a page; 0 means 8 MB.
	MaxPageBytes int64
	// Observe is told of each reading, by the goroutine that runs Run; nil means nobody. It must not block.
	Observe func(Reading)
	// Seed determines how intervals are spread.
	Seed uint64
}

// Reading is one attempt to read a page.
type Reading struct {
	URL string
	// Took is how long it took, Bytes how long the page was.
	Took  time.Duration
	Bytes int
	// Err is nil if the page said something of use.
	Err error
}

// ErrNothing says that a page had no metric of any source.
var ErrNothing = errors.New("the page has none of the metrics that are looked for")

func (o *Options) validate() error {
	var errs []error
	notNegative := func(name string, v int64, print any) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s is %v, want 0 or more", name, print))
		}
	}
	notNegative("MinInterval", int64(o.MinInterval), o.MinInterval)
	notNegative("MaxInterval", int64(o.MaxInterval), o.MaxInterval)
	notNegative("MaxBackoff", int64(o.MaxBackoff), o.MaxBackoff)
	notNegative("Timeout", int64(o.Timeout), o.Timeout)
	notNegative("Workers", int64(o.Workers), o.Workers)
	notNegative("MaxPageBytes", o.MaxPageBytes, o.MaxPageBytes)
	o.MinInterval = cmp.Or(o.MinInterval, 100*time.Millisecond)
	o.MaxInterval = cmp.Or(o.MaxInterval, max(time.Second, o.MinInterval))
	o.MaxBackoff = cmp.Or(o.MaxBackoff, max(10*time.Second, o.MaxInterval))
	o.Timeout = cmp.Or(o.Timeout, time.Second)
	o.Workers = cmp.Or(o.Workers, 8)
	o.MaxPageBytes = cmp.Or(o.MaxPageBytes, 8<<20)
	if o.MaxInterval < o.MinInterval {
		errs = append(errs, fmt.Errorf("MaxInterval is %v, less than MinInterval, %v", o.MaxInterval, o.MinInterval))
	}
	if o.MaxBackoff < o.MinInterval {
		errs = append(errs, fmt.Errorf("MaxBackoff is %v, less than MinInterval, %v", o.MaxBackoff, o.MinInterval))
	}
	if o.URL == nil {
		o.URL = func(e *scheduling.Endpoint) string { return "http://" + e.Address + "/metrics" }
	}
	if o.Sources == nil {
		o.Sources = Builtin()
	}
	return errors.Join(errs...)
}

// Scraper keeps a pool's metrics fresh.
type Scraper struct {
	o      Options
	pool   *scheduling.Pool
	parser *Parser
	random *rand.Rand

	targets map[string]*target // by URL
	homes   map[scheduling.Slot]*target
	queue   targetQueue // those that wait for their time
	ready   []*target   // those whose time has come, for workers
	states  []scheduling.State
	flush   time.Time // when states are reported; zero while there are none
}

// flushAfter is how long the first result waits for others, so that the pool is told of a round at once.
const flushAfter = 5 * time.Millisecond

// New makes a Scraper. It reports every invalid option at once.
func New(pool *scheduling.Pool, o Options) (*Scraper, error) {
	err := o.validate()
	parser, bad := NewParser(o.Sources, o.Custom)
	if pool == nil {
		err = errors.Join(err, errors.New("pool is nil"))
	}
	if err := errors.Join(err, bad); err != nil {
		return nil, err
	}
	return &Scraper{o: o, pool: pool, parser: parser}, nil
}

// Run reads the pool's endpoints until ctx is done. It returns ctx's error. It must not be called twice at once.
func (s *Scraper) Run(ctx context.Context) error {
	s.random = rand.New(rand.NewPCG(s.o.Seed, 0))
	s.targets, s.homes = map[string]*target{}, map[scheduling.Slot]*target{}
	s.queue, s.ready, s.states, s.flush = nil, nil, nil, time.Time{}

	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan scheduling.Change)
	running.Go(func() {
		for c := range s.pool.Watch(ctx) {
			select {
			case changes <- c:
			case <-ctx.Done():
			}
		}
	})
	work, done := make(chan *target), make(chan *target)
	for range s.o.Workers {
		running.Go(func() {
			r := newReader()
			for {
				select {
				case <-ctx.Done():
					return
				case t := <-work:
					t.read(ctx, &s.o, s.parser, r)
					select {
					case done <- t:
					case <-ctx.Done():
						t.close()
						return
					}
				}
			}
		})
	}
	defer func() {
		for _, t := range s.targets {
			if !t.busy {
				t.close()
			}
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var hand chan *target
		var next *target
		for len(s.ready) > 0 && s.ready[0].gone {
			s.ready = s.ready[1:]
		}
		if len(s.ready) > 0 {
			hand, next = work, s.ready[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-changes:
			s.apply(c)
		case hand <- next:
			next.busy = true
			s.ready = s.ready[1:]
		case t := <-done:
			s.collect(t, time.Now())
		case <-timer.C:
		}
		timer.Reset(s.advance(time.Now()))
	}
}

// apply follows a change in the pool.
func (s *Scraper) apply(c scheduling.Change) {
	at := ""
	if c.Kind != scheduling.Removed {
		at = s.o.URL(c.Endpoint)
	}
	if t := s.homes[c.Slot]; t != nil {
		delete(s.homes, c.Slot)
		t.remove(c.Slot)
		if len(t.endpoints) == 0 && t.url != at {
			t.gone = true
			delete(s.targets, t.url)
			if !t.busy {
				t.close()
			}
		}
	}
	if c.Kind == scheduling.Removed {
		return
	}
	t := s.targets[at]
	if t == nil {
		t = &target{url: at, interval: s.o.MinInterval}
		t.address, _ = url.Parse(at) // what is no URL fails when it is dialled
		s.targets[at] = t
		t.due = time.Now().Add(time.Duration(s.random.Int64N(int64(s.o.MinInterval) + 1)))
		heap.Push(&s.queue, t)
	}
	s.homes[c.Slot] = t
	t.endpoints = append(t.endpoints, endpoint{c.Endpoint.ID, c.Slot, c.Endpoint.Rank})
}

// collect takes in what a worker has read.
func (s *Scraper) collect(t *target, now time.Time) {
	t.busy = false
	if s.o.Observe != nil {
		s.o.Observe(Reading{URL: t.url, Took: t.took, Bytes: t.bytes, Err: t.err})
	}
	if t.gone {
		t.close()
		return
	}
	switch {
	case t.err != nil:
		t.interval = min(max(2*t.interval, s.o.MinInterval), s.o.MaxBackoff)
	case t.changed || s.inFlight(t):
		t.interval = s.o.MinInterval
	default:
		t.interval = min(2*t.interval, s.o.MaxInterval)
	}
	if t.err == nil {
		if s.flush.IsZero() {
			s.flush = now.Add(flushAfter)
		}
		s.states = t.appendStates(s.states)
	}
	spread := float64(t.interval) * (.9 + .2*s.random.Float64())
	t.due = now.Add(time.Duration(spread))
	heap.Push(&s.queue, t)
}

func (s *Scraper) inFlight(t *target) bool {
	for _, e := range t.endpoints {
		if s.pool.InFlight(e.slot).Requests > 0 {
			return true
		}
	}
	return false
}

// advance does what is due and returns the time until something is.
func (s *Scraper) advance(now time.Time) time.Duration {
	for len(s.queue) > 0 && !s.queue[0].due.After(now) {
		if t := heap.Pop(&s.queue).(*target); !t.gone {
			s.ready = append(s.ready, t)
		}
	}
	if !s.flush.IsZero() && !s.flush.After(now) {
		_ = s.pool.Report(s.states...) // the endpoints that it does not know have just gone
		s.states, s.flush = s.states[:0], time.Time{}
	}
	wait := time.Hour
	if len(s.queue) > 0 {
		wait = s.queue[0].due.Sub(now)
	}
	if !s.flush.IsZero() {
		wait = min(wait, s.flush.Sub(now))
	}
	return wait
}

// targetQueue is a heap by due time.
type targetQueue []*target

func (q targetQueue) Len() int           { return len(q) }
func (q targetQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q targetQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *targetQueue) Push(t any)        { *q = append(*q, t.(*target)) }
func (q *targetQueue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return t
}
