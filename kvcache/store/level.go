package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// WritePolicy says when pages are written to a level below the first.
type WritePolicy uint8

const (
	// WriteThrough writes a page when it is put.
	WriteThrough WritePolicy = iota
	// WriteSelective writes a page when it was used SelectiveHits times while it was in the levels above.
	WriteSelective
	// WriteBack writes a page when the level above evicts it. That level has to be an Evicter.
	WriteBack
)

// Level is a Store as a part of a Tiered. Name and Store are required. Of the other fields the zero value is what a local disk
// needs; the level is asked for a page only when the levels before it do not have it.
type Level struct {
	// Name is what Info and LevelStats call it.
	Name  string
	Store Store

	// Write says when pages come to this level, SelectiveHits how many uses WriteSelective waits for; 0 means 2.
	Write         WritePolicy
	SelectiveHits int
	// Sightings is how often a page must have been put or asked for to be written here; 0 and 1 mean the first time. With 2,
	// pages that never come back, which are most, are not written.
	Sightings int
	// Admit has the last word on what is written here; nil admits all. It must not wait.
	Admit func(key Key, attr Attr, bytes int64) bool
	// PromoteAfter is how often a page must have been put or asked for to be copied into this level when one below has it; 0
	// and 1 mean the first time, less than 0 never.
	PromoteAfter int

	// Timeout bounds each operation; 0 means 10 seconds, less than 0 no bound. The first level is taken to be memory: what
	// follows is not for its reads, which go straight to it.
	Timeout time.Duration
	// Hedge is how long a read waits for an answer before it is sent a second time; 0 means never.
	Hedge time.Duration
	// Failures in a row, 0 means 5, are what it takes for the level to be left alone for Cooldown, 0 means 5 seconds. Then
	// one operation tries it.
	Failures int
	Cooldown time.Duration

	// Writers is how many writes are under way at once; 0 means 4. Waiting writes keep their pages in memory, at most
	// MaxQueueBytes of them, 0 means 256 MiB; beyond that, and when those that wait would take longer than MaxLag, 0 means 30
	// seconds, writes are shed.
	Writers       int
	MaxQueueBytes int64
	MaxLag        time.Duration
	// EnduranceBytesPerDay bounds what is written here, for a disk to last; 0 is without bound. An hour's worth may be written
	// at once.
	EnduranceBytesPerDay int64
}

func (l *Level) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.Name == "" {
		wrong("Name is empty")
	}
	if l.Store == nil {
		wrong("Store is nil")
	}
	if l.Write > WriteBack {
		wrong("Write is %d, want WriteThrough, WriteSelective or WriteBack", l.Write)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"SelectiveHits", int64(l.SelectiveHits)}, {"Sightings", int64(l.Sightings)}, {"Hedge", int64(l.Hedge)},
		{"Failures", int64(l.Failures)}, {"Cooldown", int64(l.Cooldown)}, {"Writers", int64(l.Writers)},
		{"MaxQueueBytes", l.MaxQueueBytes}, {"MaxLag", int64(l.MaxLag)}, {"EnduranceBytesPerDay", l.EnduranceBytesPerDay},
	} {
		if f.value < 0 {
			wrong("%s is %d, want 0 or more", f.name, f.value)
		}
	}
	if l.Sightings > 15 || l.SelectiveHits > 15 || l.PromoteAfter > 15 {
		wrong("Sightings is %d, SelectiveHits %d and PromoteAfter %d, want at most 15", l.Sightings, l.SelectiveHits, l.PromoteAfter)
	}
	l.SelectiveHits = cmp.Or(l.SelectiveHits, 2)
	l.Timeout = cmp.Or(l.Timeout, 10*time.Second)
	l.Failures, l.Cooldown = cmp.Or(l.Failures, 5), cmp.Or(l.Cooldown, 5*time.Second)
	l.Writers = cmp.Or(l.Writers, 4)
	l.MaxQueueBytes = cmp.Or(l.MaxQueueBytes, 256<<20)
	l.MaxLag = cmp.Or(l.MaxLag, 30*time.Second)
	return errors.Join(errs...)
}

