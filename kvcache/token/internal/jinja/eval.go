package jinja

import (
	"math"
	"strings"
	"unicode/utf8"
)

// expr is an expression.
type expr interface {
	eval(r *run, s *scope) Value
}

type constExpr struct{ value Value }

func (n *constExpr) eval(*run, *scope) Value { return n.value }

type nameExpr struct{ id int }

func (n *nameExpr) eval(r *run, s *scope) Value { return r.lookup(s, n.id) }

type listExpr struct {
	items  []expr
	flavor flavor
}

func (n *listExpr) eval(r *run, s *scope) Value {
	items := make([]Value, len(n.items))
	for i, e := range n.items {
		items[i] = e.eval(r, s)
	}
	return listOf(n.flavor, items)
}

type dictExpr struct{ keys, values []expr }

func (n *dictExpr) eval(r *run, s *scope) Value {
	d := &Dict{}
	for i := range n.keys {
		key := n.keys[i].eval(r, s)
		if !hashable(key) {
			r.fail("unhashable type: '%s'", typeName(key))
		}
		d.set(key, n.values[i].eval(r, s))
	}
	return d.Value()
}

type attrExpr struct {
	of   expr
	name string
}

func (n *attrExpr) eval(r *run, s *scope) Value { return r.attr(n.of.eval(r, s), n.name) }

type itemExpr struct{ of, key expr }

func (n *itemExpr) eval(r *run, s *scope) Value {
	return r.item(n.of.eval(r, s), n.key.eval(r, s))
}

// bound is a method and what it is of.
type bound struct {
	of   Value
	name string
}

// attr is environment.getattr: what Python has, then what is in a dictionary.
func (r *run) attr(v Value, name string) Value {
	switch v.kind {
	case undefinedKind:
		r.fail("'%s' is undefined", v.s)
	case dictKind:
		if dictMethods[name] {
			return Value{kind: callableKind, ref: &bound{v, name}}
		}
		if got, ok := v.ref.(*Dict).Get(name); ok {
			return got
		}
		if unsafeMethods[name] {
			return Value{s: name}
		}
	case namespaceKind:
		if got, ok := v.ref.(*namespace).attrs.Get(name); ok {
			return got
		}
	case loopKind:
		return r.loopAttr(v.ref.(*loop), name)
	case stringKind:
		if stringMethods[name] {
			return Value{kind: callableKind, ref: &bound{v, name}}
		}
	case listKind:
		if listMethods[name] && v.flavor <= tuple {
			return Value{kind: callableKind, ref: &bound{v, name}}
		}
	case callableKind:
		if m, ok := v.ref.(*macro); ok && name == "name" {
			return String(m.name)
		}
	}
	return Value{s: name}
}

// item is environment.getitem: what Python has under the key, then the attribute of that name.
func (r *run) item(v, key Value) Value {
	switch v.kind {
	case undefinedKind:
		r.fail("'%s' is undefined", v.s)
	case dictKind:
		d := v.ref.(*Dict)
		if key.kind == stringKind {
			if got, ok := d.Get(key.s); ok {
				return got
			}
		} else if hashable(key) {
			if i := d.find(key); i >= 0 {
				return d.values[i]
			}
		}
	case listKind:
		if l := v.ref.(*list); v.flavor <= tuple && key.isInt() && key.flavor != large {
			if i := position(key.int(), len(l.items)); i >= 0 {
				return l.items[i]
			}
		}
	case stringKind:
		if key.isInt() && key.flavor != large {
			if i := position(key.int(), utf8.RuneCountInString(v.s)); i >= 0 {
				from := offset(v.s, i)
				_, size := utf8.DecodeRuneInString(v.s[from:])
				return String(v.s[from : from+size])
			}
		}
	case namespaceKind, loopKind, callableKind:
	}
	if key.kind == stringKind {
		return r.attr(v, key.s)
	}
	return Value{s: "item"}
}

// position is where Python's index i is in n items; -1 if nowhere.
func position(i int64, n int) int {
	if i < 0 {
		i += int64(n)
	}
	if i < 0 || i >= int64(n) {
		return -1
	}
	return int(i)
}

// offset is where the i-th character of s begins.
func offset(s string, i int) int {
	if ascii(s) {
		return i
	}
	for at := range s {
		if i == 0 {
			return at
		}
		i--
	}
	return len(s)
}

type sliceExpr struct{ of, start, stop, step expr }

