package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader walks a JSON text without building values: a vocabulary of 100,000 tokens is read in one pass. The first
// error stops it; every method is then a no-op.
type jsonReader struct {
	data   []byte
	pos    int
	err    error
	buffer []byte // of a string with escapes
}

func (r *jsonReader) fail(reason string) {
	if r.err == nil {
		r.err = fmt.Errorf("offset %d: %s", r.pos, reason)
	}
	r.pos = len(r.data)
}

// next returns the first byte of what follows, 0 at the end.
func (r *jsonReader) next() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) expect(c byte) {
	if r.next() != c {
		r.fail(fmt.Sprintf("%q expected", c))
		return
	}
	r.pos++
}

// object calls each for every member, to read its value. The key is valid until then.
func (r *jsonReader) object(each func(key []byte)) {
	r.members('{', '}', func() {
		key := r.string()
		r.expect(':')
		if r.err == nil {
			each(key)
		}
	})
}

func (r *jsonReader) array(each func()) { r.members('[', ']', each) }

func (r *jsonReader) members(open, end byte, each func()) {
	r.expect(open)
	if r.next() == end {
		r.pos++
		return
	}
	for r.err == nil {
		each()
		if c := r.next(); c == end {
			r.pos++
			return
		}
		r.expect(',')
	}
}

// string reads a string; the result is valid until the next is read.
func (r *jsonReader) string() []byte {
	r.expect('"')
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			r.pos++
			return r.data[start : r.pos-1]
		case c == '\\':
			r.buffer = append(r.buffer[:0], r.data[start:r.pos]...)
			return r.escaped()
		case c < ' ':
			r.fail("control character in a string")
			return nil
		}
	}
	r.fail("string without end")
	return nil
}

func (r *jsonReader) escaped() []byte {
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			return r.buffer
		case c < ' ':
			r.fail("control character in a string")
			return nil
		case c != '\\':
			r.buffer = append(r.buffer, c)
			continue
		}
		if r.pos == len(r.data) {
			break
		}
		c = r.data[r.pos]
		r.pos++
		if c == 'u' {
			unit := r.unit()
			if utf16.IsSurrogate(unit) {
				if !bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
					r.fail("half of a surrogate pair")
					return nil
				}
				r.pos += 2
				if unit = utf16.DecodeRune(unit, r.unit()); unit == utf8.RuneError {
					r.fail("half of a surrogate pair")
					return nil
				}
			}
			r.buffer = utf8.AppendRune(r.buffer, unit)
			continue
		}
		const names, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		i := bytes.IndexByte([]byte(names), c)
		if i < 0 {
			r.fail("unknown escape")
			return nil
		}
		r.buffer = append(r.buffer, values[i])
	}
	r.fail("string without end")
	return nil
}

func (r *jsonReader) unit() rune {
	if r.pos+4 > len(r.data) {
		r.fail("escape without end")
		return 0
	}
	n, err := strconv.ParseUint(string(r.data[r.pos:r.pos+4]), 16, 16)
	if err != nil {
		r.fail("escape is not hexadecimal")
	}
	r.pos += 4
	return rune(n)
}

// uint32 reads a number without sign, fraction and exponent.
func (r *jsonReader) uint32() uint32 {
	r.next()
	start, n := r.pos, uint64(0)
	for r.pos < len(r.data) && r.data[r.pos]-'0' <= 9 {
		if n = n*10 + uint64(r.data[r.pos]-'0'); n > 1<<32-1 {
			r.fail("number above 32 bits")
			return 0
		}
		r.pos++
	}
	if r.pos == start {
		r.fail("id expected")
	}
	return uint32(n)
}

// skip passes over a value and returns its text. What is inside is checked when it is read.
func (r *jsonReader) skip() []byte {
	first := r.next()
	start, depth := r.pos, 0
	if first == 0 {
		r.fail("value expected")
		return nil
	}
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case '"':
			for r.pos++; r.pos < len(r.data) && r.data[r.pos] != '"'; r.pos++ {
				if r.data[r.pos] == '\\' {
					r.pos++
				}
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return r.data[start:r.pos]
			}
			if r.data[r.pos] != ',' {
				depth--
			}
		}
		r.pos++
		if depth == 0 && (first == '"' || first == '{' || first == '[') {
			return r.data[start:min(r.pos, len(r.data))]
		}
	}
	r.fail("value without end")
	return nil
}

// decode reads a small value into v. An absent value leaves v as it is.
func decode(raw []byte, v any) error {
	if len(raw) == 0 {
		return nil
	}
	err := json.Unmarshal(raw, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return fmt.Errorf("%s: %s where %s is expected", mismatch.Field, mismatch.Value, mismatch.Type)
	}
	return err
}
