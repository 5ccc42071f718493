package jinja

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

type filterFunc func(r *run, v Value, a *call) Value

type filterExpr struct {
	of   expr
	name string
	fn   filterFunc
	arguments
}

func (n *filterExpr) eval(r *run, s *scope) Value { return n.apply(r, s, n.of.eval(r, s)) }

func (n *filterExpr) apply(r *run, s *scope, v Value) Value {
	r.step()
	start := len(r.args)
	args, named := n.arguments.eval(r, s)
	v = n.fn(r, v, &call{n.name, args, named})
	r.args = r.args[:start]
	return v
}

// call is the arguments of a filter, a test, a method or a function.
type call struct {
	name  string
	args  []Value
	named []kwarg
}

// bind returns the arguments in the order of the parameters; what is not given is undefined.
func (a *call) bind(r *run, params ...string) (out [6]Value) {
	if len(a.args) > len(params) {
		r.fail("%s() takes at most %d arguments, got %d", a.name, len(params), len(a.args))
	}
	copy(out[:], a.args)
	for _, k := range a.named {
		i := slices.Index(params, k.name)
		if i < 0 || i < len(a.args) {
			r.fail("%s() got an unexpected argument '%s'", a.name, k.name)
		}
		out[i] = k.value
	}
	return out
}

func (a *call) none(r *run) { a.bind(r) }

// count returns an argument that is an integer, or the fallback if it is not given.
func (r *run) count(v Value, fallback int) int {
	switch {
	case v.kind == undefinedKind:
		return fallback
	case v.isInt() && v.flavor != large:
		return int(v.int())
	}
	r.fail("'%s' object cannot be interpreted as an integer", typeName(v))
	return 0
}

// otherFilters are those of Jinja2 that are not here.
var otherFilters = []string{
	"attr", "batch", "center", "e", "escape", "filesizeformat", "forceescape", "groupby", "pprint", "random", "slice",
	"striptags", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
}

// filterNamed returns a filter, or nil.
func filterNamed(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "capitalize", "lower", "title", "upper":
		return caseFilter
	case "count", "length":
		return filterLength
	case "d", "default":
		return filterDefault
	case "dictsort":
		return filterDictsort
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "format":
		return filterFormat
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "list":
		return filterList
	case "map":
		return filterMap
	case "max", "min":
		return filterMax
	case "reject", "rejectattr", "select", "selectattr":
		return filterSelect
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe":
		return filterSafe
	case "sort":
		return filterSort
	case "string":
		return filterString
	case "sum":
		return filterSum
	case "tojson":
		return filterToJSON
	case "trim":
		return filterTrim
	case "unique":
		return filterUnique
	}
	return nil
}

func filterAbs(r *run, v Value, a *call) Value {
	a.none(r)
	switch {
	case v.kind == floatKind:
		return Float(math.Abs(v.float()))
	case v.isInt() && v.flavor != large && v.int() != math.MinInt64:
		return Int(int(max(v.int(), -v.int())))
	}
	r.fail("bad operand type for abs(): '%s'", typeName(v))
	return Value{}
}

func caseFilter(r *run, v Value, a *call) Value {
	a.none(r)
	s := r.str(v)
	switch a.name {
	case "lower":
		s = r.lower(s)
	case "upper":
		s = r.upper(s)
	case "capitalize":
		s = r.capitalize(s)
	case "title":
		s = r.titleFilter(s)
	}
	return Value{kind: stringKind, flavor: v.stringFlavor(), s: s}
}

func (v Value) stringFlavor() flavor {
	if v.kind == stringKind {
		return v.flavor
	}
	return plain
}

func filterDefault(r *run, v Value, a *call) Value {
	p := a.bind(r, "default_value", "boolean")
	if v.kind == undefinedKind || truth(p[1]) && !truth(v) {
		if p[0].kind == undefinedKind && len(a.args) == 0 {
			return String("")
		}
		return p[0]
	}
	return v
}

// folded is what values are sorted by where case does not matter.
func (r *run) folded(v Value) Value {
	if v.kind == stringKind {
		v.s = r.lower(v.s)
	}
	return v
}

func filterDictsort(r *run, v Value, a *call) Value {
	p := a.bind(r, "case_sensitive", "by", "reverse")
	d, ok := v.Dict()
	if !ok {
		r.fail("'%s' object has no attribute 'items'", typeName(v))
	}
	by := 0
	if p[1].kind != undefinedKind {
		if by = slices.Index([]string{"key", "value"}, p[1].s); by < 0 {
			r.fail(`You can only sort by either "key" or "value"`)
		}
	}
	items := d.items()
	r.sort(items, truth(p[2]), func(item Value) Value {
		key := item.ref.(*list).items[by]
		if !truth(p[0]) {
			key = r.folded(key)
		}
		return key
	})
	return List(items)
}

