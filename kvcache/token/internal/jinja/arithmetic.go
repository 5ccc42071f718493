package jinja

import (
	"math"
	"math/bits"
	"strings"
)

type binaryExpr struct {
	op   string
	a, b expr
}

func (n *binaryExpr) eval(r *run, s *scope) Value {
	a := n.a.eval(r, s)
	b := n.b.eval(r, s)
	switch {
	case a.kind == stringKind && n.op == "%":
		return r.percent(a, b)
	case a.kind == undefinedKind:
		r.fail("'%s' is undefined", a.s)
	case b.kind == undefinedKind:
		r.fail("'%s' is undefined", b.s)
	case a.kind == stringKind && b.kind == stringKind && n.op == "+":
		return r.join2(a, b)
	case a.kind == listKind && b.kind == listKind && n.op == "+" && a.flavor == b.flavor && a.flavor <= tuple:
		x, y := a.ref.(*list).items, b.ref.(*list).items
		r.size(48 * (len(x) + len(y)))
		return listOf(a.flavor, append(append(make([]Value, 0, len(x)+len(y)), x...), y...))
	case n.op == "*" && (a.kind == stringKind || a.kind == listKind && a.flavor <= tuple) && b.isInt() && b.flavor != large:
		return r.repeat(a, b.int())
	case n.op == "*" && (b.kind == stringKind || b.kind == listKind && b.flavor <= tuple) && a.isInt() && a.flavor != large:
		return r.repeat(b, a.int())
	case a.isNumber() && b.isNumber():
		if a.isInt() && b.isInt() && n.op != "/" {
			return r.integers(n.op, a.int(), b.int())
		}
		return r.floats(n.op, a.number(), b.number())
	case a.flavor == large && (b.isInt() || b.kind == floatKind), b.flavor == large && (a.isInt() || a.kind == floatKind):
		r.unsupported("to compute with large integers")
	}
	r.fail("unsupported operand type(s) for %s: '%s' and '%s'", n.op, typeName(a), typeName(b))
	return Value{}
}

// join2 is a + b. What is safe escapes what is not.
func (r *run) join2(a, b Value) Value {
	r.size(len(a.s) + len(b.s))
	switch {
	case a.flavor == b.flavor:
	case a.flavor == markup:
		b.s = escapes.Replace(b.s)
	case b.flavor == markup:
		a.s = escapes.Replace(a.s)
	}
	return Value{kind: stringKind, flavor: max(a.flavor, b.flavor), s: a.s + b.s}
}

var escapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

func (r *run) repeat(v Value, n int64) Value {
	n = max(n, 0)
	size := int64(len(v.s))
	if v.kind == listKind {
		size = 48 * int64(len(v.ref.(*list).items))
	}
	if size > 0 {
		if n > int64(r.maxBytes) {
			r.size(-1)
		}
		r.size(int(size * n))
	} else {
		n = min(n, 1)
	}
	if v.kind == stringKind {
		return Value{kind: stringKind, flavor: v.flavor, s: strings.Repeat(v.s, int(n))}
	}
	var out []Value
	for range n {
		out = append(out, v.ref.(*list).items...)
	}
	return listOf(v.flavor, out)
}

func (r *run) integers(op string, a, b int64) Value {
	var c int64
	ok := true
	switch op {
	case "+":
		c = a + b
		ok = (c > a) == (b > 0)
	case "-":
		c = a - b
		ok = (c < a) == (b > 0)
	case "*":
		hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
		c = a * b
		ok = hi == 0 && lo <= math.MaxInt64
	case "//", "%":
		if b == 0 {
			r.fail("integer division or modulo by zero")
		}
		quotient, rest := a/b, a%b
		if rest != 0 && (rest < 0) != (b < 0) {
			quotient, rest = quotient-1, rest+b
		}
		c = quotient
		if op == "%" {
			c = rest
		}
		ok = a != math.MinInt64
	case "**":
		if b < 0 {
			return r.floats(op, float64(a), float64(b))
		}
		c = 1
		for range min(b, 64) {
			hi, lo := bits.Mul64(uint64(max(c, -c)), uint64(max(a, -a)))
			ok = ok && hi == 0 && lo <= math.MaxInt64
			c *= a
		}
		ok = ok && (b <= 64 || a >= -1 && a <= 1 && b%2 == 0)
	}
	if !ok {
		r.unsupported("to compute with large integers")
	}
	return Int(int(c))
}

func (r *run) floats(op string, a, b float64) Value {
	switch op {
	case "+":
		return Float(a + b)
	case "-":
		return Float(a - b)
	case "*":
		return Float(a * b)
	}
	if b == 0 && op != "**" || a == 0 && b < 0 && op == "**" {
		r.fail("division by zero")
	}
	switch op {
	case "/":
		return Float(a / b)
	case "//":
		return Float(math.Floor(a / b))
	case "%":
		m := math.Mod(a, b)
		if m != 0 && (m < 0) != (b < 0) {
			m += b
		}
		return Float(m)
	}
	return Float(math.Pow(a, b))
}

// percent is Python's old formatting: %s, %d and %%.
func (r *run) percent(format, v Value) Value {
	args := []Value{v}
	if v.kind == listKind && v.flavor == tuple {
		args = v.ref.(*list).items
	}
	var out []byte
	at := 0
	for i := 0; i < len(format.s); i++ {
		c := format.s[i]
		if c != '%' {
			out = append(out, c)
			continue
		}
		if i++; i == len(format.s) {
			r.fail("incomplete format")
		}
		if format.s[i] == '%' {
			out = append(out, '%')
			continue
		}
		if at == len(args) {
			r.fail("not enough arguments for format string")
		}
		switch arg := args[at]; {
		case format.s[i] == 's':
			out = r.appendStr(out, arg)
		case format.s[i] == 'd' && arg.isInt():
			out = r.appendRepr(out, Value{kind: intKind, flavor: arg.flavor, n: arg.n, ref: arg.ref}, 0)
		default:
			r.unsupported("the format %%%c", format.s[i])
		}
		at++
		r.size(len(out))
	}
	if at < len(args) && v.kind != dictKind && v.kind != undefinedKind && (v.kind != listKind || v.flavor == tuple) {
		r.fail("not all arguments converted during string formatting")
	}
	return String(string(out))
}
