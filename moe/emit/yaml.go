package emit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a YAML mapping whose keys keep their order. Values are object, list, string, script, int, bool, row or rows.
type object []field

type field struct {
	key   string
	value any
}

type list []any

// row is a list of numbers on one line.
type row []int32

// rows is a mapping whose keys are numbers.
type rows []numbered

type numbered struct {
	key int
	row row
}

// script is text that keeps its lines.
type script string

// put appends a field unless its value is empty.
func (o *object) put(key string, value any) {
	switch v := value.(type) {
	case object:
		if len(v) == 0 {
			return
		}
	case list:
		if len(v) == 0 {
			return
		}
	case string:
		if v == "" {
			return
		}
	}
	*o = append(*o, field{key, value})
}

// documents writes objects as a stream of YAML documents.
func documents(objects ...object) []byte {
	var b []byte
	for i, o := range objects {
		if i > 0 {
			b = append(b, "---\n"...)
		}
		b = appendFields(b, o, 0)
	}
	return b
}

func appendFields(b []byte, o object, indent int) []byte {
	for i, f := range o {
		if i > 0 {
			b = appendIndent(b, indent)
		}
		b = appendString(b, f.key)
		b = append(b, ':')
		b = appendValue(b, f.value, indent)
	}
	return b
}

// appendValue writes what follows the colon of a field of an object at an indentation, and the end of its line.
func appendValue(b []byte, value any, indent int) []byte {
	switch v := value.(type) {
	case object:
		if len(v) == 0 {
			return append(b, " {}\n"...)
		}
		b = append(b, '\n')
		b = appendIndent(b, indent+2)
		return appendFields(b, v, indent+2)
	case list:
		if len(v) == 0 {
			return append(b, " []\n"...)
		}
		b = append(b, '\n')
		for _, item := range v {
			b = appendIndent(b, indent+2)
			b = append(b, '-')
			if o, ok := item.(object); ok && len(o) > 0 {
				b = append(b, ' ')
				b = appendFields(b, o, indent+4)
			} else {
				b = appendValue(b, item, indent+2)
			}
		}
		return b
	case rows:
		b = append(b, '\n')
		for _, r := range v {
			b = appendIndent(b, indent+2)
			b = strconv.AppendInt(b, int64(r.key), 10)
			b = append(b, ':')
			b = appendValue(b, r.row, indent+2)
		}
		return b
	case script:
		return appendScript(b, v, indent+2)
	}
	b = append(b, ' ')
	switch v := value.(type) {
	case string:
		b = appendString(b, v)
	case int:
		b = strconv.AppendInt(b, int64(v), 10)
	case bool:
		b = strconv.AppendBool(b, v)
	case row:
		b = append(b, '[')
		for i, n := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = strconv.AppendInt(b, int64(n), 10)
		}
		b = append(b, ']')
	default:
		panic(fmt.Sprintf("no YAML for %T", value))
	}
	return append(b, '\n')
}

func appendIndent(b []byte, n int) []byte {
	for range n {
		b = append(b, ' ')
	}
	return b
}

// appendScript writes a literal block, or a quoted string where a block cannot hold the text.
func appendScript(b []byte, s script, indent int) []byte {
	text := string(s)
	if !blocky(text) {
		b = append(b, ' ')
		b = appendString(b, text)
		return append(b, '\n')
	}
	b = append(b, " |\n"...)
	for line := range strings.Lines(text) {
		b = appendIndent(b, indent)
		b = append(b, line...)
	}
	return b
}

// blocky says if a literal block holds a text unchanged: printable lines that end in exactly one newline, the first of which
// does not start with a space.
func blocky(s string) bool {
	if s == "" || s[0] == ' ' || s[0] == '\n' || !strings.HasSuffix(s, "\n") || strings.HasSuffix(s, "\n\n") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return !strings.Contains(s, "\n\n")
}

// appendString writes a string plain where every YAML parser reads it as that string, else in double quotes.
func appendString(b []byte, s string) []byte {
	if plain(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r <= math.MaxUint16:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = fmt.Appendf(b, `\U%08x`, r)
		}
	}
	return append(b, '"')
}

// plain is stricter than YAML: words that start with a letter or a slash and hold nothing that means something.
func plain(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 && c != '/' || i > 0 && !strings.ContainsRune("0123456789-._/", rune(c))) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}
