// Package workers does what may hang, so that those who wait for it can leave.
package workers

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Pool is a number of goroutines.
type Pool struct {
	jobs chan *job
	quit chan struct{}
	all  sync.WaitGroup
}

type job struct {
	run     func() error
	abandon func()
	state   atomic.Uint32
	done    chan error
}

const (
	waiting = iota
	finished
	abandoned
)

// New starts the goroutines.
func New(n int) *Pool {
	w := &Pool{jobs: make(chan *job), quit: make(chan struct{})}
	for range n {
		w.all.Go(w.work)
	}
	return w
}

func (w *Pool) work() {
	for {
		select {
		case <-w.quit:
			return
		case j := <-w.jobs:
			err := j.run()
			if j.state.CompareAndSwap(waiting, finished) {
				j.done <- err
			} else if err == nil && j.abandon != nil {
				j.abandon()
			}
		}
	}
}

// Do has a goroutine call run and waits for it, at most until the context ends. If that is before a goroutine had time, refuse is
// called instead of run. If it is while run is under way, run goes on, and when it has succeeded abandon is called, to undo
// what was meant for the one who left. Both may be nil. After Stop the error is store.ErrClosed.
func (w *Pool) Do(ctx context.Context, run func() error, abandon, refuse func()) error {
	j := &job{run: run, abandon: abandon, done: make(chan error, 1)}
	err := ctx.Err()
	if err == nil {
		select {
		case w.jobs <- j:
		case <-ctx.Done():
			err = ctx.Err()
		case <-w.quit:
			err = store.ErrClosed
		}
	}
	if err != nil {
		if refuse != nil {
			refuse()
		}
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, abandoned) {
			return ctx.Err()
		}
		return <-j.done
	}
}

// Stop ends the goroutines when they are done with what they do.
func (w *Pool) Stop() {
	close(w.quit)
	w.all.Wait()
}
