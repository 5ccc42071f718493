package store

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// PrefetcherOptions are the parameters of a Prefetcher. Fetch is required.
type PrefetcherOptions struct {
	// Fetch brings pages nearer: Tiered.Prefetch does. It is called by Run, one call at a time.
	Fetch func(ctx context.Context, keys []Key)
	// Quantile is the part of the turns that come sooner than the pages are fetched, above 0 and below 1; 0 means 0.1. Smaller
	// is in time for more turns and takes room for longer.
	Quantile float64
	// MaxSessions bounds how many conversations are waited for, 0 means 100,000: beyond that, new ones are not.
	MaxSessions int
	// Learn is how many pauses must have been seen before anything is fetched; 0 means 30.
	Learn int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Prefetcher predicts when the next turn of a conversation comes, from the pauses of all conversations, and has its pages fetched
// shortly before. It is safe for concurrent use.
type Prefetcher struct {
	o PrefetcherOptions

	mu       sync.Mutex
	sessions map[string]*session
	due      dueSessions
	pauses   [pauseBuckets]float64
	seen     float64
	wake     chan struct{}
	stats    PrefetchStats
}

// PrefetchStats counts turns: those that began with their pages fetched, those that came sooner, and fetches for which no turn
// came in twice the time in which 99 of 100 do.
type PrefetchStats struct{ InTime, TooLate, InVain int64 }

type session struct {
	name    string
	keys    []Key
	ended   time.Time
	at      time.Time // when something is due: the fetch, and then giving up
	fetched bool
	place   int
}

// Pauses are counted in quarters of octaves from 50 ms.
const (
	pauseBuckets = 96
	pauseUnit    = 50 * time.Millisecond
)

// NewPrefetcher makes a Prefetcher that fetches while Run runs. It reports every invalid option at once.
func NewPrefetcher(o PrefetcherOptions) (*Prefetcher, error) {
	var errs []error
	if o.Fetch == nil {
		errs = append(errs, errors.New("Fetch is nil"))
	}
	o.Quantile = cmp.Or(o.Quantile, 0.1)
	if !(o.Quantile > 0 && o.Quantile < 1) {
		errs = append(errs, fmt.Errorf("Quantile is %v, want above 0 and below 1", o.Quantile))
	}
	if o.MaxSessions < 0 || o.Learn < 0 {
		errs = append(errs, fmt.Errorf("MaxSessions is %d and Learn %d, want 0 or more", o.MaxSessions, o.Learn))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("prefetcher: %w", err)
	}
	o.MaxSessions, o.Learn = cmp.Or(o.MaxSessions, 100_000), cmp.Or(o.Learn, 30)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Prefetcher{o: o, sessions: map[string]*session{}, wake: make(chan struct{}, 1)}, nil
}

// Ended says that a turn is over and which pages the next one will want.
func (p *Prefetcher) Ended(name string, keys []Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(p.sessions[name])
	if len(p.sessions) >= p.o.MaxSessions {
		return
	}
	s := &session{name: name, keys: keys, ended: p.o.Now()}
	s.at = s.ended.Add(p.pause(p.o.Quantile))
	p.sessions[name] = s
	heap.Push(&p.due, s)
	p.signal()
}

// Began says that the next turn is there.
func (p *Prefetcher) Began(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[name]
	if s == nil {
		return
	}
	if s.fetched {
		p.stats.InTime++
	} else {
		p.stats.TooLate++
	}
	p.forget(s)
	p.learn(p.o.Now().Sub(s.ended))
}

// Stats tells how good the predictions were.
func (p *Prefetcher) Stats() PrefetchStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *Prefetcher) forget(s *session) {
	if s != nil {
		heap.Remove(&p.due, s.place)
		delete(p.sessions, s.name)
	}
}

func (p *Prefetcher) learn(pause time.Duration) {
	b := int(math.Ceil(4 * math.Log2(max(float64(pause)/float64(pauseUnit), 1))))
	p.pauses[min(b, pauseBuckets-1)]++
	if p.seen++; p.seen >= 10_000 {
		p.seen /= 2
		for i := range p.pauses {
			p.pauses[i] /= 2
		}
	}
}

// pause is the time within which a part of the turns come; a day as long as little is known.
func (p *Prefetcher) pause(part float64) time.Duration {
	if p.seen < float64(p.o.Learn) {
		return 24 * time.Hour
	}
	sum := 0.0
	for b, n := range p.pauses {
		// Of those in a bucket it is not known when: the fetch is to be before.
		if sum += n; sum >= part*p.seen {
			return time.Duration(float64(pauseUnit) * math.Exp2(float64(b-1)/4))
		}
	}
	return 24 * time.Hour
}

func (p *Prefetcher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run fetches pages when they are due, until the context ends.
func (p *Prefetcher) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		wait := 24 * time.Hour
		var keys []Key
		if len(p.due) > 0 {
			s := p.due[0]
			if wait = s.at.Sub(p.o.Now()); wait <= 0 {
				keys = p.act(s)
			}
		}
		p.mu.Unlock()
		if wait <= 0 {
			if keys != nil {
				p.o.Fetch(ctx, keys)
			}
			if ctx.Err() != nil {
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// act does what is due for a session, and returns the pages to fetch, if any.
func (p *Prefetcher) act(s *session) []Key {
	if s.fetched || p.seen < float64(p.o.Learn) {
		if s.fetched {
			p.stats.InVain++
		}
		p.forget(s)
		return nil
	}
	s.fetched = true
	s.at = s.ended.Add(max(2*p.pause(0.99), s.at.Sub(s.ended)+time.Second))
	heap.Fix(&p.due, s.place)
	return s.keys
}

// dueSessions is a heap by time.
type dueSessions []*session

func (d dueSessions) Len() int           { return len(d) }
func (d dueSessions) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d dueSessions) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push is for package heap.
func (d *dueSessions) Push(x any) {
	s := x.(*session)
	s.place = len(*d)
	*d = append(*d, s)
}

// Pop is for package heap.
func (d *dueSessions) Pop() any {
	old := *d
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return s
}
