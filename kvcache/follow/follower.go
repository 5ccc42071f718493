package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// Options are the parameters of a Follower; Index is required.
type Options struct {
	Index *kvcache.Index
	// KeepOnGap keeps what is known of an engine when batches of it were lost for good. The index then claims blocks whose
	// removal was among them, until the engine stores and removes them again. Otherwise all is forgotten, and the index claims
	// too little for a while.
	KeepOnGap bool
	// Hold holds all events back until Join or Release, of the engines that are there by then.
	Hold bool
	// Also, if set, returns a sink that is told the same of an engine, just after the index; nil is none. It is called
	// whenever an engine begins to be followed. A sink that is an io.Closer is closed when the engine no longer is. Set, Add and
	// Remove wait for both.
	Also func(Engine) events.Sink

	Logger *slog.Logger     // nil logs nothing
	Now    func() time.Time // nil is time.Now

	// As in events.Options, for each engine.
	MaxMessageBytes        int
	MinBackoff, MaxBackoff time.Duration
	ReplayTimeout          time.Duration
	Random                 func() float64
	Dial                   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Follower follows a changing set of engines. It is safe for concurrent use.
type Follower struct {
	o    Options
	wake chan struct{} // holds a signal while Run has something to look at

	engines atomic.Pointer[[]Engine] // what Engines returns

	mu    sync.Mutex
	feeds map[string]*feed
	ended []*feed // whose goroutines Run has to end
	hold  bool
}

// New checks the options. Nothing is connected before Run.
func New(o Options) (*Follower, error) {
	if o.Index == nil {
		return nil, errors.New("follow: Index is nil")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Follower{o: o, wake: make(chan struct{}, 1), feeds: map[string]*feed{}, hold: o.Hold}
	f.engines.Store(new([]Engine))
	// What is wrong with the connections' options is found with the first engine otherwise.
	if _, err := f.subscriber(&Engine{Endpoint: "tcp://host:1"}, &feed{}); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	return f, nil
}

func (f *Follower) subscriber(e *Engine, sink events.Sink) (*events.Subscriber, error) {
	return events.NewSubscriber(events.Options{
		Endpoint: e.Endpoint, Replay: e.Replay, Topic: e.Topic, BlockTokens: e.BlockTokens,
		MaxMessageBytes: f.o.MaxMessageBytes, MinBackoff: f.o.MinBackoff, MaxBackoff: f.o.MaxBackoff,
		ReplayTimeout: f.o.ReplayTimeout, Logger: f.o.Logger, Random: f.o.Random, Dial: f.o.Dial,
	}, sink)
}

// Set makes these the engines that are followed: it begins, ends, and begins anew what differs. When it returns, those that
// are gone have left the index, whatever is still under way from them. If one is invalid nothing changes; those that the index
// has no place for are left out.
func (f *Follower) Set(engines []Engine) error {
	wanted := make(map[string]Engine, len(engines))
	places := make(map[uint32]string, len(engines))
	var errs []error
	for _, e := range engines {
		if _, twice := wanted[e.Name]; twice {
			errs = append(errs, fmt.Errorf("engine %q: given twice", e.Name))
		} else if other, taken := places[e.Pod.ID]; taken {
			errs = append(errs, fmt.Errorf("engine %q: pod %d is the place of %q", e.Name, e.Pod.ID, other))
		}
		wanted[e.Name], places[e.Pod.ID] = e, e.Name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var begin []*feed
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if have, ok := f.feeds[name]; ok && have.engine == wanted[name] {
			continue
		}
		d, err := f.newFeed(wanted[name])
		if err != nil {
			errs = append(errs, err)
		}
		begin = append(begin, d)
	}
	if len(errs) > 0 {
		return fmt.Errorf("follow: %w", errors.Join(errs...))
	}
	for name, have := range f.feeds {
		if want, ok := wanted[name]; !ok || want != have.engine {
			f.end(have)
		}
	}
	for _, d := range begin {
		if err := f.begin(d); err != nil {
			errs = append(errs, err)
		}
	}
	f.changed()
	return errors.Join(errs...)
}

// Add follows one more engine, or begins anew with one that has changed. Nothing happens for one that has not.
func (f *Follower) Add(e Engine) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, ok := f.feeds[e.Name]
	if ok && have.engine == e {
		return nil
	}
	d, err := f.newFeed(e)
	for name, other := range f.feeds {
		if name != e.Name && other.engine.Pod.ID == e.Pod.ID {
			err = errors.Join(err, fmt.Errorf("engine %q: pod %d is the place of %q", e.Name, e.Pod.ID, name))
		}
	}
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if ok {
		f.end(have)
	}
	defer f.changed()
	return f.begin(d)
}

// Remove ends the following of an engine and takes it out of the index. It reports whether there was one.
func (f *Follower) Remove(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, ok := f.feeds[name]
	if ok {
		f.end(have)
		f.changed()
	}
	return ok
}

// Engines returns those that are followed, by name. It takes no lock, and returns the same slice until something changes, which
// is not to be written to.
func (f *Follower) Engines() []Engine { return *f.engines.Load() }

func (f *Follower) sorted() []*feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byName()
}

func (f *Follower) byName() []*feed {
	return slices.SortedFunc(maps.Values(f.feeds), func(a, b *feed) int { return cmp.Compare(a.engine.Name, b.engine.Name) })
}

func (f *Follower) newFeed(e Engine) (*feed, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	d := &feed{f: f, engine: e}
	if e.Connects {
		return d, nil
	}
	var err error
	d.sub, err = f.subscriber(&e, d)
	return d, err
}

// begin opens a feed's pod and leaves it to Run to subscribe. The caller holds the lock, and calls changed.
func (f *Follower) begin(d *feed) error {
	if err := f.o.Index.Open(d.engine.Pod, d.engine.pod()); err != nil {
		return fmt.Errorf("follow: engine %q: %w", d.engine.Name, err)
	}
	if f.o.Also != nil {
		d.also = f.o.Also(d.engine)
	}
	if f.hold {
		d.gate = &gate{open: make(chan struct{}), held: make(chan struct{})}
	}
	f.feeds[d.engine.Name] = d
	return nil
}

// end closes a feed's pod at once; its goroutine is Run's to end. The caller holds the lock, and calls changed.
func (f *Follower) end(d *feed) {
	delete(f.feeds, d.engine.Name)
	d.close()
	f.ended = append(f.ended, d)
}

// changed publishes who is followed and wakes Run. The caller holds the lock.
func (f *Follower) changed() {
	all := make([]Engine, 0, len(f.feeds))
	for _, d := range f.byName() {
		all = append(all, d.engine)
	}
	f.engines.Store(&all)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run follows the engines until the context ends, and returns the context's error when all its goroutines have. The index stays
// as it is. Run may be called again afterwards, but not twice at a time.
func (f *Follower) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := map[*feed]context.CancelFunc{}
	for {
		for _, d := range f.due(running) {
			if stop, ok := running[d]; ok {
				stop()
				delete(running, d)
				continue
			}
			feedCtx, stop := context.WithCancel(ctx)
			running[d] = stop
			all.Go(func() { d.run(feedCtx) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
	}
}

// due returns the feeds that are to be ended, which are in running, and those that are to be begun.
func (f *Follower) due(running map[*feed]context.CancelFunc) (due []*feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.ended {
		if _, ok := running[d]; ok {
			due = append(due, d)
		}
	}
	f.ended = nil
	for _, d := range f.feeds {
		if _, ok := running[d]; !ok {
			due = append(due, d)
		}
	}
	return due
}
