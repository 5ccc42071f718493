package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxLineBytes bounds a line: a prompt of 2 million tokens whose every block was part of another prompt.
const maxLineBytes = 1 << 20

// Reader reads a trace. It is not safe for concurrent use.
type Reader struct {
	lines  *bufio.Reader
	buffer []byte
	number int // of the latest line
	held   []byte
	isHeld bool
	err    error

	header  Header
	started bool
	first   time.Time     // the start of the first header
	offset  time.Duration // of the current header behind it
	latest  time.Duration // arrival
	spaces  map[string]base
	base    base
	next    base // beyond all numbers so far
	names   map[string]string
	line    entryJSON
	at      int64 // what line.At points to
}

// base is what is added to the numbers of one space to keep them apart from those of others.
type base struct{ block, tenant, session uint64 }

// entryJSON is an entry as it is written.
type entryJSON struct {
	At        *int64      `json:"t"`
	Input     int         `json:"in"`
	Output    int         `json:"out"`
	Cached    int         `json:"cached"`
	Blocks    [][2]uint64 `json:"blocks"`
	Estimated bool        `json:"est"`
	Tenant    uint64      `json:"tenant"`
	Session   uint64      `json:"session"`
	Model     string      `json:"model"`
	Adapter   string      `json:"adapter"`
	Priority  int         `json:"prio"`
	Stream    bool        `json:"stream"`
	Max       int         `json:"max"`
	Endpoint  string      `json:"ep"`
	Tries     int         `json:"tries"`
	TTFT      int64       `json:"ttft"`
	Total     int64       `json:"total"`
	Status    int         `json:"status"`
	End       string      `json:"end"`
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{lines: bufio.NewReaderSize(r, 64<<10), spaces: map[string]base{}, names: map[string]string{}}
}

// Header returns the header that the latest entry is below of.
func (r *Reader) Header() Header { return r.header }

// Next reads the next entry into e, whose Blocks it overwrites. It returns io.EOF at the end, and an error that wraps
// io.ErrUnexpectedEOF if the trace ends within a line, as it does when a gateway dies. Any error is the last thing.
func (r *Reader) Next(e *Entry) error {
	if r.err == nil {
		if r.err = r.read(e); r.err != nil && r.err != io.EOF {
			r.err = fmt.Errorf("line %d: %w", r.number, r.err)
		}
	}
	return r.err
}

func (r *Reader) read(e *Entry) error {
	for {
		line, whole, err := r.readLine()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		if !r.started || bytes.Contains(line, []byte(`"inferloom_trace"`)) && IsHeader(line) {
			if err := r.readHeader(line); err != nil {
				return err
			}
			continue
		}
		err = r.readEntry(line, e)
		if err == nil {
			return nil
		}
		if !whole {
			return fmt.Errorf("cut short: %w", io.ErrUnexpectedEOF)
		}
		// A gateway that died within a line is followed by the header of the next.
		number := r.number
		next, _, nextErr := r.readLine()
		if nextErr != nil || !IsHeader(next) {
			r.number = number
			return err
		}
		r.held, r.isHeld = next, true
	}
}

// readLine returns the next line, valid until the next call, and whether it was complete.
func (r *Reader) readLine() (line []byte, whole bool, err error) {
	if r.isHeld {
		r.isHeld = false
		return r.held, true, nil
	}
	r.buffer = r.buffer[:0]
	for {
		part, err := r.lines.ReadSlice('\n')
		if len(r.buffer) == 0 && err == nil {
			r.number++
			return bytes.TrimSpace(part), true, nil
		}
		r.buffer = append(r.buffer, part...)
		switch {
		case len(r.buffer) > maxLineBytes:
			r.number++
			return nil, false, fmt.Errorf("longer than %d bytes", maxLineBytes)
		case err == nil:
			r.number++
			return bytes.TrimSpace(r.buffer), true, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(r.buffer) > 0:
			r.number++
			return bytes.TrimSpace(r.buffer), false, nil
		case errors.Is(err, io.EOF):
			return nil, false, io.EOF
		default: // such as a gzip stream that is cut short
			r.number++
			return nil, false, err
		}
	}
}

