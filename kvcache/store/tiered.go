package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// TieredOptions are the parameters of a Tiered. Levels is required.
type TieredOptions struct {
	// Levels are the stores, the fastest first.
	Levels []Level
	// AbsentFor is how long a page that no level had is taken for absent without asking again, 0 for not at all. It spares
	// remote levels, and hides for as long what another process has put there.
	AbsentFor time.Duration
	// Keys is about how many keys Sightings, SelectiveHits and PromoteAfter tell apart; 0 means a million, for 4 MiB.
	Keys int
	// Now is the clock of budgets and absences; nil is time.Now.
	Now func() time.Time
}

// Tiered is several stores as one. It implements Store, Batcher, Streamer and Flusher.
//
// A Put writes to the first level and returns; the others are written in the background, from the page as the first level has it.
// Where the first does not want a page, the next one is written at once. Get asks level after level, and copies what it found
// below into the levels above. Several Gets of one page at a time read it once. A level that fails is passed over, and after some
// failures left alone for a while: what it has is then absent, not an error, unless all levels fail.
//
// A page that is being moved is held by a reference, in memory and not copied. Close drops what waits; Flush waits for it.
type Tiered struct {
	levels    []*level
	sightings *Sightings // nil if no level looks at them
	absent    absences
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup // writers and flights

	mu      sync.Mutex
	closed  atomic.Bool // changed under mu
	moves   map[Key][]*move
	flights map[Key]*flight
}

var (
	_ Store    = (*Tiered)(nil)
	_ Batcher  = (*Tiered)(nil)
	_ Flusher  = (*Tiered)(nil)
	_ Streamer = (*Tiered)(nil)
)

