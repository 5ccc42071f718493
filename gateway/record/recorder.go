package record

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/scheduling"
)

// What Options mean where they do not say.
const (
	DefaultBlockTokens    = 64
	DefaultQueue          = 4096
	DefaultRememberBlocks = 1 << 20
	DefaultWindow         = 10 * time.Minute
)

// Options are the parameters of a Recorder; Path is required.
type Options struct {
	// Path is the file, which is made if there is none, and else appended to.
	Path string
	// BlockTokens is the size of blocks, and thus how finely the trace tells where prompts part; 0 means
	// DefaultBlockTokens.
	BlockTokens int
	// RememberBlocks is how many blocks are known again at least, and half of how many at most. It should be what the
	// caches of all engines together hold. 0 means DefaultRememberBlocks, which are 67 million tokens in blocks of 64. A
	// block takes 20 to 40 bytes.
	RememberBlocks int
	// RotateBytes is the size from which a file is put aside, as Path with a dot and the time behind it; 0 means never.
	RotateBytes int64
	// Queue is how many requests may wait to be written before more are dropped; 0 means DefaultQueue. One takes about
	// 200 bytes and 8 for each block.
	Queue int
	// Window is how long a request may take without its arrival being moved, see Header; 0 means DefaultWindow. Whoever
	// sorts a trace by arrival holds the requests of so long a time.
	Window time.Duration
	// Logger is told of an error of the disk; nil means nobody.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) normalise() error {
	var problems []error
	if o.Path == "" {
		problems = append(problems, errors.New("path: empty"))
	}
	count := func(name string, v *int, otherwise, most int) {
		if *v < 0 || *v > most {
			problems = append(problems, fmt.Errorf("%s %d: want 0 to %d", name, *v, most))
		}
		*v = cmp.Or(*v, otherwise)
	}
	count("block tokens", &o.BlockTokens, DefaultBlockTokens, 1<<16)
	count("remember blocks", &o.RememberBlocks, DefaultRememberBlocks, 1<<30)
	count("queue", &o.Queue, DefaultQueue, 1<<24)
	if o.RotateBytes < 0 {
		problems = append(problems, fmt.Errorf("rotate bytes %d: negative", o.RotateBytes))
	}
	if o.Window < 0 || o.Window > maxTime {
		problems = append(problems, fmt.Errorf("window %v: want 0 to %v", o.Window, maxTime))
	}
	o.Window = cmp.Or(o.Window, DefaultWindow)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(problems...)
}

// Stats is what became of requests.
type Stats struct {
	// Written is how many are in files. It grows as the queue becomes empty.
	Written uint64
	// Dropped is how many are not: the queue was full, the disk had failed, or the Recorder was closed.
	Dropped uint64
	// Late is how many of Written had their arrival moved, since they took longer than Options.Window.
	Late uint64
	// Err is the error of the disk that ended recording, if one did.
	Err error
}

// Recorder is a gateway.Observer that writes every request to a file. It is safe for concurrent use.
type Recorder struct {
	o    Options
	seed uint64
	jobs sync.Pool

	mu      sync.RWMutex // held to send; to close, alone
	closed  bool
	queue   chan *job
	written chan struct{} // closed when the writing goroutine has ended

	recorded, dropped, late atomic.Uint64
	err                     atomic.Pointer[error]

	// Below is the writing goroutine's.
	ids               string
	file              *file
	blocks            *numbers
	tenants, sessions *numbers
	start             time.Time
	unflushed         uint64 // requests
}

// job is a request on its way to the file.
type job struct {
	start           time.Time
	tenant, session uint64 // hashes; 0 is none
	entry           Entry
	blocks          []uint64 // hashes
}

// New opens the file, writes a header and starts the goroutine that Close ends. It reports every invalid option at once.
func New(o Options) (*Recorder, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	r := &Recorder{
		o: o, seed: binary.LittleEndian.Uint64(random[:]), ids: hex.EncodeToString(random[8:]),
		jobs:  sync.Pool{New: func() any { return new(job) }},
		queue: make(chan *job, o.Queue), written: make(chan struct{}),
		start: o.Now(), blocks: newNumbers(o.RememberBlocks, 0), tenants: newNumbers(o.RememberBlocks/16+1, 1), sessions: newNumbers(o.RememberBlocks/16+1, 1),
	}
	var err error
	if r.file, err = r.open(); err != nil {
		return nil, err
	}
	go r.run()
	return r, nil
}

// Observe implements gateway.Observer. It does not wait and does not allocate. It hashes the prompt: 10,000 tokens take
// some 25 microseconds as ids, and less as text, after the answer has gone out.
func (r *Recorder) Observe(rec gateway.Record) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed || len(r.queue) == cap(r.queue) || r.err.Load() != nil {
		r.dropped.Add(1)
		return
	}
	j := r.jobs.Get().(*job)
	r.describe(j, &rec)
	select {
	case r.queue <- j:
	default:
		r.jobs.Put(j)
		r.dropped.Add(1)
	}
}