func (r *Reader) readHeader(line []byte) error {
	var h headerJSON
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Version == nil {
		return errors.New("the first line is no header, want one with inferloom_trace")
	}
	if *h.Version != Version {
		return fmt.Errorf("inferloom_trace is version %d, want %d", *h.Version, Version)
	}
	if h.WindowUS < 0 || h.WindowUS > maxTime.Microseconds() {
		return fmt.Errorf("window_us is %d, want 0 to %d", h.WindowUS, maxTime.Microseconds())
	}
	next := Header{h.Start, h.IDs, h.BlockTokens, time.Duration(h.WindowUS) * time.Microsecond}
	if err := next.validate(); err != nil {
		return err
	}
	if r.started && next.BlockTokens != r.header.BlockTokens {
		return fmt.Errorf("block_tokens changes from %d to %d, want one size in a trace", r.header.BlockTokens, next.BlockTokens)
	}
	if !r.started {
		r.started, r.first = true, next.Start
	}
	known, ok := r.spaces[next.IDs]
	// Entries of another gateway come behind those before, even if a clock was set back. Files that one Recorder wrote
	// have the same start, and go on where the one before ended.
	if !ok || !next.Start.Equal(r.header.Start) {
		r.offset = max(next.Start.Sub(r.first), r.latest)
	}
	r.header = next
	if r.offset > maxTime {
		return fmt.Errorf("start is %v, too far from the first, %v", next.Start, r.first)
	}
	if !ok {
		known = r.next
		r.spaces[next.IDs] = known
	}
	r.base = known
	return nil
}

func (r *Reader) readEntry(line []byte, e *Entry) error {
	l := &r.line
	if !r.parse(line) {
		*l = entryJSON{}
		if err := json.Unmarshal(line, l); err != nil {
			return err
		}
	}
	if err := l.check(); err != nil {
		return err
	}
	*e = Entry{
		At:     r.offset + time.Duration(*l.At)*time.Microsecond,
		Tenant: apart(l.Tenant, r.base.tenant, &r.next.tenant), Session: apart(l.Session, r.base.session, &r.next.session),
		Model: l.Model, Adapter: l.Adapter, Priority: l.Priority, Stream: l.Stream, MaxTokens: l.Max,
		InputTokens: l.Input, OutputTokens: l.Output, CachedTokens: l.Cached, Estimated: l.Estimated,
		Blocks: e.Blocks[:0], Endpoint: l.Endpoint, Tries: l.Tries,
		TTFT: time.Duration(l.TTFT) * time.Microsecond, Total: time.Duration(l.Total) * time.Microsecond,
		Status: l.Status, End: l.End,
	}
	if e.At > maxTime {
		return fmt.Errorf("t is %d, too far from the first start", *l.At)
	}
	if e.At < r.latest-r.header.Window {
		return fmt.Errorf("t is %d, which is out of order by more than window_us allows, %d", *l.At, r.header.Window.Microseconds())
	}
	r.latest = max(r.latest, e.At)
	if max(r.next.tenant, r.next.session) > maxNumber {
		return errors.New("more tenants or sessions in one trace than numbers for them")
	}
	for _, b := range l.Blocks {
		run := Run{r.base.block + b[0], int(b[1])}
		if run.First+b[1] > maxNumber {
			return errors.New("more blocks in one trace than numbers for them")
		}
		e.Blocks = append(e.Blocks, run)
		r.next.block = max(r.next.block, run.First+b[1])
	}
	return nil
}

// apart returns a number that no other space of numbers has, and 0 for 0.
func apart(n, base uint64, next *uint64) uint64 {
	if n == 0 {
		return 0
	}
	*next = max(*next, base+n)
	return base + n
}

// check reports all that is missing or out of range.
func (l *entryJSON) check() error {
	var errs []error
	within := func(name string, v, most int64) {
		if v < 0 || v > most {
			errs = append(errs, fmt.Errorf("%s is %d, want 0 to %d", name, v, most))
		}
	}
	if l.At == nil {
		errs = append(errs, errors.New("t is missing"))
	} else {
		within("t", *l.At, maxTime.Microseconds())
	}
	within("in", int64(l.Input), maxTokens)
	within("out", int64(l.Output), maxTokens)
	within("cached", int64(l.Cached), maxTokens)
	within("max", int64(l.Max), maxTokens)
	within("tries", int64(l.Tries), maxTokens)
	within("status", int64(l.Status), 999)
	within("ttft", l.TTFT, maxTime.Microseconds())
	within("total", l.Total, maxTime.Microseconds())
	total := uint64(0)
	for i, b := range l.Blocks {
		if b[0] > maxNumber || b[1] < 1 || b[1] > maxTokens {
			errs = append(errs, fmt.Errorf("blocks[%d] is %d, want a number up to %d and a count of 1 to %d", i, b, uint64(maxNumber), maxTokens))
			break
		}
		total += b[1]
	}
	if total > maxTokens {
		errs = append(errs, fmt.Errorf("%d blocks, want at most %d", total, maxTokens))
	}
	if l.Tenant > maxNumber || l.Session > maxNumber {
		errs = append(errs, fmt.Errorf("tenant and session are %d and %d, want at most %d", l.Tenant, l.Session, uint64(maxNumber)))
	}
	return errors.Join(errs...)
}
