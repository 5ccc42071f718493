package events

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Error says what is wrong with a payload and where.
type Error struct {
	Offset int    // byte of the payload
	Field  string // field of the event, "" outside of events
	Reason string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("kv events: byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("kv events: byte %d: %s: %s", e.Offset, e.Field, e.Reason)
}

// reader reads MessagePack. The first failure sticks: later reads return zeros, so that callers check once.
type reader struct {
	b   []byte
	at  int
	err *Error
}

const truncated = "the payload ends too early"

func (r *reader) fail(at int, reason string) {
	if r.err == nil {
		r.err = &Error{Offset: at, Reason: reason}
	}
}

// peek returns the next type byte without taking it, and 0xc1, which MessagePack never uses, at the end.
func (r *reader) peek() byte {
	if r.err != nil || r.at >= len(r.b) {
		return 0xc1
	}
	return r.b[r.at]
}

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.at {
		r.fail(r.at, truncated)
		return nil
	}
	s := r.b[r.at : r.at+n]
	r.at += n
	return s
}

// size takes a big-endian length of n bytes.
func (r *reader) size(n int) int {
	s := r.take(n)
	switch len(s) {
	case 1:
		return int(s[0])
	case 2:
		return int(binary.BigEndian.Uint16(s))
	case 4:
		return int(binary.BigEndian.Uint32(s))
	}
	return 0
}

// null takes a nil if one is next.
func (r *reader) null() bool {
	if r.peek() != 0xc0 {
		return false
	}
	r.at++
	return true
}

// wrong fails at the next value, which is not of the wanted type.
func (r *reader) wrong(want string) {
	if r.err != nil {
		return
	}
	if r.at >= len(r.b) {
		r.fail(r.at, truncated)
		return
	}
	r.fail(r.at, "want "+want+", have "+typeName(r.b[r.at]))
}

func typeName(c byte) string {
	switch {
	case c <= 0x7f, c >= 0xe0, c >= 0xcc && c <= 0xd3:
		return "a whole number"
	case c <= 0x8f, c == 0xde, c == 0xdf:
		return "a map"
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		return "an array"
	case c <= 0xbf, c >= 0xd9 && c <= 0xdb:
		return "text"
	case c == 0xc0:
		return "nil"
	case c == 0xc2, c == 0xc3:
		return "a bool"
	case c >= 0xc4 && c <= 0xc6:
		return "bytes"
	case c == 0xca, c == 0xcb:
		return "a fraction"
	case c == 0xc1:
		return "an invalid byte"
	}
	return "an extension"
}

func isArray(c byte) bool { return c&0xf0 == 0x90 || c == 0xdc || c == 0xdd }
func isMap(c byte) bool   { return c&0xf0 == 0x80 || c == 0xde || c == 0xdf }
func isText(c byte) bool  { return c&0xe0 == 0xa0 || c >= 0xd9 && c <= 0xdb }
func isBytes(c byte) bool { return c >= 0xc4 && c <= 0xc6 }

func (r *reader) array() int {
	switch c := r.peek(); {
	case c&0xf0 == 0x90:
		r.at++
		return int(c & 0x0f)
	case c == 0xdc:
		r.at++
		return r.size(2)
	case c == 0xdd:
		r.at++
		return r.size(4)
	}
	r.wrong("an array")
	return 0
}

func (r *reader) mapping() int {
	switch c := r.peek(); {
	case c&0xf0 == 0x80:
		r.at++
		return int(c & 0x0f)
	case c == 0xde:
		r.at++
		return r.size(2)
	case c == 0xdf:
		r.at++
		return r.size(4)
	}
	r.wrong("a map")
	return 0
}

// raw takes text or bytes; both are accepted, as older MessagePack writers know only one of them.
func (r *reader) raw() []byte {
	switch c := r.peek(); {
	case c&0xe0 == 0xa0:
		r.at++
		return r.take(int(c & 0x1f))
	case c == 0xd9 || c == 0xc4:
		r.at++
		return r.take(r.size(1))
	case c == 0xda || c == 0xc5:
		r.at++
		return r.take(r.size(2))
	case c == 0xdb || c == 0xc6:
		r.at++
		return r.take(r.size(4))
	}
	r.wrong("text")
	return nil
}

// bits takes a whole number of either sign as 64 bits.
func (r *reader) bits() uint64 {
	c := r.peek()
	if c <= 0x7f || c >= 0xe0 {
		r.at++
		return uint64(int64(int8(c)))
	}
	if c < 0xcc || c > 0xd3 {
		r.wrong("a whole number")
		return 0
	}
	r.at++
	s := r.take(1 << (c & 3))
	if s == nil {
		return 0
	}
	switch c {
	case 0xcc:
		return uint64(s[0])
	case 0xcd:
		return uint64(binary.BigEndian.Uint16(s))
	case 0xce:
		return uint64(binary.BigEndian.Uint32(s))
	case 0xd0:
		return uint64(int64(int8(s[0])))
	case 0xd1:
		return uint64(int64(int16(binary.BigEndian.Uint16(s))))
	case 0xd2:
		return uint64(int64(int32(binary.BigEndian.Uint32(s))))
	}
	return binary.BigEndian.Uint64(s)
}

// natural takes a whole number from 0 to limit.
func (r *reader) natural(limit uint64) uint64 {
	at := r.at
	v := r.bits()
	if r.err == nil && v > limit {
		r.fail(at, fmt.Sprintf("the number must be between 0 and %d", limit))
		return 0
	}
	return v
}

func (r *reader) float() float64 {
	switch r.peek() {
	case 0xcb:
		r.at++
		if s := r.take(8); s != nil {
			return math.Float64frombits(binary.BigEndian.Uint64(s))
		}
		return 0
	case 0xca:
		r.at++
		if s := r.take(4); s != nil {
			return float64(math.Float32frombits(binary.BigEndian.Uint32(s)))
		}
		return 0
	}
	return float64(int64(r.bits()))
}

// skip passes over one value. It counts what is still open instead of recursing, so depth costs nothing.
func (r *reader) skip() {
	for open := uint64(1); open > 0 && r.err == nil; open-- {
		at := r.at
		if at >= len(r.b) {
			r.fail(at, truncated)
			return
		}
		switch c := r.b[at]; {
		case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
			r.at++
		case isMap(c):
			open += 2 * uint64(r.mapping())
		case isArray(c):
			open += uint64(r.array())
		case isText(c), isBytes(c):
			r.raw()
		case c == 0xca, c == 0xcb:
			r.at += 1
			r.take(4 << (c & 1))
		case c >= 0xcc && c <= 0xd3:
			r.at++
			r.take(1 << (c & 3))
		case c >= 0xd4 && c <= 0xd8:
			r.at++
			r.take(1 + 1<<(c-0xd4))
		case c >= 0xc7 && c <= 0xc9:
			r.at++
			r.take(1 + r.size(1<<(c-0xc7)))
		default:
			r.fail(at, "the byte is not MessagePack")
		}
	}
}