// NewTiered makes a store of levels, which it closes in the end. It reports every invalid option at once.
func NewTiered(o TieredOptions) (*Tiered, error) {
	var errs []error
	if len(o.Levels) == 0 {
		errs = append(errs, errors.New("Levels: none"))
	}
	if o.AbsentFor < 0 {
		errs = append(errs, fmt.Errorf("AbsentFor is %v, want 0 or more", o.AbsentFor))
	}
	if o.Keys < 0 {
		errs = append(errs, fmt.Errorf("Keys is %d, want 0 or more", o.Keys))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Tiered{
		absent: absences{ttl: o.AbsentFor, now: o.Now, seed: maphash.MakeSeed()},
		moves:  map[Key][]*move{}, flights: map[Key]*flight{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	names := map[string]bool{}
	for i, options := range o.Levels {
		l := &level{Level: options, index: i, changed: make(chan struct{})}
		if err := l.validate(); err != nil {
			errs = append(errs, fmt.Errorf("Levels[%d]: %w", i, err))
			continue
		}
		if names[l.Name] {
			errs = append(errs, fmt.Errorf("Levels[%d]: Name is %q, as of another", i, l.Name))
		}
		names[l.Name] = true
		if i > 0 && l.Write == WriteBack {
			if _, ok := o.Levels[i-1].Store.(Evicter); !ok {
				errs = append(errs, fmt.Errorf("Levels[%d]: Write is WriteBack, and the level above does not hand on what it evicts", i))
			}
		}
		if t.sightings == nil && (l.Sightings > 1 || l.PromoteAfter > 1 || l.Write == WriteSelective) {
			t.sightings = NewSightings(cmp.Or(o.Keys, 1_000_000))
		}
		if l.EnduranceBytesPerDay > 0 {
			l.budget = newBudget(l.EnduranceBytesPerDay, o.Now)
		}
		failures := uint32(l.Failures)
		l.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout: l.Cooldown, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
		})
		t.levels = append(t.levels, l)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("tiered store: %w", err)
	}
	for i, l := range t.levels {
		if i == 0 {
			continue
		}
		if l.Write == WriteBack {
			t.levels[i-1].Store.(Evicter).OnEvict(func(key Key, page Page) { t.enqueue(l, key, page) })
		}
		for range l.Writers {
			t.work.Go(func() { t.write(t.ctx, l) })
		}
	}
	return t, nil
}

func (t *Tiered) begin(ctx context.Context, key *Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Put stores a page. It fails only if no level has taken the page.
func (t *Tiered) Put(ctx context.Context, key Key, value []byte, attr Attr) error {
	if err := t.begin(ctx, &key); err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	t.saw(key)
	t.absent.remove(key)
	var errs []error
	for i, l := range t.levels {
		if i > 0 && !t.admits(l, key, attr, int64(len(value))) {
			continue
		}
		err := t.putLevel(ctx, l, key, value, attr)
		if err == nil {
			t.writeThrough(ctx, i, key)
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// saw counts a use of a key, and returns how many there were.
func (t *Tiered) saw(key Key) int {
	if t.sightings == nil {
		return 1
	}
	return t.sightings.Saw(key)
}

// admits reports whether a level is to be written to at once, in place of one above it.
func (t *Tiered) admits(l *level, key Key, attr Attr, bytes int64) bool {
	if l.Admit != nil && !l.Admit(key, attr, bytes) || l.Sightings > 1 && t.sightings.Seen(key) < l.Sightings {
		return false
	}
	if l.budget != nil && !l.budget.take(bytes) {
		l.shed.Add(1)
		return false
	}
	return true
}

// writeThrough has a page that is in a level written to those below it that take all pages.
func (t *Tiered) writeThrough(ctx context.Context, from int, key Key) {
	for _, l := range t.levels[from+1:] {
		if l.Write != WriteThrough {
			continue
		}
		if page, err := t.levels[from].Store.Get(ctx, key); err == nil {
			t.enqueue(l, key, page)
		}
	}
}

// used has a page that was found in a level written to those below it that wait for a number of uses.
func (t *Tiered) used(ctx context.Context, at int, key Key, times int) {
	for _, l := range t.levels[at+1:] {
		if l.Write != WriteSelective || times != l.SelectiveHits {
			continue
		}
		if page, err := t.levels[at].Store.Get(ctx, key); err == nil {
			t.enqueue(l, key, page)
		}
	}
}

// Stat tells of a page and the first level that has it.
func (t *Tiered) Stat(ctx context.Context, key Key) (Info, error) {
	if err := t.begin(ctx, &key); err != nil {
		return Info{}, err
	}
	if t.absent.has(key) {
		return Info{}, ErrNotFound
	}
	info, err := ask(ctx, t.levels, func(ctx context.Context, l *level) (Info, error) {
		info, err := l.Store.Stat(ctx, key)
		info.Level = l.Name
		return info, err
	})
	if errors.Is(err, ErrNotFound) {
		t.absent.add(key)
	}
	return info, err
}

// ask asks level after level. A page that some level does not have is absent, even if others have failed; only if all have,
// that is an error.
func ask[T any](ctx context.Context, levels []*level, do func(ctx context.Context, l *level) (T, error)) (T, error) {
	var answer, none T
	var errs []error
	absent := false
	for _, l := range levels {
		err := l.call(ctx, func(ctx context.Context) (err error) {
			answer, err = do(ctx, l)
			return err
		})
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return none, err
		}
		absent = absent || errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt)
		errs = append(errs, err)
	}
	if absent {
		return none, ErrNotFound
	}
	return none, errors.Join(errs...)
}

// Delete removes a page from all levels, and from what is on its way to them. It tries all, and returns what went wrong: a level
// that could not be reached may still have the page.
func (t *Tiered) Delete(ctx context.Context, key Key) error {
	if err := t.begin(ctx, &key); err != nil {
		return err
	}
	t.mu.Lock()
	moves := append([]*move(nil), t.moves[key]...)
	for _, m := range moves {
		m.cancelled = true
	}
	if f := t.flights[key]; f != nil {
		f.stale = true
		delete(t.flights, key)
		moves = append(moves, &move{done: f.ended})
	}
	t.mu.Unlock()
	for _, m := range moves {
		select {
		case <-m.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var errs []error
	for _, l := range t.levels {
		errs = append(errs, l.call(ctx, func(ctx context.Context) error { return l.Store.Delete(ctx, key) }))
	}
	return errors.Join(errs...)
}

// Pin keeps a page in the first level that has it and can.
func (t *Tiered) Pin(ctx context.Context, key Key, lease time.Duration) error {
	if err := t.begin(ctx, &key); err != nil {
		return err
	}
	_, err := ask(ctx, t.levels, func(ctx context.Context, l *level) (struct{}, error) {
		return struct{}{}, l.Store.Pin(ctx, key, lease)
	})
	return err
}

// Scan lists the pages of all levels, each once, with the first level that has it. It remembers which it has listed. Levels that
// fail are passed over, unless all do.
func (t *Tiered) Scan(ctx context.Context, namespace string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if t.closed.Load() {
			yield(Entry{}, ErrClosed)
			return
		}
		seen := map[Key]struct{}{}
		var errs []error
		for _, l := range t.levels {
			for e, err := range l.Store.Scan(ctx, namespace) {
				if ctx.Err() != nil {
					yield(Entry{}, ctx.Err())
					return
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
					break
				}
				if _, ok := seen[e.Key]; ok {
					continue
				}
				seen[e.Key] = struct{}{}
				e.Info.Level = l.Name
				if !yield(e, nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Entry{}, err)
		} else if len(errs) == len(t.levels) {
			yield(Entry{}, errors.Join(errs...))
		}
	}
}

// Stats tells what was seen of each level.
func (t *Tiered) Stats() []LevelStats {
	out := make([]LevelStats, len(t.levels))
	for i, l := range t.levels {
		out[i] = l.stats()
	}
	return out
}

// Close ends what is under way and closes the levels.
func (t *Tiered) Close() error {
	t.mu.Lock()
	if t.closed.Swap(true) {
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	t.cancel()
	t.work.Wait()
	for _, l := range t.levels {
		l.losers.Wait()
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range queue {
			t.run(t.ctx, m) // which only releases it
		}
	}
	var errs []error
	for _, l := range t.levels {
		if err := l.Store.Close(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// absences remembers keys that were not found, by hash.
type absences struct {
	ttl  time.Duration
	now  func() time.Time
	seed maphash.Seed

	mu    sync.Mutex
	until map[uint64]time.Time
}

// maxAbsences bounds the memory; when it is reached all is forgotten, which costs some questions.
const maxAbsences = 1 << 16

func (a *absences) has(key Key) bool {
	if a.ttl == 0 {
		return false
	}
	h := maphash.Comparable(a.seed, key)
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.until[h]
	if ok && a.now().After(until) {
		delete(a.until, h)
		ok = false
	}
	return ok
}

func (a *absences) add(key Key) {
	if a.ttl == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil || len(a.until) >= maxAbsences {
		a.until = map[uint64]time.Time{}
	}
	a.until[maphash.Comparable(a.seed, key)] = a.now().Add(a.ttl)
}

func (a *absences) remove(key Key) {
	if a.ttl == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, maphash.Comparable(a.seed, key))
}
