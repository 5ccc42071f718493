package jinja

import "unicode/utf8"

// stmt is a statement. exec reports whether a loop is to go on behind it.
type stmt interface {
	exec(r *run, s *scope) jump
}

type jump uint8

const (
	goOn jump = iota
	breakLoop
	continueLoop
)

func (r *run) exec(body []stmt, s *scope) jump {
	for _, st := range body {
		r.step()
		if j := st.exec(r, s); j != goOn {
			return j
		}
	}
	return goOn
}

type dataStmt struct{ text string }

func (n *dataStmt) exec(r *run, _ *scope) jump {
	r.out = append(r.out, n.text...)
	r.size(len(r.out) - r.start)
	return goOn
}

type printStmt struct {
	value expr
	line  int
}

func (n *printStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	r.print(n.value, s)
	r.size(len(r.out) - r.start)
	return goOn
}

// print writes the value of an expression. The parts of sums and concatenations of strings are not put together first.
func (r *run) print(e expr, s *scope) {
	switch e := e.(type) {
	case *concatExpr:
		for _, item := range e.items {
			r.print(item, s)
		}
	default:
		r.out = r.appendStr(r.out, e.eval(r, s))
	}
}

type ifStmt struct {
	test            expr
	then, otherwise []stmt
	line            int
}

func (n *ifStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	if truth(n.test.eval(r, s)) {
		return r.exec(n.then, s)
	}
	return r.exec(n.otherwise, s)
}

type blockStmt struct{ body []stmt }

func (n *blockStmt) exec(r *run, s *scope) jump {
	return r.exec(n.body, &scope{outer: s})
}

type jumpStmt struct{ out bool }

func (n *jumpStmt) exec(*run, *scope) jump {
	if n.out {
		return breakLoop
	}
	return continueLoop
}

type setStmt struct {
	target  target
	value   expr // nil where body is what is assigned
	body    []stmt
	filters []*filterExpr
	line    int
}

func (n *setStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	if n.value != nil {
		r.assign(n.target, n.value.eval(r, s), s)
		return goOn
	}
	text := String(r.capture(func() { r.exec(n.body, &scope{outer: s}) }))
	for _, f := range n.filters {
		text = f.apply(r, s, text)
	}
	r.assign(n.target, text, s)
	return goOn
}

func (r *run) assign(t target, v Value, s *scope) {
	switch {
	case t.attribute != "":
		ns := r.lookup(s, t.ids[0])
		if ns.kind != namespaceKind {
			r.fail("cannot assign attribute on non-namespace object")
		}
		if t.attribute[0] == '_' {
			r.fail("a namespace has no attribute that begins with an underscore: %s", t.attribute)
		}
		ns.ref.(*namespace).attrs.Set(t.attribute, v)
	case t.several:
		items := r.iterate(v)
		if len(items) != len(t.ids) {
			r.fail("wrong number of values to unpack: got %d, expected %d", len(items), len(t.ids))
		}
		for i, id := range t.ids {
			s.set(id, items[i])
		}
	default:
		s.set(t.ids[0], v)
	}
}

type namespace struct{ attrs Dict }

type forStmt struct {
	target          target
	iter            expr
	filter          expr
	body, otherwise []stmt
	recursive       bool
	loop            int // the id of "loop"
	line            int
}

func (n *forStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	n.run(r, s, n.iter.eval(r, s), 0)
	return goOn
}

// loop is the state of a for loop.
type loop struct {
	stmt    *forStmt
	outer   *scope
	items   []Value
	at      int
	depth   int
	changed []Value
	asked   bool // changed was called
}

func (n *forStmt) run(r *run, s *scope, over Value, depth int) {
	r.enter()
	defer func() { r.depth-- }()
	items := r.iterate(over)
	if n.filter != nil {
		var kept []Value
		inner := &scope{outer: s}
		for _, item := range items {
			r.step()
			r.assign(n.target, item, inner)
			if truth(n.filter.eval(r, inner)) {
				kept = append(kept, item)
			}
		}
		items = kept
	}
	l := &loop{stmt: n, outer: s, items: items, depth: depth}
	inner := &scope{outer: s}
	for l.at = range items {
		r.step()
		inner.ids, inner.values = inner.ids[:0], inner.values[:0]
		inner.set(n.loop, Value{kind: loopKind, ref: l})
		r.assign(n.target, items[l.at], inner)
		if r.exec(n.body, inner) == breakLoop {
			return
		}
	}
	if len(items) == 0 {
		r.exec(n.otherwise, &scope{outer: s})
	}
}

