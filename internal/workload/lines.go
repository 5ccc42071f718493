package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxLineBytes bounds a line of a trace; the longest of the published ones has 2 KB.
const maxLineBytes = 1 << 20

// format reads the lines of one trace, in order.
type format interface {
	// read returns the request in a line. ok is false if it holds none: a header, or a request that was not answered. The
	// line is valid during the call only.
	read(line []byte) (r Request, ok bool, err error)
}

// readLines reads a trace line by line, holding one at a time. Empty lines are passed over, errors name the line.
func readLines(r io.Reader, f format) Source {
	return func(yield func(Request, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
		number := 0
		for lines.Scan() {
			number++
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			request, ok, err := f.read(line)
			if err != nil {
				yield(Request{}, fmt.Errorf("line %d: %w", number, err))
				return
			}
			if ok && !yield(request, nil) {
				return
			}
		}
		err := lines.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxLineBytes)
		}
		if err != nil {
			yield(Request{}, fmt.Errorf("line %d: %w", number+1, err))
		}
	}
}

// clock turns the timestamps of a trace into arrivals, which count from its first request, and holds them to their order.
type clock struct {
	unit        time.Duration
	started     bool
	first, last int64
	text        []byte // of the last, as the trace has it
}

// arrival returns the arrival of a request at t, which the trace writes as text in the named field.
func (c *clock) arrival(field string, t int64, text []byte) (time.Duration, error) {
	if !c.started {
		c.started, c.first, c.last = true, t, t
	}
	if t < c.last {
		return 0, fmt.Errorf("%s %s is before the %s of an earlier line, want them in order", field, text, c.text)
	}
	if t-c.first > int64(endOfTime/c.unit) || t-c.first < 0 {
		return 0, fmt.Errorf("%s %s is too far from the first, %v away", field, text, endOfTime)
	}
	c.last, c.text = t, append(c.text[:0], text...)
	return time.Duration(t-c.first) * c.unit, nil
}

// alone is a request that shares nothing with others but what its pieces share.
func alone(n int, at time.Duration, input, output int, pieces []Piece) Request {
	return Request{
		At: at, Session: n, Conversation: n, Last: true,
		Messages:    []Message{{User, pieces}},
		InputTokens: input, OutputTokens: output,
	}
}

// only is the text of request n of a trace that does not tell what prompts share.
func only(n int) uint64 { return mix(mix(uint64(n))) }
