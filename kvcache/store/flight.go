package store

import (
	"context"
	"errors"
	"sync/atomic"
)

// flight is the one read of a page that no level above had, for all who want it. It ends when the page is there and was copied to
// the levels above, or when nobody waits any more.
type flight struct {
	found  chan struct{} // closed when page or err is set
	ended  chan struct{} // closed when the copies are made
	cancel context.CancelFunc

	// Guarded by the Tiered's lock.
	waiting int
	stale   bool // the page was deleted meanwhile: it is not copied

	page Page
	err  error
	refs atomic.Int64
}

// ReleasePage gives back one of the references to the page.
func (f *flight) ReleasePage(uint64) {
	if f.refs.Add(-1) == 0 {
		f.page.Release()
	}
}

// Get returns a page from the first level that has it.
func (t *Tiered) Get(ctx context.Context, key Key) (Page, error) {
	if err := t.begin(ctx, &key); err != nil {
		return Page{}, err
	}
	times := t.saw(key)
	page, err := t.levels[0].Store.Get(ctx, key)
	if err == nil {
		t.levels[0].hits.Add(1)
		t.used(ctx, 0, key, times)
		return page, nil
	}
	if errors.Is(err, ErrNotFound) {
		t.levels[0].misses.Add(1)
	} else if Broken(err) {
		t.levels[0].failures.Add(1)
	}
	if len(t.levels) == 1 || ctx.Err() != nil {
		return Page{}, err
	}
	if t.absent.has(key) {
		return Page{}, ErrNotFound
	}
	return t.join(ctx, key, err, times)
}

// GetBatch gets many pages, some at once.
func (t *Tiered) GetBatch(ctx context.Context, keys []Key, pages []Page, errs []error) {
	each(len(keys), func(i int) { pages[i], errs[i] = t.Get(ctx, keys[i]) })
}

// PutBatch puts many pages, some at once.
func (t *Tiered) PutBatch(ctx context.Context, items []Item, errs []error) {
	each(len(items), func(i int) { errs[i] = t.Put(ctx, items[i].Key, items[i].Value, items[i].Attr) })
}

// StatBatch stats many pages. A level gets one batch of those that the levels above do not have.
func (t *Tiered) StatBatch(ctx context.Context, keys []Key, infos []Info, errs []error) {
	var left []int
	for i, k := range keys {
		errs[i] = t.begin(ctx, &k)
		if errs[i] == nil && t.absent.has(k) {
			errs[i] = ErrNotFound
		} else if errs[i] == nil {
			left = append(left, i)
		}
	}
	failed := make(map[int][]error)
	for _, l := range t.levels {
		if len(left) == 0 || ctx.Err() != nil {
			break
		}
		some, found, wrong := make([]Key, len(left)), make([]Info, len(left)), make([]error, len(left))
		for j, i := range left {
			some[j] = keys[i]
		}
		err := l.call(ctx, func(ctx context.Context) error {
			StatBatch(ctx, l.Store, some, found, wrong)
			for _, err := range wrong {
				if Broken(err) {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, ErrUnavailable) {
			for j := range wrong {
				wrong[j] = err
			}
		}
		var rest []int
		for j, i := range left {
			if wrong[j] == nil {
				infos[i], errs[i] = found[j], nil
				infos[i].Level = l.Name
				continue
			}
			rest = append(rest, i)
			if Broken(wrong[j]) {
				failed[i] = append(failed[i], wrong[j])
			}
		}
		left = rest
	}
	for _, i := range left {
		switch {
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		case len(failed[i]) == len(t.levels):
			errs[i] = errors.Join(failed[i]...)
		default:
			errs[i] = ErrNotFound
			t.absent.add(keys[i])
		}
	}
}

// join waits for the flight that reads a page, and starts it if there is none. firstErr is why the first level has not answered.
func (t *Tiered) join(ctx context.Context, key Key, firstErr error, times int) (Page, error) {
	t.mu.Lock()
	if t.closed.Load() {
		t.mu.Unlock()
		return Page{}, ErrClosed
	}
	f := t.flights[key]
	if f == nil {
		f = &flight{found: make(chan struct{}), ended: make(chan struct{})}
		var flying context.Context
		flying, f.cancel = context.WithCancel(t.ctx)
		t.flights[key] = f
		f.refs.Store(1)
		t.work.Go(func() { t.fly(flying, f, key, firstErr, times) })
	}
	f.waiting++
	f.refs.Add(1) // the flight is on the list, so it still has its own
	t.mu.Unlock()
	left := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			select {
			case <-f.found:
			default:
				// Nobody wants it any more. Who comes now starts anew.
				f.cancel()
				if t.flights[key] == f {
					delete(t.flights, key)
				}
			}
		}
	}
	defer left()
	select {
	case <-f.found:
	case <-ctx.Done():
		f.ReleasePage(0)
		return Page{}, ctx.Err()
	}
	if f.err != nil {
		f.ReleasePage(0)
		return Page{}, f.err
	}
	return NewPage(f.page.bytes, f.page.Attr(), f, 0), nil
}

// fly reads a page from the levels after the first, and copies it to those above the one that had it.
func (t *Tiered) fly(ctx context.Context, f *flight, key Key, firstErr error, times int) {
	defer f.cancel()
	defer close(f.ended)
	at := 0
	errs := []error{firstErr}
	absent := errors.Is(firstErr, ErrNotFound) || errors.Is(firstErr, ErrCorrupt)
	f.err = ErrNotFound
	for _, l := range t.levels[1:] {
		page, err := l.get(ctx, key)
		if err == nil {
			f.page, f.err, at = page, nil, l.index
			break
		}
		if ctx.Err() != nil {
			f.err = ctx.Err()
			break
		}
		absent = absent || errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt)
		errs = append(errs, err)
	}
	if f.err != nil && ctx.Err() == nil {
		if absent {
			t.absent.add(key)
		} else {
			f.err = errors.Join(errs...)
		}
	}
	t.mu.Lock()
	close(f.found)
	t.mu.Unlock()
	if f.err == nil {
		t.promote(ctx, f, key, at, times)
		t.used(ctx, at, key, times)
	}
	t.mu.Lock()
	if t.flights[key] == f {
		delete(t.flights, key)
	}
	t.mu.Unlock()
	f.ReleasePage(0)
}

// promote copies a page to the levels above the one that had it, the first level first.
func (t *Tiered) promote(ctx context.Context, f *flight, key Key, from, times int) {
	for _, l := range t.levels[:from] {
		t.mu.Lock()
		stale := f.stale
		t.mu.Unlock()
		if stale {
			return
		}
		attr := f.page.Attr()
		bytes := int64(len(f.page.bytes))
		if l.PromoteAfter < 0 || times < l.PromoteAfter || l.Admit != nil && !l.Admit(key, attr, bytes) || l.budget != nil && !l.budget.take(bytes) {
			continue
		}
		if t.putLevel(ctx, l, key, f.page.bytes, attr) == nil {
			l.promoted.Add(1)
		}
	}
}

// Prefetch brings pages into the first level, as Get would, and returns how many it found. It does as many at once as a batch.
func (t *Tiered) Prefetch(ctx context.Context, keys []Key) int {
	var n atomic.Int64
	each(len(keys), func(i int) {
		if p, err := t.Get(ctx, keys[i]); err == nil {
			p.Release()
			n.Add(1)
		}
	})
	return int(n.Load())
}