func (n *sliceExpr) eval(r *run, s *scope) Value {
	v := n.of.eval(r, s)
	bound := func(e expr) (int64, bool) {
		if e == nil {
			return 0, false
		}
		b := e.eval(r, s)
		if b.kind == noneKind {
			return 0, false
		}
		if !b.isInt() || b.flavor == large {
			r.fail("slice indices must be integers or None or have an __index__ method")
		}
		return b.int(), true
	}
	start, hasStart := bound(n.start)
	stop, hasStop := bound(n.stop)
	step, hasStep := bound(n.step)
	if !hasStep {
		step = 1
	}
	if step == 0 {
		r.fail("slice step cannot be zero")
	}
	size := 0
	switch {
	case v.kind == undefinedKind:
		r.fail("'%s' is undefined", v.s)
	case v.kind == stringKind:
		size = utf8.RuneCountInString(v.s)
	case v.kind == listKind && v.flavor <= tuple:
		size = len(v.ref.(*list).items)
	default:
		r.fail("'%s' object is not subscriptable by a slice", typeName(v))
	}
	from, to := sliceBounds(start, hasStart, stop, hasStop, step, int64(size))
	if v.kind == stringKind {
		if step == 1 {
			if from >= to {
				return String("")
			}
			a := offset(v.s, int(from))
			return Value{kind: stringKind, flavor: v.flavor, s: v.s[a : a+offset(v.s[a:], int(to-from))]}
		}
		runes := []rune(v.s)
		var b strings.Builder
		for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
			b.WriteRune(runes[i])
		}
		return String(b.String())
	}
	items := v.ref.(*list).items
	var out []Value
	if step == 1 {
		if from < to {
			out = items[from:to:to]
		}
		return listOf(v.flavor, out)
	}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		out = append(out, items[i])
	}
	return listOf(v.flavor, out)
}

