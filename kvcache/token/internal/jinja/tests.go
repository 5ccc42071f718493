package jinja

type testFunc func(r *run, v Value, a *call) bool

type testExpr struct {
	of   expr
	name string
	fn   testFunc
	arguments
}

func (n *testExpr) eval(r *run, s *scope) Value {
	v := n.of.eval(r, s)
	start := len(r.args)
	args, named := n.arguments.eval(r, s)
	holds := n.fn(r, v, &call{n.name, args, named})
	r.args = r.args[:start]
	return Bool(holds)
}

// otherTests are those of Jinja2 that are not here.
var otherTests = []string{"escaped", "filter", "test"}

var tests = map[string]testFunc{
	"defined":   simple(func(v Value) bool { return v.kind != undefinedKind }),
	"undefined": simple(func(v Value) bool { return v.kind == undefinedKind }),
	"none":      simple(func(v Value) bool { return v.kind == noneKind }),
	"string":    simple(func(v Value) bool { return v.kind == stringKind }),
	"mapping":   simple(func(v Value) bool { return v.kind == dictKind }),
	"boolean":   simple(func(v Value) bool { return v.kind == boolKind }),
	"true":      simple(func(v Value) bool { return v.kind == boolKind && v.n == 1 }),
	"false":     simple(func(v Value) bool { return v.kind == boolKind && v.n == 0 }),
	"integer":   simple(func(v Value) bool { return v.kind == intKind }),
	"float":     simple(func(v Value) bool { return v.kind == floatKind }),
	"number":    simple(func(v Value) bool { return v.isInt() || v.kind == floatKind }),
	"callable":  simple(func(v Value) bool { return v.kind == callableKind }),
	"iterable": simple(func(v Value) bool {
		return v.kind == stringKind || v.kind == listKind || v.kind == dictKind || v.kind == undefinedKind || v.kind == loopKind
	}),
	// What is undefined has a length, 0, and Python does not call its __getitem__ to find out.
	"sequence": simple(func(v Value) bool {
		return v.kind == stringKind || v.kind == listKind && v.flavor <= tuple || v.kind == dictKind || v.kind == undefinedKind
	}),
	"lower": func(r *run, v Value, a *call) bool {
		a.none(r)
		s := r.str(v)
		return s != r.upper(s) && s == r.lower(s)
	},
	"upper": func(r *run, v Value, a *call) bool {
		a.none(r)
		s := r.str(v)
		return s != r.lower(s) && s == r.upper(s)
	},
	"even":        func(r *run, v Value, a *call) bool { a.none(r); return r.modulo(v, Int(2)) == 0 },
	"odd":         func(r *run, v Value, a *call) bool { a.none(r); return r.modulo(v, Int(2)) == 1 },
	"divisibleby": func(r *run, v Value, a *call) bool { return r.modulo(v, a.bind(r, "num")[0]) == 0 },
	"sameas": func(r *run, v Value, a *call) bool {
		b := a.one(r)
		if v.kind == noneKind || v.kind == boolKind {
			return v.kind == b.kind && v.n == b.n
		}
		if v.kind == b.kind {
			r.unsupported("the test sameas of a %s", typeName(v))
		}
		return false
	},
	"equalto": comparison("=="), "eq": comparison("=="), "==": comparison("=="), "ne": comparison("!="), "!=": comparison("!="),
	"lt": comparison("<"), "lessthan": comparison("<"), "<": comparison("<"), "le": comparison("<="), "<=": comparison("<="),
	"gt": comparison(">"), "greaterthan": comparison(">"), ">": comparison(">"), "ge": comparison(">="), ">=": comparison(">="),
	"in": comparison("in"),
}

func simple(f func(Value) bool) testFunc {
	return func(r *run, v Value, a *call) bool {
		a.none(r)
		return f(v)
	}
}

func comparison(op string) testFunc {
	return func(r *run, v Value, a *call) bool { return r.holds(op, v, a.one(r)) }
}

// one returns the only argument.
func (a *call) one(r *run) Value {
	if len(a.args)+len(a.named) != 1 {
		r.fail("%s takes one argument, got %d", a.name, len(a.args)+len(a.named))
	}
	if len(a.named) == 1 {
		return a.named[0].value
	}
	return a.args[0]
}

// modulo returns v modulo by, which is a whole number in all that is asked here; -1 if it is not.
func (r *run) modulo(v, by Value) int64 {
	m := (&binaryExpr{"%", &constExpr{v}, &constExpr{by}}).eval(r, nil)
	switch {
	case m.kind == floatKind && m.float() == float64(int64(m.float())):
		return int64(m.float())
	case m.kind == intKind:
		return m.int()
	}
	return -1
}