// sort sorts stably; reversed, too, equal items stay in their order.
func (r *run) sort(items []Value, reverse bool, by func(Value) Value) {
	keys := map[int]Value{}
	at := make([]int, len(items))
	for i := range items {
		at[i], keys[i] = i, by(items[i])
	}
	slices.SortStableFunc(at, func(i, j int) int {
		r.step()
		c := r.compare(keys[i], keys[j])
		if reverse {
			return -c
		}
		return c
	})
	sorted := make([]Value, len(items))
	for i, from := range at {
		sorted[i] = items[from]
	}
	copy(items, sorted)
}

func (d *Dict) items() []Value {
	items := make([]Value, d.Len())
	for i := range items {
		items[i] = listOf(tuple, []Value{d.keys[i], d.values[i]})
	}
	return items
}

func filterFirst(r *run, v Value, a *call) Value {
	a.none(r)
	if v.kind == stringKind {
		return r.item(v, Int(0))
	}
	if items := r.iterate(v); len(items) > 0 {
		return items[0]
	}
	return Value{s: "No first item, sequence was empty."}
}

func filterLast(r *run, v Value, a *call) Value {
	a.none(r)
	if v.kind == stringKind {
		return r.item(v, Int(-1))
	}
	if v.kind == listKind && v.flavor == generator {
		r.fail("'generator' object is not reversible")
	}
	if items := r.iterate(v); len(items) > 0 {
		return items[len(items)-1]
	}
	return Value{s: "No last item, sequence was empty."}
}

func filterFloat(r *run, v Value, a *call) Value {
	p := a.bind(r, "default")
	switch {
	case v.isNumber():
		return Float(v.number())
	case v.kind == stringKind:
		if f, ok := parseFloat(v.s); ok {
			return Float(f)
		}
	case v.kind == undefinedKind:
		r.fail("'%s' is undefined", v.s)
	case v.flavor == large:
		r.unsupported("to compute with large integers")
	}
	if p[0].kind == undefinedKind {
		return Float(0)
	}
	return p[0]
}

// parseFloat reads what Python's float does, of what has digits in it.
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if s == "" || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || math.IsInf(f, 0)
}

func filterInt(r *run, v Value, a *call) Value {
	p := a.bind(r, "default", "base")
	if r.count(p[1], 10) != 10 {
		r.unsupported("the filter int with a base")
	}
	switch {
	case v.isInt():
		v.kind = intKind
		return v
	case v.kind == floatKind && math.Abs(v.float()) < 1<<62:
		return Int(int(v.float()))
	case v.kind == stringKind:
		s := strings.TrimFunc(v.s, isSpace)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return Int(int(n))
		}
		if f, ok := parseFloat(s); ok && math.Abs(f) < 1<<53 {
			return Int(int(f))
		}
		if strings.Trim(s, "+-_0123456789.eE") == "" && strings.ContainsAny(s, "0123456789") {
			r.unsupported("to compute with large integers")
		}
	case v.kind == undefinedKind:
		r.fail("'%s' is undefined", v.s)
	}
	if p[0].kind == undefinedKind {
		return Int(0)
	}
	return p[0]
}

func filterFormat(r *run, v Value, a *call) Value {
	if len(a.named) > 0 {
		r.unsupported("the filter format with names")
	}
	return r.percent(String(r.str(v)), listOf(tuple, slices.Clone(a.args)))
}

func filterIndent(r *run, v Value, a *call) Value {
	p := a.bind(r, "width", "first", "blank")
	if v.kind != stringKind {
		r.fail("'%s' object has no attribute 'splitlines'", typeName(v))
	}
	by := p[0].s
	if p[0].kind != stringKind {
		by = strings.Repeat(" ", max(0, min(r.count(p[0], 4), r.maxBytes)))
	}
	s := v.s + "\n" // as Jinja2 does, for a line behind the last break
	var out strings.Builder
	lines := splitLines(s, false)
	if truth(p[2]) {
		r.size(len(s) + len(lines)*len(by))
		out.WriteString(strings.Join(lines, "\n"+by))
	} else {
		for i, line := range lines {
			if i > 0 {
				out.WriteByte('\n')
				if line != "" {
					out.WriteString(by)
				}
			}
			out.WriteString(line)
			r.size(out.Len())
		}
	}
	text := out.String()
	if truth(p[1]) {
		text = by + text
	}
	return Value{kind: stringKind, flavor: v.flavor, s: text}
}

