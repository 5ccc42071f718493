package disk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

// wake makes maintain look for work.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// maintain is the one goroutine that makes, seals and empties segments.
func (s *Store) maintain(ctx context.Context) {
	defer close(s.stopped)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		for s.sealOne() && ctx.Err() == nil {
		}
		s.provide(ctx)
	}
}

// sealOne writes the footer of a segment that is full, and reports whether there was one.
func (s *Store) sealOne() bool {
	s.mu.Lock()
	var g *segment
	for i, r := range s.retired {
		if r.writing == 0 {
			g = r
			s.retired = append(s.retired[:i], s.retired[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	if g == nil {
		return false
	}
	// A footer that cannot be written is not needed as long as the process lives.
	_ = s.seal(g)
	return true
}

// seal writes the footer of a segment that nobody writes to any more, and makes it all durable: the records first, for a footer is
// believed. After a crash it must not vouch for a copy that is torn while the original is still there.
func (s *Store) seal(g *segment) error {
	footer := footerBytes(len(g.headers))
	err := g.file.sync()
	if err == nil && g.end+footer <= g.size {
		b := s.bufs.get(footer)
		_, err = g.file.WriteAt(appendFooter(b.bytes[:0], g.headers), g.size-footer)
		b.free()
	}
	if err == nil {
		err = g.file.sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.sealed = true
	g.dirty = err != nil
	if err == nil {
		g.failed = false
		s.stats.WrittenBytes += footer
	}
	s.notify()
	return deviceError("seal", g, err)
}

// notify tells those who wait for writes. The lock is held.
func (s *Store) notify() {
	if s.progress != nil {
		close(s.progress)
		s.progress = nil
	}
}

// provide sees to it that there is a spare segment.
func (s *Store) provide(ctx context.Context) {
	s.mu.Lock()
	have := s.spare != nil
	s.mu.Unlock()
	if have {
		return
	}
	g, err := s.newSpare(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare, s.spareErr = g, err
	close(s.room)
	s.room = make(chan struct{})
}

func (s *Store) newSpare(ctx context.Context) (*segment, error) {
	most := int(s.o.CapacityBytes/s.o.SegmentBytes) - 1 // one is left for copies
	for {
		s.mu.Lock()
		n := len(s.segments)
		s.mu.Unlock()
		if n < most {
			break
		}
		if err := s.reclaim(ctx); err != nil {
			return nil, err
		}
	}
	g, err := s.create()
	if errors.Is(err, store.ErrFull) && s.reclaim(ctx) == nil {
		// The file system is fuller than it should be: what we hold must do.
		g, err = s.create()
	}
	return g, err
}

func (s *Store) create() (*segment, error) {
	s.mu.Lock()
	s.number++
	g := &segment{number: s.number, size: s.o.SegmentBytes, first: math.MaxUint64}
	s.mu.Unlock()
	f, err := s.files.create(nameOf(g.number), g.size)
	if err != nil {
		return nil, deviceError("create", g, err)
	}
	g.file = f
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[g.number] = g
	s.unsynced = true
	return g, nil
}

// reclaim empties the segment with the least in it and deletes it.
func (s *Store) reclaim(ctx context.Context) error {
	g, err := s.victim()
	if err != nil {
		return err
	}
	copied, err := s.move(ctx, g)
	if err != nil {
		return err
	}
	if copied {
		// What was copied must be safe before the original goes.
		if err := s.syncAll(ctx, func(do func() error) error { return do() }); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.segments, g.number)
	if g.dropped = true; g.reading == 0 {
		g.file.Close()
	}
	if err := s.files.remove(nameOf(g.number)); err != nil {
		return deviceError("remove", g, err)
	}
	return nil
}

// victim chooses the segment to empty, and evicts until one is at most half full.
func (s *Store) victim() (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lapsed = s.o.Now().UnixNano()
	for {
		var least *segment
		for _, g := range s.segments {
			if g.sealed && g.writing == 0 && (least == nil || g.live < least.live || g.live == least.live && g.number < least.number) {
				least = g
			}
		}
		if least == nil {
			return nil, fmt.Errorf("%w: no segment is sealed", store.ErrFull)
		}
		if least.live <= least.size/2 {
			return least, nil
		}
		for range 16 {
			if !s.evict() {
				return nil, fmt.Errorf("%w: what is left is pinned", store.ErrFull)
			}
		}
	}
}

// move copies what is needed of a segment to another one.
func (s *Store) move(ctx context.Context, g *segment) (copied bool, err error) {
	var todo []entry
	s.mu.Lock()
	oldest := uint64(math.MaxUint64)
	for _, other := range s.segments {
		if other != g {
			oldest = min(oldest, other.first)
		}
	}
	err = entries(g.headers, func(e entry) {
		id := s.ids.ID(&e.header.Key)
		if r, ok := s.index[id]; ok && r.segment == g.number && r.offset == e.offset || e.grave() && oldest < e.stamp() {
			todo = append(todo, e)
		}
	})
	s.mu.Unlock()
	if err != nil {
		return false, err
	}
	for i := range todo {
		if err := ctx.Err(); err != nil {
			return copied, err
		}
		if err := s.moveOne(g, &todo[i]); err != nil {
			return copied, err
		}
		copied = true
	}
	return copied, nil
}

// moveOne copies one record. A page that cannot be copied is dropped, or it would hold its segment for ever.
func (s *Store) moveOne(from *segment, e *entry) error {
	err := s.copyOne(from, e)
	if err == nil || e.grave() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.ids.ID(&e.header.Key)
	if !s.here(id, from, e) {
		return nil
	}
	s.forget(id, true)
	if errors.Is(err, store.ErrCorrupt) {
		s.stats.Corrupt++
	} else {
		s.stats.Evicted++
	}
	return nil
}

func (s *Store) copyOne(from *segment, e *entry) error {
	b := s.bufs.get(e.length())
	defer b.free()
	r := record{segment: from.number, offset: e.offset, bytes: e.header.Bytes, header: uint32(e.size)}
	if err := readRecord(from, &r, from.headers[e.at:e.at+e.size], b); err != nil {
		return err
	}
	s.mu.Lock()
	to := s.copies
	if to == nil || !to.fits(e.length(), e.size) {
		s.retire(&s.copies)
		s.mu.Unlock()
		var err error
		if to, err = s.create(); err != nil {
			return err
		}
		s.mu.Lock()
		s.copies = to
	}
	offset := to.end
	to.end += e.length()
	s.mu.Unlock()

	_, err := to.file.WriteAt(b.bytes[:e.length()], offset)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		to.failed = true
		s.retire(&s.copies)
		return deviceError("write", to, err)
	}
	to.dirty = true
	to.first = min(to.first, e.stamp())
	s.stats.WrittenBytes += e.length()
	s.stats.CopiedBytes += e.length()
	at := len(to.headers) + entryPrefix
	to.headers = appendEntry(to.headers, offset, b.bytes[:e.size])
	if id := s.ids.ID(&e.header.Key); s.here(id, from, e) {
		r := s.index[id]
		r.segment, r.offset, r.at = to.number, offset, uint32(at)
		s.index[id] = r
		from.live -= e.length()
		to.live += e.length()
	}
	return nil
}

// here reports whether a page is still where an entry says. The lock is held.
func (s *Store) here(id evict.ID, g *segment, e *entry) bool {
	r, ok := s.index[id]
	return ok && r.segment == g.number && r.offset == e.offset
}

// Flush makes durable all that was put and deleted before.
func (s *Store) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	last := s.stamp
	err := s.wait(ctx, func() bool {
		for stamp := range s.writes {
			if stamp <= last {
				return false
			}
		}
		return true
	})
	// Records after a hole are found by the footer only, which is on its way.
	if err == nil {
		err = s.wait(ctx, func() bool {
			for _, g := range s.segments {
				if g.failed && !g.sealed {
					return false
				}
			}
			return true
		})
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.syncAll(ctx, func(do func() error) error { return s.io.Do(ctx, do, nil, nil) })
}

// wait lets go of the lock until a condition holds. It is looked at after each write and seal.
func (s *Store) wait(ctx context.Context, holds func() bool) error {
	for !holds() {
		if s.closed {
			return store.ErrClosed
		}
		if s.progress == nil {
			s.progress = make(chan struct{})
		}
		progress := s.progress
		s.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// syncAll makes durable what was written, and which files there are. One does so at a time: what another has begun to sync is
// not dirty any more, and not yet safe.
func (s *Store) syncAll(ctx context.Context, do func(func() error) error) error {
	select {
	case s.syncing <- struct{}{}:
		defer func() { <-s.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	dirty := map[*segment]func() error{}
	for _, g := range s.segments {
		if !g.dirty {
			continue
		}
		g.dirty = false
		g.reading++
		dirty[g] = func() error { return deviceError("sync", g, g.file.sync()) }
		if g.sealed && g.failed {
			dirty[g] = func() error { return s.seal(g) }
		}
	}
	unsynced := s.unsynced
	s.unsynced = false
	s.mu.Unlock()
	var errs []error
	for g, sync := range dirty {
		err := do(sync)
		errs = append(errs, err)
		s.mu.Lock()
		g.dirty = g.dirty || err != nil
		s.mu.Unlock()
		s.hasRead(g, 0, nil, nil)
	}
	if unsynced {
		err := do(s.files.sync)
		if err != nil {
			s.mu.Lock()
			s.unsynced = true
			s.mu.Unlock()
			errs = append(errs, fmt.Errorf("sync of the directory: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Close writes the footers of the segments in use and closes all files.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.room)
	s.room = make(chan struct{})
	s.notify()
	s.mu.Unlock()
	s.stop()

	done := make(chan error, 1)
	go func() { done <- s.shut() }()
	select {
	case err := <-done:
		return err
	case <-time.After(s.o.CloseTimeout):
		return fmt.Errorf("disk store: close: the device has not answered for %v", s.o.CloseTimeout)
	}
}

func (s *Store) shut() error {
	<-s.stopped
	s.io.Stop()
	var errs []error
	s.retire(&s.active)
	s.retire(&s.copies)
	for _, g := range s.retired {
		errs = append(errs, s.seal(g))
	}
	for _, g := range s.segments {
		errs = append(errs, g.file.Close())
		if len(g.headers) == 0 {
			errs = append(errs, s.files.remove(nameOf(g.number)))
		}
	}
	errs = append(errs, s.files.sync(), s.files.close())
	return errors.Join(errs...)
}
