package replay

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/inferloom/inferloom/scheduling"
)

// DefaultMaxBuffered is how many bytes wait to be written where RecorderOptions does not say.
const DefaultMaxBuffered = 4 << 20

// RecorderOptions are the parameters of a Recorder. The zero value works.
type RecorderOptions struct {
	// Headers are the request headers to record, for plans that go by them.
	Headers []string
	// MaxBuffered bounds the bytes that wait to be written; 0 means DefaultMaxBuffered. Choices that come while they do are left
	// out.
	MaxBuffered int
}

// Recorder is a scheduling.Observer that writes what it is told. It is safe for concurrent use. It has one goroutine, which
// writes; Close ends it.
type Recorder struct {
	w       io.Writer
	max     int
	written chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	encoder encoder
	more    sync.Cond // there is something to write, or closed
	buffer  []byte
	closed  bool
	err     error
	stats   RecorderStats
}

// RecorderStats count choices.
type RecorderStats struct {
	// Recorded were handed on to be written, Dropped were not: the writer was too slow, or had failed.
	Recorded, Dropped uint64
}

// NewRecorder makes a Recorder that writes to w, which it does not close.
func NewRecorder(w io.Writer, o RecorderOptions) (*Recorder, error) {
	var problems []error
	if w == nil {
		problems = append(problems, errors.New("writer: nil"))
	}
	if o.MaxBuffered < 0 {
		problems = append(problems, fmt.Errorf("max buffered %d: negative", o.MaxBuffered))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	r := &Recorder{w: w, max: o.MaxBuffered, written: make(chan struct{})}
	if r.max == 0 {
		r.max = DefaultMaxBuffered
	}
	r.encoder.headers = o.Headers
	r.more.L = &r.mu
	go r.write()
	return r, nil
}

// Chose implements scheduling.Observer.
func (r *Recorder) Chose(m *scheduling.Moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil || len(r.buffer) > r.max {
		r.stats.Dropped++
		return
	}
	empty := len(r.buffer) == 0
	r.buffer = r.encoder.append(r.buffer, m)
	r.stats.Recorded++
	if empty {
		r.more.Signal()
	}
}

// write writes whatever there is, in one piece, until the recorder is closed.
func (r *Recorder) write() {
	defer close(r.written)
	var taken []byte
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.buffer) == 0 && !r.closed {
			r.more.Wait()
		}
		if len(r.buffer) == 0 {
			return
		}
		taken, r.buffer = r.buffer, taken[:0]
		r.mu.Unlock()
		_, err := r.w.Write(taken)
		r.mu.Lock()
		if err != nil {
			r.err = fmt.Errorf("write recorded choices: %w", err)
			return
		}
	}
}

// Stats returns the counts so far.
func (r *Recorder) Stats() RecorderStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Close writes what is left and returns the first error of the writer. What the recorder is told later is dropped.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	r.more.Signal()
	r.mu.Unlock()
	<-r.written
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