// level is a Level at work.
type level struct {
	Level
	index   int
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	budget  *budget // nil without a bound
	reads   gauge
	writes  gauge
	losers  sync.WaitGroup // reads that another was faster than

	mu      sync.Mutex
	queue   []*move
	queued  int64         // bytes in queue
	changed chan struct{} // closed when a move was queued or has ended

	hits, misses, failures, hedges, puts, putBytes, refused, shed, promoted atomic.Int64
}

// call does one operation, unless the breaker is open, and within the level's time.
func (l *level) call(ctx context.Context, do func(ctx context.Context) error) error {
	done, err := l.breaker.Allow()
	if err != nil {
		return fmt.Errorf("%s: %w", l.Name, ErrUnavailable)
	}
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if l.Timeout > 0 {
		bounded, cancel = context.WithTimeout(ctx, l.Timeout)
	}
	defer cancel()
	err = do(bounded)
	broken := Broken(err) && ctx.Err() == nil // the caller has not left
	done(!broken)
	if broken {
		l.failures.Add(1)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.Name, err)
	}
	return nil
}

// get reads a page, from two attempts if the first is slow.
func (l *level) get(ctx context.Context, key Key) (page Page, err error) {
	err = l.call(ctx, func(ctx context.Context) error {
		start := time.Now()
		page, err = l.hedged(ctx, key)
		if err == nil {
			l.reads.add(int64(len(page.Bytes())), time.Since(start))
		}
		return err
	})
	switch {
	case err == nil:
		l.hits.Add(1)
	case errors.Is(err, ErrNotFound):
		l.misses.Add(1)
	}
	return page, err
}

func (l *level) hedged(ctx context.Context, key Key) (Page, error) {
	if l.Hedge == 0 {
		return l.Store.Get(ctx, key)
	}
	type answer struct {
		page Page
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, 2)
	var attempts sync.WaitGroup
	attempt := func() {
		attempts.Go(func() {
			p, err := l.Store.Get(ctx, key)
			answers <- answer{p, err}
		})
	}
	attempt()
	second := time.NewTimer(l.Hedge)
	defer second.Stop()
	waiting := 1
	var last answer
	for waiting > 0 {
		select {
		case <-second.C:
			l.hedges.Add(1)
			attempt()
			waiting++
			continue
		case last = <-answers:
			waiting--
		}
		if last.err == nil || !Broken(last.err) {
			break
		}
	}
	if waiting > 0 {
		// The loser is told to end, and releases what it may have read all the same.
		cancel()
		l.losers.Go(func() {
			attempts.Wait()
			for range waiting {
				a := <-answers
				a.page.Release()
			}
		})
	}
	return last.page, last.err
}

// LevelStats is what a Tiered has seen of a level.
type LevelStats struct {
	Name string
	// Reads of the level, and how they ended. Hedges are reads that were sent twice.
	Hits, Misses, Failures, Hedges int64
	// Puts that the level has taken, and of those Promoted from a level below; Refused those that it did not want, Shed
	// those that were not tried because it lags, or to spare it.
	Puts, PutBytes, Promoted, Refused, Shed int64
	QueuedBytes                             int64
	Reads, Writes                           Speed
	// Available is false while the level is left alone.
	Available bool
}

func (l *level) stats() LevelStats {
	l.mu.Lock()
	queued := l.queued
	l.mu.Unlock()
	return LevelStats{
		Name: l.Name, Hits: l.hits.Load(), Misses: l.misses.Load(), Failures: l.failures.Load(), Hedges: l.hedges.Load(),
		Puts: l.puts.Load(), PutBytes: l.putBytes.Load(), Promoted: l.promoted.Load(), Refused: l.refused.Load(), Shed: l.shed.Load(),
		QueuedBytes: queued, Reads: l.reads.speed(), Writes: l.writes.speed(),
		Available: l.breaker.State() != gobreaker.StateOpen,
	}
}
