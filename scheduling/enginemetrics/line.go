package enginemetrics

import (
	"bytes"
	"math"
	"strconv"
)

// quoted returns what is between the quote that b begins with and the one that ends it, escapes and all, and where it ends.
func quoted(b []byte) (raw []byte, n int, ok bool) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return b[1:i], i + 1, true
		case '\\':
			i++
		case '\n':
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// unescape appends a label's value without its escapes.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' && i+1 < len(raw) {
			i++
			if c = raw[i]; c == 'n' {
				c = '\n'
			}
		}
		dst = append(dst, c)
	}
	return dst
}

// labels walks the labels of a series; b begins behind the opening brace. next is false at the end, where rest is what
// follows the closing brace, or nil if the line is broken.
type labels struct {
	rest        []byte
	name, value []byte // value as it stands, escapes and all
}

func (l *labels) next() bool {
	b := bytes.TrimLeft(l.rest, " \t,")
	if len(b) == 0 {
		l.rest = nil
		return false
	}
	if b[0] == '}' {
		l.rest = b[1:]
		return false
	}
	equals := bytes.IndexByte(b, '=')
	if equals < 0 {
		l.rest = nil
		return false
	}
	l.name = bytes.TrimRight(b[:equals], " \t")
	b = bytes.TrimLeft(b[equals+1:], " \t")
	if len(b) == 0 || b[0] != '"' {
		l.rest = nil
		return false
	}
	raw, n, ok := quoted(b)
	if !ok {
		l.rest = nil
		return false
	}
	l.value, l.rest = raw, b[n:]
	return true
}

// number64 reads the value of a series, with whatever follows it: a time, an exemplar.
func number64(b []byte) float64 {
	b = bytes.TrimLeft(b, " \t")
	for i, c := range b {
		if c == ' ' || c == '\t' || c == '\r' || c == '#' {
			b = b[:i]
			break
		}
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}
