package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var stringMethods = set("strip", "lstrip", "rstrip", "split", "rsplit", "startswith", "endswith", "upper", "lower", "title",
	"capitalize", "replace", "join", "format", "splitlines", "find", "rfind", "count", "isdigit", "isspace", "isalpha", "isalnum",
	"isupper", "islower", "removeprefix", "removesuffix", "partition", "rpartition", "index", "zfill")

var dictMethods = set("get", "items", "keys", "values", "copy")

var listMethods = set("index", "count", "copy")

// unsafeMethods change what they are of: the sandbox refuses them.
var unsafeMethods = set("append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update")

// otherMethods are Python's that are not here.
var otherMethods = []string{"casefold", "center", "encode", "expandtabs", "format_map", "fromkeys", "isascii", "isdecimal",
	"isidentifier", "isnumeric", "isprintable", "istitle", "ljust", "maketrans", "rindex", "rjust", "swapcase", "translate"}

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	return m
}

func (r *run) method(of Value, name string, args []Value, named []kwarg) Value {
	a := call{name, args, named}
	switch of.kind {
	case dictKind:
		return r.dictMethod(of.ref.(*Dict), &a)
	case listKind:
		return r.listMethod(of, &a)
	}
	v := r.stringMethod(of.s, &a)
	if of.flavor == markup && v.kind == stringKind {
		v.flavor = markup
	}
	return v
}

func (r *run) dictMethod(d *Dict, a *call) Value {
	switch a.name {
	case "get":
		if len(a.args) == 0 || len(a.args) > 2 || len(a.named) > 0 {
			r.fail("get expected 1 or 2 arguments, got %d", len(a.args)+len(a.named))
		}
		if !hashable(a.args[0]) {
			r.fail("unhashable type: '%s'", typeName(a.args[0]))
		}
		if a.args[0].kind == stringKind {
			if v, ok := d.Get(a.args[0].s); ok {
				return v
			}
		} else if i := d.find(a.args[0]); i >= 0 {
			return d.values[i]
		}
		if len(a.args) == 2 {
			return a.args[1]
		}
		return None
	case "items":
		a.none(r)
		return listOf(view, d.items())
	case "keys":
		a.none(r)
		return listOf(view, d.keys)
	case "values":
		a.none(r)
		return listOf(view, d.values)
	}
	a.none(r)
	return d.Value() // a copy, of what does not change
}

func (r *run) listMethod(v Value, a *call) Value {
	items := v.ref.(*list).items
	if a.name == "copy" {
		a.none(r)
		return v
	}
	x := a.one(r)
	n := 0
	for i, item := range items {
		if equal(item, x) {
			if n++; a.name == "index" {
				return Int(i)
			}
		}
	}
	if a.name == "index" {
		r.fail("the list has no such item")
	}
	return Int(n)
}

// text returns an argument that must be a string.
func (r *run) text(v Value) string {
	if v.kind != stringKind {
		r.fail("must be str, not %s", typeName(v))
	}
	return v.s
}

func (r *run) stringMethod(s string, a *call) Value {
	switch a.name {
	case "strip", "lstrip", "rstrip":
		return String(r.strip(s, a.name, a.bind(r, "chars")[0]))
	case "split", "rsplit":
		p := a.bind(r, "sep", "maxsplit")
		return List(r.split(s, a.name == "rsplit", p[0], r.count(p[1], -1)))
	case "startswith":
		return Bool(r.affix(a, s, strings.HasPrefix))
	case "endswith":
		return Bool(r.affix(a, s, strings.HasSuffix))
	case "removeprefix":
		return String(strings.TrimPrefix(s, r.text(a.one(r))))
	case "removesuffix":
		return String(strings.TrimSuffix(s, r.text(a.one(r))))
	case "upper", "lower", "capitalize", "title":
		a.none(r)
		switch a.name {
		case "upper":
			return String(r.upper(s))
		case "lower":
			return String(r.lower(s))
		case "capitalize":
			return String(r.capitalize(s))
		}
		return String(r.title(s))
	case "replace":
		p := a.bind(r, "old", "new", "count")
		return String(r.replace(s, r.text(p[0]), r.text(p[1]), r.count(p[2], -1)))
	case "join":
		var out []byte
		for i, item := range r.iterate(a.one(r)) {
			if i > 0 {
				out = append(out, s...)
			}
			if item.kind != stringKind {
				r.fail("sequence item %d: expected str instance, %s found", i, typeName(item))
			}
			out = append(out, item.s...)
			r.size(len(out))
		}
		return String(string(out))
	case "format":
		return String(r.format(s, a))
	case "splitlines":
		p := a.bind(r, "keepends")
		var out []Value
		for _, line := range splitLines(s, truth(p[0])) {
			out = append(out, String(line))
		}
		return List(out)
	case "find", "rfind", "count", "index":
		return r.search(s, a)
	case "partition", "rpartition":
		return r.partition(s, a)
	case "zfill":
		n := r.count(a.one(r), 0) - utf8.RuneCountInString(s)
		r.size(n)
		if n <= 0 {
			return String(s)
		}
		sign := ""
		if s != "" && (s[0] == '-' || s[0] == '+') {
			sign, s = s[:1], s[1:]
		}
		return String(sign + strings.Repeat("0", n) + s)
	}
	a.none(r)
	return Bool(is(a.name, s))
}

// strip is Python's strip, lstrip and rstrip.
func (r *run) strip(s, name string, chars Value) string {
	in := isSpace
	if chars.kind != undefinedKind && chars.kind != noneKind {
		cut := r.text(chars)
		in = func(c rune) bool { return strings.ContainsRune(cut, c) }
	}
	if name != "rstrip" {
		s = strings.TrimLeftFunc(s, in)
	}
	if name != "lstrip" {
		s = strings.TrimRightFunc(s, in)
	}
	return s
}

