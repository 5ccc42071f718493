package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	endToken      tokenKind = iota // of the template
	dataToken                      // text that stands between tags
	printToken                     // {{
	printEndToken                  // }}
	tagToken                       // {%
	tagEndToken                    // %}
	nameToken
	stringToken
	intToken
	floatToken
	opToken
)

type lexeme struct {
	kind tokenKind
	text string // of strings, what they say
	line int
}

func (t lexeme) String() string {
	switch t.kind {
	case endToken:
		return "the end"
	case printEndToken:
		return "}}"
	case tagEndToken:
		return "%}"
	}
	return strconv.Quote(t.text)
}

// lexer cuts a template into lexemes, in the environment of transformers: the first line break behind a tag goes, and so does
// the white space between the beginning of a line and a tag.
type lexer struct {
	src     string
	at      int
	line    int
	out     []lexeme
	newline bool // what came last ended with a line break, or nothing came yet
}

func lex(source string) []lexeme {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(source, "\n"), line: 1, newline: true}
	for l.at < len(l.src) {
		l.data()
	}
	l.emit(endToken, "")
	return l.out
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.out = append(l.out, lexeme{kind, text, l.line})
}

// take moves on over n bytes.
func (l *lexer) take(n int) string {
	s := l.src[l.at : l.at+n]
	l.at += n
	l.line += strings.Count(s, "\n")
	if n > 0 {
		l.newline = s[n-1] == '\n'
	}
	return s
}

func (l *lexer) fail(format string, args ...any) {
	panic(stop{&Error{Line: l.line, Message: fmt.Sprintf(format, args...)}})
}

// data reads text up to the next tag, and the tag.
func (l *lexer) data() {
	rest := l.src[l.at:]
	open := -1
	for i := strings.IndexByte(rest, '{'); i >= 0 && i+1 < len(rest); {
		if c := rest[i+1]; c == '{' || c == '%' || c == '#' {
			open = i
			break
		}
		next := strings.IndexByte(rest[i+1:], '{')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	if open < 0 {
		l.emit(dataToken, l.take(len(rest)))
		return
	}
	kind := rest[open+1]
	sign := byte(0)
	if open+2 < len(rest) && (rest[open+2] == '-' || rest[open+2] == '+') {
		sign = rest[open+2]
	}
	text := rest[:open]
	switch {
	case sign == '-':
		text = strings.TrimRightFunc(text, isSpace)
	case sign == 0 && kind != '{':
		start := strings.LastIndexByte(text, '\n') + 1
		if (start > 0 || l.newline) && strings.TrimLeftFunc(text[start:], isSpace) == "" {
			text = text[:start]
		}
	}
	line := l.line
	l.take(open)
	if text != "" {
		l.out = append(l.out, lexeme{dataToken, text, line})
	}
	l.take(2)
	if sign != 0 {
		l.take(1)
	}
	switch kind {
	case '#':
		l.comment()
	case '{':
		l.emit(printToken, "")
		l.inside('}', printEndToken)
	case '%':
		if !l.raw() {
			l.emit(tagToken, "")
			l.inside('%', tagEndToken)
		}
	}
}

func (l *lexer) comment() {
	end := strings.Index(l.src[l.at:], "#}")
	if end < 0 {
		l.fail("a comment does not end")
	}
	sign := byte(0)
	if end > 0 {
		sign = l.src[l.at+end-1]
	}
	l.take(end + 2)
	l.afterTag(sign)
}

// afterTag drops what a tag takes of the text behind it.
func (l *lexer) afterTag(sign byte) {
	rest := l.src[l.at:]
	switch {
	case sign == '-':
		l.take(len(rest) - len(strings.TrimLeftFunc(rest, isSpace)))
	case sign != '+' && strings.HasPrefix(rest, "\n"):
		l.take(1)
	}
}

// raw reads {% raw %}, of which the opening is read, up to {% endraw %}.
func (l *lexer) raw() bool {
	start := strings.TrimLeftFunc(l.src[l.at:], isSpace)
	body, ok := strings.CutPrefix(start, "raw")
	if !ok {
		return false
	}
	body = strings.TrimLeftFunc(body, isSpace)
	sign := byte(0)
	if strings.HasPrefix(body, "-%}") {
		sign, body = '-', body[1:]
	}
	if body, ok = strings.CutPrefix(body, "%}"); !ok {
		return false
	}
	if sign == '-' {
		body = strings.TrimLeftFunc(body, isSpace)
	}
	l.take(len(l.src) - l.at - len(body))
	for from := 0; ; {
		i := strings.Index(body[from:], "{%")
		if i < 0 {
			l.fail("raw does not end")
		}
		i += from
		from = i + 2
		end, open := body[from:], byte(0)
		if end != "" && (end[0] == '-' || end[0] == '+') {
			open, end = end[0], end[1:]
		}
		if end, ok = strings.CutPrefix(strings.TrimLeftFunc(end, isSpace), "endraw"); !ok {
			continue
		}
		end = strings.TrimLeftFunc(end, isSpace)
		sign := byte(0)
		if end != "" && (end[0] == '-' || end[0] == '+') {
			sign, end = end[0], end[1:]
		}
		if end, ok = strings.CutPrefix(end, "%}"); !ok {
			continue
		}
		text := body[:i]
		if open == '-' {
			text = strings.TrimRightFunc(text, isSpace)
		} else if start := strings.LastIndexByte(text, '\n') + 1; open == 0 && start > 0 && strings.TrimLeftFunc(text[start:], isSpace) == "" {
			text = text[:start]
		}
		l.emit(dataToken, text)
		l.take(len(body) - len(end))
		l.afterTag(sign)
		return true
	}
}

var operators = []string{"**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

// inside reads a tag up to its end: close and }.
func (l *lexer) inside(close byte, kind tokenKind) {
	open := 0 // brackets
	for {
		rest := l.src[l.at:]
		trimmed := strings.TrimLeftFunc(rest, isSpace)
		l.take(len(rest) - len(trimmed))
		rest = trimmed
		if rest == "" {
			l.fail("a tag does not end")
		}
		if open == 0 {
			sign, n := byte(0), 0
			if rest[0] == '-' || rest[0] == '+' && close == '%' {
				sign, n = rest[0], 1
			}
			if len(rest) > n+1 && rest[n] == close && rest[n+1] == '}' {
				l.take(n + 2)
				l.emit(kind, "")
				if sign == '-' || kind == tagEndToken {
					l.afterTag(sign)
				}
				return
			}
		}
		c, _ := utf8.DecodeRuneInString(rest)
		switch {
		case c == '"' || c == '\'':
			l.str(byte(c))
		case '0' <= c && c <= '9':
			l.number(rest)
		case c == '_' || unicode.IsLetter(c):
			n := strings.IndexFunc(rest, func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) })
			if n < 0 {
				n = len(rest)
			}
			l.emit(nameToken, l.take(n))
		default:
			op := ""
			for _, candidate := range operators {
				if strings.HasPrefix(rest, candidate) {
					op = candidate
					break
				}
			}
			switch op {
			case "":
				l.fail("unexpected %q", c)
			case "(", "[", "{":
				open++
			case ")", "]", "}":
				if open--; open < 0 {
					l.fail("unexpected %q", op)
				}
			}
			l.emit(opToken, op)
			l.take(len(op))
		}
	}
}

