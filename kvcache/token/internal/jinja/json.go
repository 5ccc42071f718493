package jinja

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ParseJSON reads JSON as Python's json.loads does: dictionaries keep the order of their keys, whole numbers are integers of
// any size, NaN and Infinity are numbers. Strings are parts of text where they can be.
func ParseJSON(text string) (v Value, err error) {
	if !utf8.ValidString(text) {
		return Value{}, errors.New("the text is not UTF-8")
	}
	d := decoder{text: text}
	v, err = d.value(0)
	if err == nil {
		if d.space(); d.at < len(text) {
			err = d.fault("the end")
		}
	}
	return v, err
}

type decoder struct {
	text string
	at   int
	keep []Value // scratch for lists
}

func (d *decoder) fault(want string) error {
	if d.at >= len(d.text) {
		return fmt.Errorf("offset %d: the text ends, want %s", d.at, want)
	}
	return fmt.Errorf("offset %d: got %q, want %s", d.at, d.text[d.at], want)
}

func (d *decoder) space() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\n', '\r', '\t':
			d.at++
		default:
			return
		}
	}
}

func (d *decoder) eat(c byte) bool {
	d.space()
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

func (d *decoder) value(depth int) (Value, error) {
	if depth > maxNesting {
		return Value{}, fmt.Errorf("offset %d: nested deeper than %d levels", d.at, maxNesting)
	}
	d.space()
	if d.at >= len(d.text) {
		return Value{}, d.fault("a value")
	}
	switch c := d.text[d.at]; c {
	case '{':
		return d.dict(depth)
	case '[':
		return d.list(depth)
	case '"':
		s, err := d.str()
		return String(s), err
	default:
		if c == '-' || '0' <= c && c <= '9' {
			if !strings.HasPrefix(d.text[d.at:], "-Infinity") {
				return d.number()
			}
		}
	}
	for _, word := range words {
		if strings.HasPrefix(d.text[d.at:], word.text) {
			d.at += len(word.text)
			return word.value, nil
		}
	}
	return Value{}, d.fault("a value")
}

var words = []struct {
	text  string
	value Value
}{
	{"true", Bool(true)}, {"false", Bool(false)}, {"null", None},
	{"NaN", Float(math.NaN())}, {"Infinity", Float(math.Inf(1))}, {"-Infinity", Float(math.Inf(-1))},
}

func (d *decoder) dict(depth int) (Value, error) {
	d.at++
	if d.eat('}') {
		return (&Dict{}).Value(), nil
	}
	out := NewDict(3) // most have a few keys
	for {
		if d.space(); d.at >= len(d.text) || d.text[d.at] != '"' {
			return Value{}, d.fault("a key")
		}
		key, err := d.str()
		if err != nil {
			return Value{}, err
		}
		if !d.eat(':') {
			return Value{}, d.fault("a colon")
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		out.Set(key, v)
		if d.eat('}') {
			return out.Value(), nil
		}
		if !d.eat(',') {
			return Value{}, d.fault("a comma or }")
		}
	}
}

func (d *decoder) list(depth int) (Value, error) {
	d.at++
	if d.eat(']') {
		return List(nil), nil
	}
	start := len(d.keep)
	defer func() { d.keep = d.keep[:start] }()
	for {
		v, err := d.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		d.keep = append(d.keep, v)
		if d.eat(']') {
			return List(slices.Clone(d.keep[start:])), nil
		}
		if !d.eat(',') {
			return Value{}, d.fault("a comma or ]")
		}
	}
}

func (d *decoder) str() (string, error) {
	d.at++
	rest := d.text[d.at:]
	i := unescaped(rest)
	switch {
	case i == len(rest):
		d.at = len(d.text)
		return "", d.fault(`a "`)
	case rest[i] == '"':
		d.at += i + 1
		return rest[:i], nil
	}
	return d.escaped(i)
}

// unescaped returns how many bytes there are before the first that is a quote, a backslash or a control character.
func unescaped(s string) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// A byte borrows from the one above it only if it is found itself.
		if (w-ones*' ')&^w&highs|(quote-ones)&^quote&highs|(slash-ones)&^slash&highs != 0 {
			break
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

// escaped reads a string that has its first escape at d.at+i.
func (d *decoder) escaped(i int) (string, error) {
	var b strings.Builder
	for {
		b.WriteString(d.text[d.at : d.at+i])
		if d.at += i; d.at >= len(d.text) {
			return "", d.fault(`a "`)
		}
		switch d.text[d.at] {
		case '"':
			d.at++
			return b.String(), nil
		case '\\':
			if err := d.escape(&b); err != nil {
				return "", err
			}
		default:
			return "", d.fault("no control character")
		}
		i = unescaped(d.text[d.at:])
	}
}

func (d *decoder) escape(b *strings.Builder) error {
	d.at++
	if d.at >= len(d.text) {
		return d.fault("an escape")
	}
	c := d.text[d.at]
	if c == 'u' {
		unit, err := d.unit()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(unit) {
			low := rune(0)
			if strings.HasPrefix(d.text[d.at:], `\u`) {
				d.at++
				if low, err = d.unit(); err != nil {
					return err
				}
			}
			if unit = utf16.DecodeRune(unit, low); unit == utf8.RuneError {
				return fmt.Errorf("offset %d: half of a pair of surrogates", d.at)
			}
		}
		b.WriteRune(unit)
		return nil
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 {
		return d.fault("an escape")
	}
	b.WriteByte("\"\\/\b\f\n\r\t"[i])
	d.at++
	return nil
}

// unit reads the four digits behind the u at d.at.
func (d *decoder) unit() (rune, error) {
	d.at++
	if d.at+4 > len(d.text) {
		return 0, d.fault("four digits")
	}
	n := rune(0)
	for range 4 {
		digit := strings.IndexByte("0123456789abcdef", d.text[d.at]|0x20)
		if digit < 0 || d.text[d.at] < '0' {
			return 0, d.fault("a hexadecimal digit")
		}
		n = n<<4 | rune(digit)
		d.at++
	}
	return n, nil
}

// maxDigits is Python's bound on the digits of an integer.
const maxDigits = 4300

func (d *decoder) number() (Value, error) {
	start, whole := d.at, true
	digits := func() bool {
		from := d.at
		for d.at < len(d.text) && '0' <= d.text[d.at] && d.text[d.at] <= '9' {
			d.at++
		}
		return d.at > from
	}
	if d.text[d.at] == '-' {
		d.at++
	}
	if d.at < len(d.text) && d.text[d.at] == '0' {
		d.at++
	} else if !digits() {
		return Value{}, d.fault("a digit")
	}
	if d.at < len(d.text) && d.text[d.at] == '.' {
		whole = false
		if d.at++; !digits() {
			return Value{}, d.fault("a digit")
		}
	}
	if d.at < len(d.text) && d.text[d.at]|0x20 == 'e' {
		whole = false
		if d.at++; d.at < len(d.text) && (d.text[d.at] == '+' || d.text[d.at] == '-') {
			d.at++
		}
		if !digits() {
			return Value{}, d.fault("a digit")
		}
	}
	text := d.text[start:d.at]
	if !whole {
		f, _ := strconv.ParseFloat(text, 64) // out of range is infinite
		return Float(f), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return Int(int(n)), nil
	}
	if len(text) > maxDigits {
		return Value{}, fmt.Errorf("offset %d: a number of more than %d digits", start, maxDigits)
	}
	n, _ := new(big.Int).SetString(text, 10)
	return Value{kind: intKind, flavor: large, ref: n}, nil
}

// dumpOptions are the arguments of json.dumps.
type dumpOptions struct {
	ascii, sort  bool
	indented     bool
	indent       string
	comma, colon string
}

// appendJSON appends what json.dumps makes of v.
func (r *run) appendJSON(dst []byte, v Value, o *dumpOptions, depth int) []byte {
	if depth > maxNesting {
		r.fail("a value is nested deeper than %d levels", maxNesting)
	}
	switch v.kind {
	case noneKind:
		return append(dst, "null"...)
	case boolKind:
		return strconv.AppendBool(dst, v.n != 0)
	case intKind:
		return r.appendRepr(dst, v, 0)
	case floatKind:
		return appendFloat(dst, v.float(), "Infinity", "NaN")
	case stringKind:
		return appendJSONString(dst, v.s, o.ascii, r.keep)
	case listKind:
		if v.flavor > tuple {
			break
		}
		items := v.ref.(*list).items
		dst = append(dst, '[')
		for i, item := range items {
			dst = o.item(dst, i, depth+1)
			dst = r.appendJSON(dst, item, o, depth+1)
		}
		return append(o.end(dst, len(items), depth), ']')
	case dictKind:
		d := v.ref.(*Dict)
		dst = append(dst, '{')
		var sorted []int
		if o.sort {
			sorted = r.sortedKeys(d)
		}
		for i := range d.keys {
			at := i
			if o.sort {
				at = sorted[i]
			}
			dst = o.item(dst, i, depth+1)
			dst = r.appendJSONKey(dst, d.keys[at], o)
			dst = append(dst, o.colon...)
			dst = r.appendJSON(dst, d.values[at], o, depth+1)
		}
		return append(o.end(dst, d.Len(), depth), '}')
	}
	r.fail("Object of type %s is not JSON serializable", typeName(v))
	return dst
}

func (o *dumpOptions) item(dst []byte, i, depth int) []byte {
	if i > 0 {
		dst = append(dst, o.comma...)
	}
	return o.line(dst, depth)
}

func (o *dumpOptions) end(dst []byte, items, depth int) []byte {
	if items == 0 {
		return dst
	}
	return o.line(dst, depth)
}

func (o *dumpOptions) line(dst []byte, depth int) []byte {
	if o.indented {
		dst = append(dst, '\n')
		for range depth {
			dst = append(dst, o.indent...)
		}
	}
	return dst
}

// sortedKeys returns the positions of a dictionary's keys in their order.
func (r *run) sortedKeys(d *Dict) []int {
	at := make([]int, d.Len())
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(i, j int) int { return r.compare(d.keys[i], d.keys[j]) })
	return at
}

func (r *run) compare(a, b Value) int {
	c, ok := order(a, b)
	if !ok {
		r.fail("'<' not supported between instances of '%s' and '%s'", typeName(a), typeName(b))
	}
	return cmp.Compare(c, 0)
}

func (r *run) appendJSONKey(dst []byte, key Value, o *dumpOptions) []byte {
	switch key.kind {
	case stringKind:
		return appendJSONString(dst, key.s, o.ascii, r.keep)
	case noneKind, boolKind, intKind, floatKind:
		dst = append(dst, '"')
		return append(r.appendJSON(dst, key, o, 0), '"')
	}
	r.fail("keys must be str, int, float, bool or None, not %s", typeName(key))
	return dst
}

// appendJSONString appends what json.dumps makes of a string, in which the characters of keep are not escaped.
func appendJSONString(dst []byte, s string, ascii bool, keep string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && (c < utf8.RuneSelf && (c != 0x7f || !ascii) || c >= utf8.RuneSelf && !ascii) {
			i++
			continue
		}
		dst = append(dst, s[done:i]...)
		size := 1
		switch {
		case c >= utf8.RuneSelf:
			var char rune
			char, size = utf8.DecodeRuneInString(s[i:])
			if strings.ContainsRune(keep, char) {
				dst = append(dst, s[i:i+size]...)
				break
			}
			if high, low := utf16.EncodeRune(char); high != utf8.RuneError {
				dst = appendHex4(append(dst, '\\', 'u'), high)
				char = low
			}
			dst = appendHex4(append(dst, '\\', 'u'), char)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			if short := strings.IndexByte("\b\f\n\r\t", c); short >= 0 {
				dst = append(dst, '\\', "bfnrt"[short])
			} else {
				dst = appendHex4(append(dst, '\\', 'u'), rune(c))
			}
		}
		i += size
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}
