package workload

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

const (
	// MooncakeBlockTokens is the size of the blocks that hash_ids of a Mooncake trace stand for.
	MooncakeBlockTokens = 512
	// maxLineBytes bounds a line of a trace; the longest of the published ones has 2 KB.
	maxLineBytes = 1 << 20
)

// mooncakeLine is a request in the trace. Pointers tell what is missing from what is 0.
type mooncakeLine struct {
	Timestamp *int64   `json:"timestamp"` // milliseconds
	Input     *int     `json:"input_length"`
	Output    *int     `json:"output_length"`
	Blocks    []uint64 `json:"hash_ids"`
}

// Mooncake reads a trace in the format of the Mooncake project: a JSON object a line, such as
//
//	{"timestamp": 3000, "input_length": 1300, "output_length": 52, "hash_ids": [0, 46, 47]}
//
// in order of timestamp, in milliseconds. Each ID stands for a block of 512 tokens of the prompt, the last one possibly
// shorter, and for all before it. Arrival is counted from the first line. A request is a session of one user message with
// a piece for each block, so that equal IDs become equal text and prompts share what they share in the trace.
//
// Empty lines and unknown fields are passed over. An error names the line. The sequence can be iterated once; it holds one
// line at a time.
func Mooncake(r io.Reader) Source {
	return func(yield func(Request, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLineBytes)
		t := mooncakeTrace{}
		number := 0
		for lines.Scan() {
			number++
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			request, err := t.read(line)
			if err != nil {
				yield(Request{}, fmt.Errorf("line %d: %w", number, err))
				return
			}
			if !yield(request, nil) {
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

// mooncakeTrace is what reading a line needs to know of those before it.
type mooncakeTrace struct {
	requests    int
	first, last int64 // timestamps
}

func (t *mooncakeTrace) read(line []byte) (Request, error) {
	var l mooncakeLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Request{}, err
	}
	if err := l.check(); err != nil {
		return Request{}, err
	}
	if t.requests == 0 {
		t.first, t.last = *l.Timestamp, *l.Timestamp
	}
	if *l.Timestamp < t.last {
		return Request{}, fmt.Errorf("timestamp %d is before the %d of an earlier line, want them in order", *l.Timestamp, t.last)
	}
	if *l.Timestamp-t.first > math.MaxInt64/int64(time.Millisecond) {
		return Request{}, fmt.Errorf("timestamp %d is too far from the first, %d", *l.Timestamp, t.first)
	}
	t.last = *l.Timestamp
	r := Request{
		At:      time.Duration(*l.Timestamp-t.first) * time.Millisecond,
		Session: t.requests, Last: true,
		Messages:    []Message{{User, make([]Piece, len(l.Blocks))}},
		InputTokens: *l.Input, OutputTokens: *l.Output,
	}
	left := *l.Input
	for i, id := range l.Blocks {
		r.Messages[0].Pieces[i] = Piece{id, min(left, MooncakeBlockTokens)}
		left -= MooncakeBlockTokens
	}
	t.requests++
	return r, nil
}

// check reports what is missing or out of range.
func (l *mooncakeLine) check() error {
	length := func(name string, v *int) error {
		switch {
		case v == nil:
			return fmt.Errorf("%s is missing", name)
		case *v < 1 || *v > maxTokens:
			return fmt.Errorf("%s is %d, want 1 to %d", name, *v, maxTokens)
		}
		return nil
	}
	var stamp error
	switch {
	case l.Timestamp == nil:
		stamp = errors.New("timestamp is missing")
	case *l.Timestamp < 0:
		stamp = fmt.Errorf("timestamp is %d, want 0 or more", *l.Timestamp)
	}
	err := errors.Join(stamp, length("input_length", l.Input), length("output_length", l.Output))
	if err != nil {
		return err
	}
	if want := (*l.Input + MooncakeBlockTokens - 1) / MooncakeBlockTokens; len(l.Blocks) != want {
		return fmt.Errorf("%d hash_ids for input_length %d, want %d of %d tokens each", len(l.Blocks), *l.Input, want, MooncakeBlockTokens)
	}
	return nil
}
