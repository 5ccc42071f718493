package api

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest in a request body, the body itself included. Real requests stay
// under 30 (a JSON schema in a tool); the bound keeps a hostile body from growing the stack.
const MaxDepth = 512

// Span is the place of a value in a body: body[Start:End]. The zero Span is that of an absent value (nothing inside a
// JSON object starts at offset 0).
type Span struct{ Start, End int }

// Present reports whether the body had the value.
func (s Span) Present() bool { return s.Start > 0 }

// Of returns the bytes of the span in body.
func (s Span) Of(body []byte) []byte { return body[s.Start:s.End] }

// scanner walks JSON text in place. Its methods consume what they name and report success; after a failure, what and
// i say why and where.
type scanner struct {
	b    []byte
	i    int
	what string // what is wrong at i; empty while nothing is
}

func (s *scanner) fail(what string) bool {
	if s.what == "" {
		s.what = what
	}
	return false
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end (0 starts no JSON value).
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// value consumes one value that is nested depth deep.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); c {
	case '"':
		return s.str()
	case '{':
		if depth >= MaxDepth {
			return s.fail("nested too deep")
		}
		for first := true; ; first = false {
			if _, ok := s.member(first); !ok {
				return s.what == ""
			}
			if !s.value(depth + 1) {
				return false
			}
		}
	case '[':
		if depth >= MaxDepth {
			return s.fail("nested too deep")
		}
		for first := true; ; first = false {
			if !s.element(first) {
				return s.what == ""
			}
			if !s.value(depth + 1) {
				return false
			}
		}
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return s.number()
		}
		return s.fail("expected a value")
	}
}

// member moves into an object at its '{' (first) or on from the end of a member's value, and consumes the next key
// and its colon. It returns the key as it is written, without quotes; false at the end of the object or on a failure.
func (s *scanner) member(first bool) (key []byte, ok bool) {
	if first {
		s.i++
	}
	s.space()
	if s.peek() == '}' {
		s.i++
		return nil, false
	}
	if !first {
		if s.peek() != ',' {
			return nil, s.fail("expected ',' or '}' after a value")
		}
		s.i++
		s.space()
	}
	if s.peek() != '"' {
		return nil, s.fail("expected a key in quotes")
	}
	start := s.i + 1
	if !s.str() {
		return nil, false
	}
	key = s.b[start : s.i-1]
	s.space()
	if s.peek() != ':' {
		return nil, s.fail("expected ':' after a key")
	}
	s.i++
	s.space()
	return key, true
}

// element moves into an array at its '[' (first) or on from the end of an element, to the start of the next. It
// returns false at the end of the array or on a failure.
func (s *scanner) element(first bool) bool {
	if first {
		s.i++
		s.space()
		if s.peek() == ']' {
			s.i++
			return false
		}
		return true
	}
	s.space()
	switch s.peek() {
	case ']':
		s.i++
		return false
	case ',':
		s.i++
		s.space()
		return true
	}
	return s.fail("expected ',' or ']' after a value")
}

func (s *scanner) literal(lit string) bool {
	if len(s.b)-s.i < len(lit) || string(s.b[s.i:s.i+len(lit)]) != lit {
		return s.fail("expected a value")
	}
	s.i += len(lit)
	return true
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case '1' <= c && c <= '9':
		s.digits()
	default:
		return s.fail("expected a digit")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.fail("expected a digit after the decimal point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.fail("expected a digit in the exponent")
		}
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// str consumes a string from its opening to its closing quote.
func (s *scanner) str() bool {
	b, i := s.b, s.i+1
	for {
		i = plain(b, i)
		if i >= len(b) {
			s.i = len(b)
			return s.fail("a string does not end")
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return true
		case c == '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				s.i = i
				return s.fail("invalid escape in a string")
			}
			i += n
		default:
			s.i = i
			return s.fail("control character in a string")
		}
	}
}

// plain returns the index of the first byte of b[i:] that is a quote, a backslash or a control character, or len(b).
// Prompts are long strings, so it takes eight bytes a step: a byte of m has its high bit set if the byte of x is one
// of the three, and the lowest such bit is exact (borrows only run upwards).
func plain(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		m := ((x - ones*0x20) & ^x) | ((quote - ones) & ^quote) | ((slash - ones) & ^slash)
		if m &= highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < 0x20 {
			break
		}
	}
	return i
}

// escapeLen returns the length of the escape that b starts with, or 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendUnquoted appends the value of a valid string, given without its quotes, to dst. Like encoding/json it puts
// U+FFFD in the place of invalid UTF-8 and of unpaired surrogates.
func appendUnquoted(dst, raw []byte) []byte {
	for len(raw) > 0 {
		if raw[0] != '\\' {
			r, n := utf8.DecodeRune(raw)
			dst = utf8.AppendRune(dst, r)
			raw = raw[n:]
			continue
		}
		c := raw[1]
		if c != 'u' {
			dst = append(dst, unescaped(c))
			raw = raw[2:]
			continue
		}
		r, _ := hex4(raw[2:])
		raw = raw[6:]
		if utf16.IsSurrogate(r) {
			pair := utf8.RuneError
			if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
				low, _ := hex4(raw[2:])
				pair = utf16.DecodeRune(r, low)
			}
			if r = pair; r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // a quote, a backslash or a slash stands for itself
}
