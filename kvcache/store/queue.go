package store

import (
	"context"
	"errors"
	"time"
)

// move is a page on its way to a level. It holds the page until it is done.
type move struct {
	to        *level
	key       Key
	page      Page
	cancelled bool          // by Delete; guarded by the Tiered's lock
	done      chan struct{} // closed when it has ended
}

// enqueue puts a page in a level's queue, and takes it over: it is released in the end, whatever happens. It never waits.
func (t *Tiered) enqueue(l *level, key Key, page Page) {
	bytes := int64(len(page.Bytes()))
	attr := page.Attr()
	if l.Admit != nil && !l.Admit(key, attr, bytes) || l.Sightings > 1 && t.sightings.Seen(key) < l.Sightings {
		page.Release()
		return
	}
	m := &move{to: l, key: key, page: page, done: make(chan struct{})}
	t.mu.Lock()
	for _, other := range t.moves[key] {
		if other.to == l && !other.cancelled {
			t.mu.Unlock()
			page.Release()
			return
		}
	}
	closed := t.closed.Load()
	l.mu.Lock()
	lag := time.Duration(float64(l.queued+bytes) * l.writes.perByte() / float64(l.Writers) * 1e9)
	if closed || l.queued+bytes > l.MaxQueueBytes || lag > l.MaxLag || l.budget != nil && !l.budget.take(bytes) {
		l.mu.Unlock()
		t.mu.Unlock()
		l.shed.Add(1)
		page.Release()
		return
	}
	t.moves[key] = append(t.moves[key], m)
	l.queue = append(l.queue, m)
	l.queued += bytes
	l.notify()
	l.mu.Unlock()
	t.mu.Unlock()
}

// notify wakes all who wait for a change of the queue. The level's lock is held.
func (l *level) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// write is one of a level's writers.
func (t *Tiered) write(ctx context.Context, l *level) {
	for {
		l.mu.Lock()
		for len(l.queue) == 0 {
			changed := l.changed
			l.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			l.mu.Lock()
		}
		m := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.mu.Unlock()
		t.run(ctx, m)
	}
}

// run does a move, unless it was cancelled.
func (t *Tiered) run(ctx context.Context, m *move) {
	l := m.to
	bytes := int64(len(m.page.Bytes()))
	t.mu.Lock()
	cancelled := m.cancelled || ctx.Err() != nil
	t.mu.Unlock()
	if !cancelled {
		_ = t.putLevel(ctx, l, m.key, m.page.Bytes(), m.page.Attr())
	}
	m.page.Release()
	t.mu.Lock()
	t.forget(m)
	t.mu.Unlock()
	close(m.done)
	l.mu.Lock()
	l.queued -= bytes
	l.notify()
	l.mu.Unlock()
}

// forget takes a move off the list. The lock is held.
func (t *Tiered) forget(m *move) {
	moves := t.moves[m.key]
	for i, other := range moves {
		if other == m {
			moves = append(moves[:i], moves[i+1:]...)
			break
		}
	}
	if len(moves) == 0 {
		delete(t.moves, m.key)
	} else {
		t.moves[m.key] = moves
	}
}

// putLevel writes a page to a level and keeps count.
func (t *Tiered) putLevel(ctx context.Context, l *level, key Key, value []byte, attr Attr) error {
	err := l.call(ctx, func(ctx context.Context) error {
		start := time.Now()
		err := l.Store.Put(ctx, key, value, attr)
		if err == nil {
			l.writes.add(int64(len(value)), time.Since(start))
		}
		return err
	})
	switch {
	case err == nil:
		l.puts.Add(1)
		l.putBytes.Add(int64(len(value)))
	case Refused(err):
		l.refused.Add(1)
	}
	return err
}

// Flush waits until all that was put before is where it is to be, and makes it durable in the levels that can.
func (t *Tiered) Flush(ctx context.Context) error {
	t.mu.Lock()
	var moves []*move
	for _, of := range t.moves {
		moves = append(moves, of...)
	}
	t.mu.Unlock()
	if t.closed.Load() {
		return ErrClosed
	}
	for _, m := range moves {
		select {
		case <-m.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var errs []error
	for _, l := range t.levels {
		if f, ok := l.Store.(Flusher); ok {
			errs = append(errs, l.call(ctx, f.Flush))
		}
	}
	return errors.Join(errs...)
}
