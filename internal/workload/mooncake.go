package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// MooncakeBlockTokens is the size of the blocks that hash_ids of a Mooncake trace stand for.
const MooncakeBlockTokens = 512

// Mooncake reads a trace in the format of the Mooncake project, which its conversation, tool-and-agent and synthetic traces
// share: a JSON object a line, such as
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
	return readLines(r, &mooncakeTrace{clock: clock{unit: time.Millisecond}})
}

// mooncakeTrace is what reading a line needs to know of those before it.
type mooncakeTrace struct {
	clock    clock
	requests int
	line     mooncakeLine
	stamp    []byte
}

func (t *mooncakeTrace) read(line []byte) (r Request, ok bool, err error) {
	l := &t.line
	if !l.parse(line) {
		if err := l.decode(line); err != nil {
			return r, false, err
		}
	}
	if err := l.check(); err != nil {
		return r, false, err
	}
	t.stamp = strconv.AppendInt(t.stamp[:0], l.timestamp, 10)
	at, err := t.clock.arrival("timestamp", l.timestamp, t.stamp)
	if err != nil {
		return r, false, err
	}
	input, output := int(l.input), int(l.output)
	pieces := make([]Piece, len(l.blocks))
	left := input
	for i, id := range l.blocks {
		pieces[i] = Piece{id, min(left, MooncakeBlockTokens)}
		left -= MooncakeBlockTokens
	}
	n := t.requests
	t.requests++
	return alone(n, at, input, output, pieces), true, nil
}

// The fields of a line, as bits.
const (
	hasTimestamp = 1 << iota
	hasInput
	hasOutput
	hasBlocks
)

// mooncakeLine is a request in the trace.
type mooncakeLine struct {
	timestamp, input, output int64
	blocks                   []uint64
	has                      uint8
}

// decode reads any JSON.
func (l *mooncakeLine) decode(line []byte) error {
	var v struct {
		Timestamp *int64   `json:"timestamp"`
		Input     *int64   `json:"input_length"`
		Output    *int64   `json:"output_length"`
		Blocks    []uint64 `json:"hash_ids"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return err
	}
	*l = mooncakeLine{blocks: append(l.blocks[:0], v.Blocks...)}
	set := func(field *int64, bit uint8, v *int64) {
		if v != nil {
			*field = *v
			l.has |= bit
		}
	}
	set(&l.timestamp, hasTimestamp, v.Timestamp)
	set(&l.input, hasInput, v.Input)
	set(&l.output, hasOutput, v.Output)
	return nil
}

// parse reads a line that is written as the published traces are: the four fields, once each, in whole numbers from 0 up.
// It reports false for any other, which decode reads or knows the error of.
func (l *mooncakeLine) parse(line []byte) bool {
	*l = mooncakeLine{blocks: l.blocks[:0]}
	i := 0
	space := func() {
		for i < len(line) && line[i] == ' ' {
			i++
		}
	}
	is := func(c byte) bool {
		space()
		if i < len(line) && line[i] == c {
			i++
			return true
		}
		return false
	}
	number := func() (n int64, ok bool) {
		space()
		start := i
		for i < len(line) && line[i]-'0' < 10 {
			n = n*10 + int64(line[i]-'0')
			i++
		}
		digits := i - start
		return n, digits > 0 && digits <= 18 && (line[start] != '0' || digits == 1)
	}
	if !is('{') {
		return false
	}
	for first := true; !is('}'); first = false {
		if !first && !is(',') || !is('"') {
			return false
		}
		start := i
		for i < len(line) && line[i] != '"' {
			i++
		}
		name := line[start:i]
		if !is('"') || !is(':') {
			return false
		}
		field, ok := uint8(0), true
		switch string(name) {
		case "timestamp":
			field = hasTimestamp
			l.timestamp, ok = number()
		case "input_length":
			field = hasInput
			l.input, ok = number()
		case "output_length":
			field = hasOutput
			l.output, ok = number()
		case "hash_ids":
			field = hasBlocks
			if !is('[') {
				return false
			}
			for first := true; !is(']'); first = false {
				if !first && !is(',') {
					return false
				}
				id, ok := number()
				if !ok {
					return false
				}
				l.blocks = append(l.blocks, uint64(id))
			}
		}
		if !ok || field == 0 || l.has&field != 0 {
			return false
		}
		l.has |= field
	}
	return i == len(line)
}

// check reports what is missing or out of range.
func (l *mooncakeLine) check() error {
	const all = hasTimestamp | hasInput | hasOutput
	want := (l.input + MooncakeBlockTokens - 1) / MooncakeBlockTokens
	if l.has&all == all && l.timestamp >= 0 && l.input >= 1 && l.input <= maxTokens && l.output >= 1 && l.output <= maxTokens && int64(len(l.blocks)) == want {
		return nil
	}
	length := func(name string, bit uint8, v int64) error {
		switch {
		case l.has&bit == 0:
			return fmt.Errorf("%s is missing", name)
		case v < 1 || v > maxTokens:
			return fmt.Errorf("%s is %d, want 1 to %d", name, v, maxTokens)
		}
		return nil
	}
	var stamp error
	switch {
	case l.has&hasTimestamp == 0:
		stamp = errors.New("timestamp is missing")
	case l.timestamp < 0:
		stamp = fmt.Errorf("timestamp is %d, want 0 or more", l.timestamp)
	}
	if err := errors.Join(stamp, length("input_length", hasInput, l.input), length("output_length", hasOutput, l.output)); err != nil {
		return err
	}
	return fmt.Errorf("%d hash_ids for input_length %d, want %d of %d tokens each", len(l.blocks), l.input, want, MooncakeBlockTokens)
}
