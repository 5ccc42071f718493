package record

import (
	"fmt"
	"io"
	"time"
)

// Writer writes a trace. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	window time.Duration
	latest time.Duration // arrival
	late   uint64
	line   []byte
}

// NewWriter writes a header and returns a Writer of the entries below it. Each line is one Write.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	line, err := h.appendJSON(nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(line); err != nil {
		return nil, fmt.Errorf("writing the header: %w", err)
	}
	return &Writer{w: w, window: h.Window, line: line}, nil
}

// Write writes an entry. One that arrived earlier than the header's window allows is moved to its edge and counted as
// late. Values that a Reader would not take are cut to the largest that it does, and a prompt of too many runs of blocks
// to its first.
func (w *Writer) Write(entry *Entry) error {
	e := *entry
	if edge := w.latest - w.window; e.At < edge {
		e.At = edge
		w.late++
	}
	e.At = limit(e.At, maxTime)
	w.latest = max(w.latest, e.At)
	e.TTFT, e.Total = limit(e.TTFT, maxTime), limit(e.Total, maxTime)
	e.InputTokens, e.OutputTokens, e.CachedTokens = limit(e.InputTokens, maxTokens), limit(e.OutputTokens, maxTokens), limit(e.CachedTokens, maxTokens)
	e.MaxTokens, e.Tries, e.Status = limit(e.MaxTokens, maxTokens), limit(e.Tries, maxTokens), limit(e.Status, 999)
	w.line = e.appendJSON(w.line[:0])
	for len(w.line) > maxLineBytes && len(e.Blocks) > 0 {
		e.Blocks = e.Blocks[:len(e.Blocks)/2]
		w.line = e.appendJSON(w.line[:0])
	}
	_, err := w.w.Write(w.line)
	return err
}

func limit[T int | time.Duration](v, most T) T { return min(max(v, 0), most) }

// Late is how many entries were moved.
func (w *Writer) Late() uint64 { return w.late }