// sliceBounds is Python's slice.indices.
func sliceBounds(start int64, hasStart bool, stop int64, hasStop bool, step, n int64) (from, to int64) {
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	clamp := func(i int64) int64 {
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	from, to = low, high
	if step < 0 {
		from, to = high, low
	}
	if hasStart {
		from = clamp(start)
	}
	if hasStop {
		to = clamp(stop)
	}
	return from, to
}

type condExpr struct{ then, test, otherwise expr }

func (n *condExpr) eval(r *run, s *scope) Value {
	if truth(n.test.eval(r, s)) {
		return n.then.eval(r, s)
	}
	if n.otherwise == nil {
		return Value{s: "the inline if-expression"}
	}
	return n.otherwise.eval(r, s)
}

type logicExpr struct {
	a, b expr
	or   bool
}

func (n *logicExpr) eval(r *run, s *scope) Value {
	if a := n.a.eval(r, s); truth(a) == n.or {
		return a
	}
	return n.b.eval(r, s)
}

type notExpr struct{ of expr }

func (n *notExpr) eval(r *run, s *scope) Value { return Bool(!truth(n.of.eval(r, s))) }

type compareExpr struct {
	first expr
	ops   []string
	rest  []expr
}

func (n *compareExpr) eval(r *run, s *scope) Value {
	a := n.first.eval(r, s)
	for i, op := range n.ops {
		b := n.rest[i].eval(r, s)
		if !r.holds(op, a, b) {
			return Bool(false)
		}
		a = b
	}
	return Bool(true)
}

func (r *run) holds(op string, a, b Value) bool {
	switch op {
	case "==":
		return equal(a, b)
	case "!=":
		return !equal(a, b)
	case "in":
		return r.contains(b, a)
	case "not in":
		return !r.contains(b, a)
	}
	c, ok := order(a, b)
	if !ok {
		r.fail("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
	}
	switch op {
	case "<":
		return c == -1
	case "<=":
		return c == -1 || c == 0
	case ">":
		return c == 1
	}
	return c == 1 || c == 0
}

func (r *run) contains(in, v Value) bool {
	switch in.kind {
	case stringKind:
		if v.kind != stringKind {
			r.fail("'in <string>' requires string as left operand, not %s", typeName(v))
		}
		return strings.Contains(in.s, v.s)
	case dictKind:
		if !hashable(v) {
			r.fail("unhashable type: '%s'", typeName(v))
		}
		return in.ref.(*Dict).find(v) >= 0
	case listKind, undefinedKind:
		for _, item := range r.iterate(in) {
			if equal(item, v) {
				return true
			}
		}
		return false
	}
	r.fail("argument of type '%s' is not iterable", typeName(in))
	return false
}

type concatExpr struct{ items []expr }

func (n *concatExpr) eval(r *run, s *scope) Value {
	return String(r.capture(func() {
		r.print(n, s)
		r.size(len(r.out) - r.start)
	}))
}

type negExpr struct {
	of    expr
	minus bool
}

func (n *negExpr) eval(r *run, s *scope) Value {
	v := n.of.eval(r, s)
	if !v.isNumber() {
		r.fail("bad operand type for unary -: '%s'", typeName(v))
	}
	switch {
	case v.kind == floatKind && n.minus:
		return Float(-v.float())
	case v.kind == floatKind:
		return v
	case n.minus && v.int() == math.MinInt64:
		r.unsupported("to compute with large integers")
	case n.minus:
		return Int(int(-v.int()))
	}
	return Int(int(v.int()))
}

type callExpr struct {
	fn expr
	arguments
	line int
}

// arguments are those of a call as they are written.
type arguments struct {
	positional []expr
	names      []string
	named      []expr
}

// eval appends the values of the positional arguments to r.args, to be cut off behind the call.
func (a *arguments) eval(r *run, s *scope) (args []Value, named []kwarg) {
	start := len(r.args)
	for _, e := range a.positional {
		v := e.eval(r, s) // may itself use r.args
		r.args = append(r.args, v)
	}
	if len(a.names) > 0 {
		named = make([]kwarg, len(a.names), len(a.names)+1)
		for i, name := range a.names {
			named[i] = kwarg{name, a.named[i].eval(r, s)}
		}
	}
	return r.args[start:len(r.args):len(r.args)], named
}

func (n *callExpr) eval(r *run, s *scope) Value { return n.evalWith(r, s) }

func (n *callExpr) evalWith(r *run, s *scope, more ...kwarg) Value {
	r.step()
	start := len(r.args)
	var fn, of Value
	method := ""
	if a, ok := n.fn.(*attrExpr); ok {
		of = a.of.eval(r, s)
		if of.kind == stringKind && stringMethods[a.name] || of.kind == dictKind && dictMethods[a.name] ||
			of.kind == listKind && of.flavor <= tuple && listMethods[a.name] {
			method = a.name
		} else {
			fn = r.attr(of, a.name)
		}
	} else {
		fn = n.fn.eval(r, s)
	}
	args, named := n.arguments.eval(r, s)
	named = append(named, more...)
	r.line = n.line
	var v Value
	if method != "" {
		v = r.method(of, method, args, named)
	} else {
		v = r.call(fn, args, named)
	}
	r.args = r.args[:start]
	return v
}

func (r *run) call(fn Value, args []Value, named []kwarg) Value {
	switch f := fn.ref.(type) {
	case *macro:
		return f.call(r, args, named)
	case *builtin:
		return f.call(r, args, named)
	case *bound:
		return r.method(f.of, f.name, args, named)
	case *loopMethod:
		return f.call(r, args)
	case *loop:
		if len(args) != 1 || len(named) > 0 || !f.stmt.recursive {
			r.fail("loop() takes one argument, in a recursive loop")
		}
		return String(r.capture(func() { f.stmt.run(r, f.outer, args[0], f.depth+1) }))
	}
	if fn.kind == undefinedKind {
		r.fail("'%s' is undefined", fn.s)
	}
	r.fail("'%s' object is not callable", typeName(fn))
	return Value{}
}

func (r *run) loopAttr(l *loop, name string) Value {
	n := len(l.items)
	switch name {
	case "index":
		return Int(l.at + 1)
	case "index0":
		return Int(l.at)
	case "revindex":
		return Int(n - l.at)
	case "revindex0":
		return Int(n - l.at - 1)
	case "first":
		return Bool(l.at == 0)
	case "last":
		return Bool(l.at == n-1)
	case "length":
		return Int(n)
	case "depth":
		return Int(l.depth + 1)
	case "depth0":
		return Int(l.depth)
	case "previtem":
		if l.at > 0 {
			return l.items[l.at-1]
		}
	case "nextitem":
		if l.at+1 < n {
			return l.items[l.at+1]
		}
	case "cycle", "changed":
		return Value{kind: callableKind, ref: &loopMethod{l, name}}
	}
	return Value{s: name}
}

type loopMethod struct {
	loop *loop
	name string
}

func (m *loopMethod) call(r *run, args []Value) Value {
	l := m.loop
	if m.name == "cycle" {
		if len(args) == 0 {
			r.fail("no items for cycling given")
		}
		return args[l.at%len(args)]
	}
	same := l.asked && len(args) == len(l.changed)
	for i := 0; same && i < len(args); i++ {
		same = equal(args[i], l.changed[i])
	}
	l.changed, l.asked = append([]Value(nil), args...), true
	return Bool(!same)
}