func (l *lexer) number(rest string) {
	digits := func(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789_")) }
	if len(rest) > 1 && rest[0] == '0' && strings.IndexByte("xXoObB", rest[1]) >= 0 {
		l.fail("a number that is not decimal")
	}
	n, kind := digits(rest), intToken
	after := l.at > 0 && l.src[l.at-1] == '.'
	if more := rest[n:]; !after && len(more) > 1 && more[0] == '.' && digits(more[1:]) > 0 {
		n, kind = n+1+digits(more[1:]), floatToken
	}
	if more := rest[n:]; !after && len(more) > 1 && more[0]|0x20 == 'e' {
		sign := 0
		if more[1] == '+' || more[1] == '-' {
			sign = 1
		}
		if d := digits(more[1+sign:]); d > 0 {
			n, kind = n+1+sign+d, floatToken
		}
	}
	l.emit(kind, strings.ReplaceAll(l.take(n), "_", ""))
}

func (l *lexer) str(quote byte) {
	body := l.src[l.at+1:]
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '\\':
			i++
		case quote:
			text := body[:i]
			if strings.IndexByte(text, '\\') >= 0 {
				text = l.unescape(text)
			}
			l.emit(stringToken, text)
			l.take(i + 2)
			return
		}
	}
	l.fail("a string does not end")
}

// unescape reads the escapes of a string as Python does in its own.
func (l *lexer) unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := 0
		switch c := s[i]; c {
		case '\n':
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case 'N':
			l.fail(`the escape \N`)
		default:
			if '0' <= c && c <= '7' {
				n := 1
				for n < 3 && i+n < len(s) && '0' <= s[i+n] && s[i+n] <= '7' {
					n++
				}
				code, _ := strconv.ParseUint(s[i:i+n], 8, 32)
				b.WriteRune(rune(code))
				i += n - 1
			} else if at := strings.IndexByte(`\'"abfnrtv`, c); at >= 0 {
				b.WriteByte("\\'\"\a\b\f\n\r\t\v"[at])
			} else {
				b.WriteByte('\\')
				i--
				_, size := utf8.DecodeRuneInString(s[i+1:])
				b.WriteString(s[i+1 : i+1+size])
				i += size
			}
		}
		if digits > 0 {
			if i+digits >= len(s) {
				l.fail(`an escape \%c is cut short`, s[i])
			}
			code, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil || !utf8.ValidRune(rune(code)) {
				l.fail(`the escape \%s is no character`, s[i:i+1+digits])
			}
			b.WriteRune(rune(code))
			i += digits
		}
	}
	return b.String()
}