func filterItems(r *run, v Value, a *call) Value {
	a.none(r)
	if v.kind == undefinedKind {
		return listOf(generator, nil)
	}
	d, ok := v.Dict()
	if !ok {
		r.fail("Can only get item pairs from a mapping.")
	}
	return listOf(generator, d.items())
}

func filterJoin(r *run, v Value, a *call) Value {
	p := a.bind(r, "d", "attribute")
	get := r.getter(p[1])
	var out []byte
	for i, item := range r.iterate(v) {
		if i > 0 {
			out = r.appendStr(out, p[0])
		}
		out = r.appendStr(out, get(item))
		r.size(len(out))
	}
	return String(string(out))
}

// getter returns what reads an attribute, "a.b" or a number; what it is given if there is none.
func (r *run) getter(attribute Value) func(Value) Value {
	if attribute.kind == undefinedKind || attribute.kind == noneKind {
		return func(v Value) Value { return v }
	}
	var parts []Value
	if attribute.kind == stringKind {
		for _, part := range strings.Split(attribute.s, ".") {
			if n, err := strconv.Atoi(part); err == nil && n >= 0 && part[0] != '+' {
				parts = append(parts, Int(n))
			} else {
				parts = append(parts, String(part))
			}
		}
	} else {
		parts = []Value{attribute}
	}
	return func(v Value) Value {
		for _, part := range parts {
			v = r.item(v, part)
		}
		return v
	}
}

func filterLength(r *run, v Value, a *call) Value {
	a.none(r)
	return Int(r.len(v))
}

func (r *run) len(v Value) int {
	switch v.kind {
	case undefinedKind:
		return 0
	case stringKind:
		return utf8.RuneCountInString(v.s)
	case listKind:
		if v.flavor != generator {
			return len(v.ref.(*list).items)
		}
	case dictKind:
		return v.ref.(*Dict).Len()
	}
	r.fail("object of type '%s' has no len()", typeName(v))
	return 0
}

func filterList(r *run, v Value, a *call) Value {
	a.none(r)
	return List(slices.Clone(r.iterate(v)))
}

func filterMap(r *run, v Value, a *call) Value {
	out := []Value{}
	if !truth(v) {
		return listOf(generator, out) // whatever it is, and whatever the arguments are
	}
	if len(a.args) == 0 {
		p := (&call{a.name, nil, a.named}).bind(r, "attribute", "default")
		if p[0].kind == undefinedKind {
			r.fail("map requires a filter argument")
		}
		get := r.getter(p[0])
		for _, item := range r.iterate(v) {
			got := get(item)
			if got.kind == undefinedKind && p[1].kind != undefinedKind {
				got = p[1]
			}
			out = append(out, got)
		}
		return listOf(generator, out)
	}
	fn := filterNamed(a.args[0].s)
	if fn == nil {
		r.fail("No filter named '%s'.", a.args[0].s)
	}
	for _, item := range r.iterate(v) {
		r.step()
		out = append(out, fn(r, item, &call{a.args[0].s, a.args[1:], a.named}))
	}
	return listOf(generator, out)
}

func filterMax(r *run, v Value, a *call) Value {
	p := a.bind(r, "case_sensitive", "attribute")
	get := r.getter(p[1])
	var best, bestKey Value
	for i, item := range r.iterate(v) {
		key := get(item)
		if !truth(p[0]) {
			key = r.folded(key)
		}
		if i > 0 {
			if c := r.compare(key, bestKey); a.name == "max" && c <= 0 || a.name == "min" && c >= 0 {
				continue
			}
		}
		best, bestKey = item, key
	}
	return best
}

// filterSelect is select, reject, selectattr and rejectattr.
func filterSelect(r *run, v Value, a *call) Value {
	if !truth(v) {
		return listOf(generator, nil)
	}
	args := a.args
	get := func(v Value) Value { return v }
	if strings.HasSuffix(a.name, "attr") {
		if len(args) == 0 {
			r.fail("Missing parameter for attribute name")
		}
		get, args = r.getter(args[0]), args[1:]
	}
	holds := truth
	if len(args) > 0 {
		fn := tests[args[0].s]
		if fn == nil {
			r.fail("No test named '%s'.", args[0].s)
		}
		holds = func(v Value) bool { return fn(r, v, &call{args[0].s, args[1:], a.named}) }
	}
	want := strings.HasPrefix(a.name, "select")
	out := []Value{}
	for _, item := range r.iterate(v) {
		r.step()
		if holds(get(item)) == want {
			out = append(out, item)
		}
	}
	return listOf(generator, out)
}

