package disk

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/kvcache/store"
)

// workers do the reads and writes, so that those who wait for them can leave.
type workers struct {
	jobs chan *job
	quit chan struct{}
	all  sync.WaitGroup
}

// job is one read or write. run does all of it, with its consequences: its result may no longer be wanted. Then abandon is called
// after it, to undo what was meant for the one who left.
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

func newWorkers(n int) *workers {
	w := &workers{jobs: make(chan *job), quit: make(chan struct{})}
	for range n {
		w.all.Go(w.work)
	}
	return w
}

func (w *workers) work() {
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

// do waits for a job, at most until the context ends. refuse is called instead of the job if that is before a worker had time.
func (w *workers) do(ctx context.Context, run func() error, abandon, refuse func()) error {
	j := &job{run: run, abandon: abandon, done: make(chan error, 1)}
	err := error(nil)
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.quit:
		err = store.ErrClosed
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

// stop ends the workers when they are done with what they do.
func (w *workers) stop() {
	close(w.quit)
	w.all.Wait()
}