// describe takes from a record what is written of it.
func (r *Recorder) describe(j *job, rec *gateway.Record) {
	*j = job{start: rec.Start, blocks: j.blocks[:0], entry: Entry{Blocks: j.entry.Blocks[:0]}}
	e := &j.entry
	e.Model, e.Adapter, e.Stream = rec.Model, rec.Adapter, rec.Stream
	e.Endpoint, e.Tries = rec.Endpoint, rec.Attempts
	e.TTFT, e.Total = rec.TTFT, rec.Total
	e.Status = rec.Status
	if o := rec.Outcome(); o != gateway.Answered {
		e.End = o.String()
	}
	e.InputTokens = rec.PromptTokens
	e.Estimated = rec.PromptKind == gateway.PromptEstimated
	if rec.Usage.Has(api.PromptCount) {
		e.InputTokens = rec.Usage.PromptTokens
	}
	e.OutputTokens, e.CachedTokens = rec.Usage.CompletionTokens, rec.Usage.CachedTokens
	q := rec.Request
	if q == nil {
		return
	}
	e.Priority, e.MaxTokens = q.Priority, q.MaxTokens
	j.tenant, j.session = r.hash(q.Tenant), r.hash(q.Session)
	j.blocks = r.appendBlocks(j.blocks, q)
}

// hash returns a hash that is not 0, but of the empty string.
func (r *Recorder) hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return max(1, xxh3.HashStringSeed(s, r.seed))
}

func (r *Recorder) appendBlocks(dst []uint64, q *scheduling.Request) []uint64 {
	p := &q.Prompt
	start := r.seed ^ blockhash.Start(q.Model, q.Adapter, p.Salt, r.o.BlockTokens)
	if len(p.Tokens) > 0 {
		return blockhash.AppendTokens(dst, start, p.Tokens, r.o.BlockTokens)
	}
	return blockhash.AppendText(dst, start, p.Text, r.o.BlockTokens*scheduling.BytesPerToken)
}

// Stats returns the counts so far.
func (r *Recorder) Stats() Stats {
	s := Stats{Written: r.recorded.Load(), Dropped: r.dropped.Load(), Late: r.late.Load()}
	if err := r.err.Load(); err != nil {
		s.Err = *err
	}
	return s
}

// Close writes what is in the queue and closes the file. It returns the error of the disk, if there was one. Requests that
// end later are dropped. Calls after the first return the same.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	<-r.written
	return r.Stats().Err
}

// run writes what is in the queue until that is closed.
func (r *Recorder) run() {
	defer close(r.written)
	for j := range r.queue {
		r.unflushed++
		r.fail(r.write(j))
		r.jobs.Put(j)
		if len(r.queue) == 0 {
			r.flush()
		}
	}
	r.flush()
	r.fail(r.file.f.Close())
}

// flush brings requests to the file, or counts them as dropped.
func (r *Recorder) flush() {
	r.fail(r.file.Flush())
	if r.err.Load() == nil {
		r.recorded.Add(r.unflushed)
	} else {
		r.dropped.Add(r.unflushed)
	}
	r.unflushed = 0
}

// fail ends recording, with what is in the file, if err is the first that is not nil.
func (r *Recorder) fail(err error) {
	if err == nil || r.err.Load() != nil {
		return
	}
	failure := fmt.Errorf("recording to %s: %w", r.o.Path, err)
	r.err.Store(&failure)
	r.o.Logger.Error("recording of traffic has ended", slog.Any("error", failure))
}

func (r *Recorder) write(j *job) error {
	if r.err.Load() != nil {
		return nil
	}
	e := &j.entry
	e.At = j.start.Sub(r.start)
	if j.tenant != 0 {
		e.Tenant = r.tenants.of(j.tenant)
	}
	if j.session != 0 {
		e.Session = r.sessions.of(j.session)
	}
	e.Blocks = r.blocks.appendRuns(e.Blocks, j.blocks)
	if err := r.file.writer.Write(e); err != nil {
		return err
	}
	r.late.Store(r.file.writer.Late())
	if r.o.RotateBytes > 0 && r.file.size >= r.o.RotateBytes {
		return r.rotate()
	}
	return nil
}

// rotate puts the file aside and begins another.
func (r *Recorder) rotate() error {
	r.flush()
	if err := r.file.f.Close(); err != nil {
		return err
	}
	aside := r.o.Path + "." + r.o.Now().UTC().Format("20060102T150405.000000000Z")
	for n := 1; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s.%d", aside, n)
	}
	if err := os.Rename(r.o.Path, aside); err != nil {
		return err
	}
	next, err := r.open()
	if err != nil {
		return err
	}
	next.writer.latest, next.writer.late = r.file.writer.latest, r.file.writer.late
	r.file = next
	return nil
}

// file is an open file with a header at its end.
type file struct {
	*bufio.Writer
	f      *os.File
	size   int64
	writer *Writer
}

// open opens the file and writes a header to it, on a new line whatever is there.
func (r *Recorder) open() (*file, error) {
	f, err := os.OpenFile(r.o.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	next := &file{Writer: bufio.NewWriterSize(f, 64<<10), f: f}
	if err := next.begin(Header{Start: r.start, IDs: r.ids, BlockTokens: r.o.BlockTokens, Window: r.o.Window}); err != nil {
		f.Close()
		return nil, err
	}
	return next, nil
}

func (f *file) begin(h Header) (err error) {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	if f.size = info.Size(); f.size > 0 && info.Mode().IsRegular() {
		var last [1]byte
		if _, err := f.f.ReadAt(last[:], f.size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			f.Write([]byte{'\n'}) // an error comes back at the next flush
		}
	}
	if f.writer, err = NewWriter(f, h); err != nil {
		return err
	}
	return f.Flush()
}

// Write implements io.Writer.
func (f *file) Write(b []byte) (int, error) {
	f.size += int64(len(b))
	return f.Writer.Write(b)
}