func filterReplace(r *run, v Value, a *call) Value {
	p := a.bind(r, "old", "new", "count")
	n := -1
	if p[2].kind != undefinedKind && p[2].kind != noneKind {
		n = r.count(p[2], -1)
	}
	return String(r.replace(r.str(v), r.str(p[0]), r.str(p[1]), n))
}

func (r *run) replace(s, old, new string, n int) string {
	found := strings.Count(s, old)
	if n >= 0 {
		found = min(found, n)
	}
	r.size(len(s) + found*(len(new)-len(old)))
	return strings.Replace(s, old, new, n)
}

func filterReverse(r *run, v Value, a *call) Value {
	a.none(r)
	if v.kind == stringKind {
		runes := []rune(v.s)
		slices.Reverse(runes)
		return String(string(runes))
	}
	items := slices.Clone(r.iterate(v))
	slices.Reverse(items)
	return listOf(generator, items)
}

func filterRound(r *run, v Value, a *call) Value {
	p := a.bind(r, "precision", "method")
	digits := r.count(p[0], 0)
	if p[1].kind != undefinedKind && p[1].s != "common" || digits < 0 || digits > 15 || !v.isNumber() {
		r.unsupported("the filter round of this kind")
	}
	if v.isInt() {
		return Int(int(v.int()))
	}
	f, _ := strconv.ParseFloat(strconv.FormatFloat(v.float(), 'f', digits, 64), 64)
	return Float(f)
}

func filterSafe(r *run, v Value, a *call) Value {
	a.none(r)
	return Value{kind: stringKind, flavor: markup, s: r.str(v)}
}

func filterSort(r *run, v Value, a *call) Value {
	p := a.bind(r, "reverse", "case_sensitive", "attribute")
	if strings.Contains(p[2].s, ",") {
		r.unsupported("to sort by several attributes")
	}
	get := r.getter(p[2])
	items := slices.Clone(r.iterate(v))
	r.sort(items, truth(p[0]), func(item Value) Value {
		key := get(item)
		if !truth(p[1]) {
			key = r.folded(key)
		}
		return key
	})
	return List(items)
}

func filterString(r *run, v Value, a *call) Value {
	a.none(r)
	if v.kind == stringKind {
		return v
	}
	return String(r.str(v))
}

func filterSum(r *run, v Value, a *call) Value {
	p := a.bind(r, "attribute", "start")
	get := r.getter(p[0])
	total := p[1]
	if total.kind == undefinedKind {
		total = Int(0)
	}
	for _, item := range r.iterate(v) {
		total = (&binaryExpr{"+", &constExpr{total}, &constExpr{get(item)}}).eval(r, nil)
	}
	return total
}

func filterTrim(r *run, v Value, a *call) Value {
	p := a.bind(r, "chars")
	return Value{kind: stringKind, flavor: v.stringFlavor(), s: r.strip(r.str(v), "strip", p[0])}
}

func filterUnique(r *run, v Value, a *call) Value {
	p := a.bind(r, "case_sensitive", "attribute")
	get := r.getter(p[1])
	seen, out := &Dict{}, []Value{}
	for _, item := range r.iterate(v) {
		r.step()
		key := get(item)
		if !truth(p[0]) {
			key = r.folded(key)
		}
		if !hashable(key) {
			r.fail("unhashable type: '%s'", typeName(key))
		}
		if seen.find(key) < 0 {
			seen.set(key, None)
			out = append(out, item)
		}
	}
	return listOf(generator, out)
}

// filterToJSON is transformers' tojson: json.dumps, with what is not ASCII left as it is.
func filterToJSON(r *run, v Value, a *call) Value {
	p := a.bind(r, "ensure_ascii", "indent", "separators", "sort_keys")
	o := dumpOptions{ascii: truth(p[0]), sort: truth(p[3]), comma: ", ", colon: ": "}
	switch p[1].kind {
	case undefinedKind, noneKind:
	case stringKind:
		o.indented, o.indent, o.comma = true, p[1].s, ","
	default:
		o.indented, o.indent, o.comma = true, strings.Repeat(" ", max(0, min(r.count(p[1], 0), 1000))), ","
	}
	if p[2].kind != undefinedKind && p[2].kind != noneKind {
		separators := r.iterate(p[2])
		if len(separators) != 2 || separators[0].kind != stringKind || separators[1].kind != stringKind {
			r.fail("separators: want two strings")
		}
		o.comma, o.colon = separators[0].s, separators[1].s
	}
	start := len(r.out)
	r.out = r.appendJSON(r.out, v, &o, 0) // in the room that is there
	s := string(r.out[start:])
	r.out = r.out[:start]
	r.size(len(s))
	return String(s)
}