type withStmt struct {
	ids    []int
	values []expr
	body   []stmt
	line   int
}

func (n *withStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	inner := &scope{outer: s}
	for i, id := range n.ids {
		inner.set(id, n.values[i].eval(r, s))
	}
	return r.exec(n.body, inner)
}

type filterStmt struct {
	filters []*filterExpr
	body    []stmt
	line    int
}

func (n *filterStmt) exec(r *run, s *scope) jump {
	text := String(r.capture(func() { r.exec(n.body, &scope{outer: s}) }))
	r.line = n.line
	for _, f := range n.filters {
		text = f.apply(r, s, text)
	}
	r.out = r.appendStr(r.out, text)
	return goOn
}

type param struct {
	id       int
	fallback expr
}

type macroDef struct {
	name                                string
	params                              []param
	body                                []stmt
	varargs, kwargs, caller             int
	usesVarargs, usesKwargs, usesCaller bool
	line                                int
}

// macro is a macro and the scope that it was defined in.
type macro struct {
	*macroDef
	outer *scope
}

type macroStmt struct {
	id  int
	def *macroDef
}

func (n *macroStmt) exec(_ *run, s *scope) jump {
	s.set(n.id, Value{kind: callableKind, ref: &macro{n.def, s}})
	return goOn
}

type callStmt struct {
	call *callExpr
	def  *macroDef
	line int
}

func (n *callStmt) exec(r *run, s *scope) jump {
	r.line = n.line
	v := n.call.evalWith(r, s, kwarg{"caller", Value{kind: callableKind, ref: &macro{n.def, s}}})
	r.out = r.appendStr(r.out, v)
	r.size(len(r.out) - r.start)
	return goOn
}

// kwarg is an argument that is named.
type kwarg struct {
	name  string
	value Value
}

func (m *macro) call(r *run, args []Value, named []kwarg) Value {
	r.enter()
	defer func() { r.depth-- }()
	s := &scope{outer: m.outer}
	if len(args) > len(m.params) && !m.usesVarargs {
		r.fail("macro '%s' takes not more than %d argument(s)", m.name, len(m.params))
	}
	used := make([]bool, len(named))
	for i, p := range m.params {
		if i < len(args) {
			s.set(p.id, args[i])
		}
		for j, k := range named {
			if k.name == r.t.names[p.id] {
				if used[j] = true; i < len(args) {
					r.fail("macro '%s' got multiple values for argument '%s'", m.name, k.name)
				}
				s.set(p.id, k.value)
			}
		}
		if len(s.ids) <= i {
			v := Value{s: r.t.names[p.id]}
			if p.fallback != nil {
				v = p.fallback.eval(r, s)
			}
			s.set(p.id, v)
		}
	}
	m.extras(r, s, args, named, used)
	return String(r.capture(func() { r.exec(m.body, s) }))
}

// extras sets caller, varargs and kwargs.
func (m *macro) extras(r *run, s *scope, args []Value, named []kwarg, used []bool) {
	caller := Value{s: "caller"}
	rest := &Dict{}
	for j, k := range named {
		switch {
		case used[j]:
		case k.name == "caller" && m.usesCaller:
			caller = k.value
		case m.usesKwargs:
			rest.Set(k.name, k.value)
		default:
			r.fail("macro '%s' takes no keyword argument '%s'", m.name, k.name)
		}
	}
	if m.usesCaller {
		s.set(m.caller, caller)
	}
	if m.usesKwargs {
		s.set(m.kwargs, rest.Value())
	}
	if m.usesVarargs {
		var more []Value
		if len(args) > len(m.params) {
			more = append(more, args[len(m.params):]...)
		}
		s.set(m.varargs, listOf(tuple, more))
	}
}

// iterate returns what a loop over v goes through.
func (r *run) iterate(v Value) []Value {
	switch v.kind {
	case undefinedKind:
		return nil
	case listKind:
		l := v.ref.(*list)
		items := l.items
		if v.flavor == generator {
			l.items = nil
		}
		return items
	case dictKind:
		return v.ref.(*Dict).keys
	case stringKind:
		items := make([]Value, 0, utf8.RuneCountInString(v.s))
		for i, c := range v.s {
			items = append(items, String(v.s[i:i+len(string(c))]))
		}
		return items
	}
	r.fail("'%s' object is not iterable", typeName(v))
	return nil
}