func (r *run) affix(a *call, s string, has func(s, affix string) bool) bool {
	arg := a.one(r)
	if arg.kind == listKind && arg.flavor == tuple {
		return slices.ContainsFunc(arg.ref.(*list).items, func(v Value) bool { return has(s, r.text(v)) })
	}
	return has(s, r.text(arg))
}

func (r *run) split(s string, right bool, sep Value, n int) (out []Value) {
	add := func(parts ...string) {
		for _, part := range parts {
			out = append(out, String(part))
		}
	}
	if sep.kind == undefinedKind || sep.kind == noneKind {
		if n < 0 {
			add(strings.FieldsFunc(s, isSpace)...)
			return out
		}
		if right {
			r.unsupported("the method rsplit without a separator")
		}
		for s = strings.TrimLeftFunc(s, isSpace); s != ""; n-- {
			end := strings.IndexFunc(s, isSpace)
			if end < 0 || n == 0 {
				if n > 0 {
					s = strings.TrimRightFunc(s, isSpace)
				}
				add(s)
				break
			}
			add(s[:end])
			s = strings.TrimLeftFunc(s[end:], isSpace)
		}
		return out
	}
	by := r.text(sep)
	if by == "" {
		r.fail("empty separator")
	}
	r.size(48 * strings.Count(s, by))
	parts := strings.Split(s, by)
	if n >= 0 && len(parts) > n+1 {
		if right {
			head := len(parts) - n
			parts = append([]string{strings.Join(parts[:head], by)}, parts[head:]...)
		} else {
			parts = strings.SplitN(s, by, n+1)
		}
	}
	add(parts...)
	return out
}

func (r *run) search(s string, a *call) Value {
	sub := r.text(a.one(r))
	switch a.name {
	case "count":
		return Int(strings.Count(s, sub))
	case "rfind":
		if i := strings.LastIndex(s, sub); i >= 0 {
			return Int(utf8.RuneCountInString(s[:i]))
		}
	default:
		if i := strings.Index(s, sub); i >= 0 {
			return Int(utf8.RuneCountInString(s[:i]))
		}
		if a.name == "index" {
			r.fail("substring not found")
		}
	}
	return Int(-1)
}

func (r *run) partition(s string, a *call) Value {
	by := r.text(a.one(r))
	if by == "" {
		r.fail("empty separator")
	}
	i := strings.Index(s, by)
	if a.name == "rpartition" {
		i = strings.LastIndex(s, by)
	}
	parts := [3]string{s}
	switch {
	case i >= 0:
		parts = [3]string{s[:i], by, s[i+len(by):]}
	case a.name == "rpartition":
		parts = [3]string{"", "", s}
	}
	return listOf(tuple, []Value{String(parts[0]), String(parts[1]), String(parts[2])})
}

// splitLines is Python's str.splitlines.
func splitLines(s string, keep bool) (out []string) {
	start := 0
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		end := i
		i += size
		switch {
		case c == '\r' && i < len(s) && s[i] == '\n':
			i++
		case c >= '\n' && c <= '\r' || c >= 0x1c && c <= 0x1e || c == 0x85 || c == 0x2028 || c == 0x2029:
		default:
			continue
		}
		if keep {
			end = i
		}
		out = append(out, s[start:end])
		start = i
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// is is Python's isdigit and the like: of some character, all are such.
func is(name, s string) bool {
	cased := false
	for _, c := range s {
		ok := true
		switch name {
		case "isdigit":
			ok = unicode.IsDigit(c) || c == '²' || c == '³' || c == '¹' || c >= 0x2070 && c <= 0x2089
		case "isspace":
			ok = isSpace(c)
		case "isalpha":
			ok = unicode.IsLetter(c)
		case "isalnum":
			ok = unicode.IsLetter(c) || unicode.IsNumber(c)
		case "isupper":
			ok = !unicode.IsLower(c) && !unicode.IsTitle(c)
			cased = cased || unicode.IsUpper(c)
			if ok {
				continue
			}
		case "islower":
			ok = !unicode.IsUpper(c) && !unicode.IsTitle(c)
			cased = cased || unicode.IsLower(c)
			if ok {
				continue
			}
		}
		if !ok {
			return false
		}
		cased = true
	}
	return cased
}

// format is Python's str.format, of fields without a format of their own.
func (r *run) format(s string, a *call) string {
	var out []byte
	auto := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '{' && c != '}' {
			out = append(out, c)
			continue
		}
		if i+1 < len(s) && s[i+1] == c {
			out = append(out, c)
			i++
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if c == '}' || end < 0 {
			r.fail("Single '%c' encountered in format string", c)
		}
		field := s[i+1 : i+end]
		i += end
		v, ok := Value{}, false
		switch {
		case field == "":
			if ok = auto < len(a.args); ok {
				v = a.args[auto]
			}
			auto++
		case len(field) == 1 && '0' <= field[0] && field[0] <= '9':
			if n := int(field[0] - '0'); n < len(a.args) {
				v, ok = a.args[n], true
			}
		case strings.ContainsAny(field, "{:!.["):
			r.unsupported("the format {%s}", field)
		default:
			for _, k := range a.named {
				if k.name == field {
					v, ok = k.value, true
				}
			}
		}
		if !ok {
			r.fail("format has no argument for {%s}", field)
		}
		out = r.appendStr(out, v)
		r.size(len(out))
	}
	return string(out)
}
