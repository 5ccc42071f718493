package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// appendStr appends Python's str of v.
func (r *run) appendStr(dst []byte, v Value) []byte {
	switch v.kind {
	case stringKind:
		return append(dst, v.s...)
	case undefinedKind:
		return dst
	}
	return r.appendRepr(dst, v, 0)
}

// str is Python's str of v.
func (r *run) str(v Value) string {
	if v.kind == stringKind {
		return v.s
	}
	return string(r.appendStr(nil, v))
}

// maxNesting bounds how deep values are walked; a value that comes from JSON is not deeper.
const maxNesting = 512

func (r *run) appendRepr(dst []byte, v Value, depth int) []byte {
	if depth > maxNesting {
		r.fail("a value is nested deeper than %d levels", maxNesting)
	}
	switch v.kind {
	case undefinedKind:
		return append(dst, "Undefined"...)
	case noneKind:
		return append(dst, "None"...)
	case boolKind:
		if v.n != 0 {
			return append(dst, "True"...)
		}
		return append(dst, "False"...)
	case intKind:
		if v.flavor == large {
			return v.big().Append(dst, 10)
		}
		return strconv.AppendInt(dst, v.int(), 10)
	case floatKind:
		return appendFloat(dst, v.float(), "inf", "nan")
	case stringKind:
		if v.flavor == markup {
			dst = append(dst, "Markup("...)
			return append(appendQuoted(dst, v.s, r.keep), ')')
		}
		return appendQuoted(dst, v.s, r.keep)
	case listKind:
		open, end := byte('['), byte(']')
		switch v.flavor {
		case tuple:
			open, end = '(', ')'
		case view, generator:
			r.unsupported("to print a %s", typeName(v))
		}
		items := v.ref.(*list).items
		dst = append(dst, open)
		for i, item := range items {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = r.appendRepr(dst, item, depth+1)
		}
		if v.flavor == tuple && len(items) == 1 {
			dst = append(dst, ',')
		}
		return append(dst, end)
	case dictKind:
		d := v.ref.(*Dict)
		dst = append(dst, '{')
		for i := range d.keys {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = r.appendRepr(dst, d.keys[i], depth+1)
			dst = append(dst, ": "...)
			dst = r.appendRepr(dst, d.values[i], depth+1)
		}
		return append(dst, '}')
	}
	r.unsupported("to print a %s", typeName(v))
	return dst
}

// appendFloat appends Python's repr of f: the shortest text that reads back as f.
func appendFloat(dst []byte, f float64, inf, nan string) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, inf...)
	case math.IsInf(f, -1):
		return append(append(dst, '-'), inf...)
	case math.IsNaN(f):
		return append(dst, nan...)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64) // the exponent has two digits at least, as Python's
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

const hex = "0123456789abcdef"

// appendQuoted appends Python's repr of a string, in which the characters of keep are not escaped.
func appendQuoted(dst []byte, s, keep string) []byte {
	quote := byte('\'')
	for i := range len(s) {
		if s[i] == '"' {
			quote = '\''
			break
		}
		if s[i] == '\'' {
			quote = '"'
		}
	}
	dst = append(dst, quote)
	for _, c := range s {
		switch {
		case c == rune(quote) || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case unicode.IsPrint(c) || strings.ContainsRune(keep, c):
			dst = utf8.AppendRune(dst, c)
		case c < 0x100:
			dst = append(dst, `\x`...)
			dst = append(dst, hex[c>>4], hex[c&15])
		case c < 0x10000:
			dst = appendHex4(append(dst, '\\', 'u'), c)
		default:
			dst = append(dst, '\\', 'U')
			dst = appendHex4(appendHex4(dst, c>>16), c&0xffff)
		}
	}
	return append(dst, quote)
}

func appendHex4(dst []byte, c rune) []byte {
	return append(dst, hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
}

// isSpace is Python's str.isspace of a character.
func isSpace(c rune) bool {
	return unicode.IsSpace(c) || 0x1c <= c && c <= 0x1f
}
