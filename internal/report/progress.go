package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// ShowProgress shows how far something is: a bar that is redrawn on a terminal, else a line every few seconds. State returns a
// share from 0 to 1 and a line of text; it is called from another goroutine. The returned function ends it.
func ShowProgress(w io.Writer, name string, state func() (share float64, text string)) (stop func()) {
	every, terminal := 5*time.Second, isTerminal(w)
	if terminal {
		every = 100 * time.Millisecond
	}
	show := func() {
		share, text := state()
		if terminal {
			const width = 30
			full := int(min(max(share, 0), 1) * width)
			fmt.Fprintf(w, "\r%s [%s%s] %s\x1b[K", name, strings.Repeat("=", full), strings.Repeat(" ", width-full), text)
		} else {
			fmt.Fprintf(w, "%s: %s\n", name, text)
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
		if terminal {
			show()
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
