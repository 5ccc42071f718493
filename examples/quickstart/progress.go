package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progress is what a driver has done so far.
type progress struct{ sent, ended, failed atomic.Int64 }

// showProgress shows how far a run is: a bar that is redrawn on a terminal, else a line now and then. The returned function
// ends it.
func showProgress(w io.Writer, name string, total int, bound time.Duration, p *progress) (stop func()) {
	every, terminal := 3*time.Second, isTerminal(w)
	if terminal {
		every = 100 * time.Millisecond
	}
	began := time.Now()
	show := func() {
		sent, ended, failed := p.sent.Load(), p.ended.Load(), p.failed.Load()
		line := fmt.Sprintf("%d of %d done, %d under way, %d failed, %.0f of %.0f s",
			ended, total, max(0, sent-ended), failed, time.Since(began).Seconds(), bound.Seconds())
		if terminal {
			const width = 30
			full := int(ended) * width / total
			fmt.Fprintf(w, "\r%-13s [%s%s] %s\x1b[K", name, strings.Repeat("=", full), strings.Repeat(" ", width-full), line)
		} else {
			fmt.Fprintf(w, "%s: %s\n", name, line)
		}
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
		show()
		if terminal {
			fmt.Fprintln(w)
		}
	}
}

// isTerminal reports whether somebody may be looking: w is a character device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
