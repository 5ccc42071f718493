package jinja

import (
	"fmt"
	"slices"
	"strconv"
)

// parser makes statements of lexemes, by the grammar of Jinja2's own parser.
type parser struct {
	tokens []lexeme
	at     int
	t      *Template
	loops  int
	depth  int

	sets []*setStmt // in the order of the text, for contentParts
	fors []*forStmt
}

func (p *parser) peek() lexeme { return p.tokens[p.at] }

func (p *parser) next() lexeme {
	t := p.tokens[p.at]
	if t.kind != endToken {
		p.at++
	}
	return t
}

func (p *parser) fail(format string, args ...any) {
	panic(stop{&Error{Line: p.peek().line, Message: fmt.Sprintf(format, args...)}})
}

func (p *parser) unsupported(format string, args ...any) {
	panic(stop{&UnsupportedError{Line: p.peek().line, What: fmt.Sprintf(format, args...)}})
}

// op reports whether the operator comes next, and takes it if so.
func (p *parser) op(text string) bool {
	if t := p.peek(); t.kind != opToken || t.text != text {
		return false
	}
	p.at++
	return true
}

func (p *parser) word(text string) bool {
	if t := p.peek(); t.kind != nameToken || t.text != text {
		return false
	}
	p.at++
	return true
}

func (p *parser) isOp(text string) bool {
	t := p.peek()
	return t.kind == opToken && t.text == text
}

func (p *parser) isWord(texts ...string) bool {
	t := p.peek()
	return t.kind == nameToken && slices.Contains(texts, t.text)
}

func (p *parser) want(text string) {
	if !p.op(text) {
		p.fail("expected %q, got %s", text, p.peek())
	}
}

func (p *parser) name() string {
	t := p.next()
	if t.kind != nameToken {
		p.at--
		p.fail("expected a name, got %s", t)
	}
	return t.text
}

func (p *parser) endTag() {
	if p.peek().kind != tagEndToken {
		p.fail("expected the end of the tag, got %s", p.peek())
	}
	p.at++
}

// id returns the number of a variable.
func (p *parser) id(name string) int {
	id, ok := p.t.ids[name]
	if !ok {
		id = len(p.t.names)
		p.t.ids[name] = id
		p.t.names = append(p.t.names, name)
	}
	return id
}

// maxNodes bounds how deep expressions and statements are nested.
const maxNodes = 200

func (p *parser) nest() func() {
	if p.depth++; p.depth > maxNodes {
		p.unsupported("nesting deeper than %d levels", maxNodes)
	}
	return func() { p.depth-- }
}

// statements reads up to a tag that is named in ends, of which it takes the name.
func (p *parser) statements(ends ...string) []stmt {
	defer p.nest()()
	var out []stmt
	for {
		switch t := p.next(); t.kind {
		case dataToken:
			out = append(out, &dataStmt{t.text})
		case printToken:
			e := p.tuple(true)
			if p.peek().kind != printEndToken {
				p.fail("expected the end of the expression, got %s", p.peek())
			}
			p.at++
			out = append(out, &printStmt{e, t.line})
		case tagToken:
			if p.isWord(ends...) {
				return out
			}
			out = append(out, p.statement())
		case endToken:
			if ends[0] != "the end" {
				p.fail("the template ends, expected %s", ends[0])
			}
			return out
		}
	}
}

// block reads the rest of a tag, statements, and the name of the tag that ends them, and that tag.
func (p *parser) block(end string) []stmt {
	p.endTag()
	body := p.statements(end)
	p.next()
	return body
}

func (p *parser) statement() stmt {
	line := p.peek().line
	switch tag := p.name(); tag {
	case "if":
		return p.ifStmt(line)
	case "for":
		return p.forStmt(line)
	case "set":
		return p.setStmt(line)
	case "macro":
		return p.macroStmt(line)
	case "call":
		return p.callStmt(line)
	case "filter":
		return p.filterStmt(line)
	case "with":
		return p.withStmt(line)
	case "generation":
		body := p.block("endgeneration")
		p.endTag()
		return &blockStmt{body}
	case "print":
		s := &printStmt{p.expr(true), line}
		for p.op(",") {
			s.value = &concatExpr{[]expr{s.value, p.expr(true)}}
		}
		p.endTag()
		return s
	case "break", "continue":
		if p.loops == 0 {
			p.fail("%s outside of a loop", tag)
		}
		p.endTag()
		return &jumpStmt{tag == "break"}
	case "autoescape", "block", "extends", "include", "import", "from":
		p.unsupported("the tag %s", tag)
	default:
		p.at--
		p.fail("unknown tag %s", tag)
	}
	return nil
}

func (p *parser) ifStmt(line int) stmt {
	defer p.nest()()
	s := &ifStmt{line: line, test: p.expr(false)}
	p.endTag()
	s.then = p.statements("elif", "else", "endif")
	switch t := p.next(); t.text {
	case "elif":
		s.otherwise = []stmt{p.ifStmt(t.line)}
		return s
	case "else":
		s.otherwise = p.block("endif")
	}
	p.endTag()
	return s
}

func (p *parser) forStmt(line int) stmt {
	s := &forStmt{line: line, target: p.target("in")}
	if !p.word("in") {
		p.fail("expected in, got %s", p.peek())
	}
	s.iter = p.tuple(false)
	if p.word("if") {
		s.filter = p.expr(true)
	}
	s.recursive = p.word("recursive")
	s.loop = p.id("loop")
	p.endTag()
	p.fors = append(p.fors, s)
	p.loops++
	s.body = p.statements("endfor", "else")
	p.loops--
	if p.next().text == "else" {
		s.otherwise = p.block("endfor")
	}
	p.endTag()
	return s
}

func (p *parser) setStmt(line int) stmt {
	s := &setStmt{line: line, target: p.target("=")}
	p.sets = append(p.sets, s)
	if p.op("=") {
		s.value = p.tuple(true)
		p.endTag()
		return s
	}
	for p.op("|") {
		s.filters = append(s.filters, p.filter(nil))
	}
	s.body = p.block("endset")
	p.endTag()
	return s
}

// target is what is assigned to: a name, names, or an attribute of a namespace.
type target struct {
	ids       []int
	attribute string // of the namespace ids[0]
	several   bool
}

func (p *parser) target(end string) target {
	var t target
	name := p.assignable()
	if end == "=" && p.op(".") {
		return target{ids: []int{p.id(name)}, attribute: p.name()}
	}
	t.ids = append(t.ids, p.id(name))
	for p.op(",") {
		t.several = true
		if p.isWord(end) || p.isOp(end) {
			break
		}
		t.ids = append(t.ids, p.id(p.assignable()))
	}
	return t
}

func (p *parser) assignable() string {
	if p.isOp("(") {
		p.unsupported("a target in parentheses")
	}
	switch name := p.name(); name {
	case "true", "false", "none", "True", "False", "None":
		p.fail("cannot assign to %s", name)
		return ""
	default:
		return name
	}
}

func (p *parser) params() (out []param) {
	p.want("(")
	for !p.op(")") {
		if len(out) > 0 {
			p.want(",")
			if p.op(")") {
				break
			}
		}
		a := param{id: p.id(p.assignable())}
		if p.op("=") {
			a.fallback = p.expr(true)
		} else if len(out) > 0 && out[len(out)-1].fallback != nil {
			p.fail("non-default argument follows default argument")
		}
		out = append(out, a)
	}
	return out
}

func (p *parser) macro(m *macroDef, end string) {
	loops := p.loops
	p.loops = 0
	m.varargs, m.kwargs, m.caller = p.id("varargs"), p.id("kwargs"), p.id("caller")
	from := p.at
	m.body = p.block(end)
	for _, t := range p.tokens[from:p.at] {
		if t.kind == nameToken {
			m.usesVarargs = m.usesVarargs || t.text == "varargs"
			m.usesKwargs = m.usesKwargs || t.text == "kwargs"
			m.usesCaller = m.usesCaller || t.text == "caller"
		}
	}
	p.loops = loops
	p.endTag()
}

func (p *parser) macroStmt(line int) stmt {
	m := &macroDef{name: p.assignable(), line: line}
	s := &macroStmt{id: p.id(m.name), def: m}
	m.params = p.params()
	p.macro(m, "endmacro")
	return s
}

func (p *parser) callStmt(line int) stmt {
	m := &macroDef{name: "caller", line: line}
	if p.isOp("(") {
		m.params = p.params()
	}
	call, ok := p.expr(true).(*callExpr)
	if !ok {
		p.fail("expected call")
	}
	p.macro(m, "endcall")
	return &callStmt{call: call, def: m, line: line}
}

func (p *parser) filterStmt(line int) stmt {
	s := &filterStmt{line: line, filters: []*filterExpr{p.filter(nil)}}
	for p.op("|") {
		s.filters = append(s.filters, p.filter(nil))
	}
	s.body = p.block("endfilter")
	p.endTag()
	return s
}

func (p *parser) withStmt(line int) stmt {
	s := &withStmt{line: line}
	for p.peek().kind != tagEndToken {
		if len(s.ids) > 0 {
			p.want(",")
		}
		s.ids = append(s.ids, p.id(p.assignable()))
		p.want("=")
		s.values = append(s.values, p.expr(true))
	}
	s.body = p.block("endwith")
	p.endTag()
	return s
}

// tuple reads an expression, or several that commas make a tuple.
func (p *parser) tuple(conditional bool) expr {
	first := p.expr(conditional)
	if !p.isOp(",") {
		return first
	}
	items := []expr{first}
	for p.op(",") {
		if k := p.peek().kind; k == printEndToken || k == tagEndToken || p.isOp(")") || p.isWord("recursive") {
			break
		}
		items = append(items, p.expr(conditional))
	}
	return &listExpr{items, tuple}
}

func (p *parser) expr(conditional bool) expr {
	defer p.nest()()
	e := p.or()
	for conditional && p.word("if") {
		c := &condExpr{then: e, test: p.or()}
		if p.word("else") {
			c.otherwise = p.expr(true)
		}
		e = c
	}
	return e
}

func (p *parser) or() expr {
	e := p.and()
	for p.word("or") {
		e = &logicExpr{e, p.and(), true}
	}
	return e
}

func (p *parser) and() expr {
	e := p.not()
	for p.word("and") {
		e = &logicExpr{e, p.not(), false}
	}
	return e
}

func (p *parser) not() expr {
	if p.isWord("not") {
		defer p.nest()()
		p.at++
		return &notExpr{p.not()}
	}
	return p.compare()
}

var comparisons = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) compare() expr {
	e := p.sum()
	c := &compareExpr{first: e}
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == opToken && slices.Contains(comparisons, t.text):
			p.at++
			op = t.text
		case p.word("in"):
			op = "in"
		case p.isWord("not") && p.tokens[p.at+1].kind == nameToken && p.tokens[p.at+1].text == "in":
			p.at += 2
			op = "not in"
		default:
			if len(c.ops) == 0 {
				return e
			}
			return c
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, p.sum())
	}
}

func (p *parser) sum() expr {
	e := p.concat()
	for p.isOp("+") || p.isOp("-") {
		op := p.next().text
		e = &binaryExpr{op, e, p.concat()}
	}
	return e
}

func (p *parser) concat() expr {
	e := p.product()
	if !p.isOp("~") {
		return e
	}
	items := []expr{e}
	for p.op("~") {
		items = append(items, p.product())
	}
	return &concatExpr{items}
}

func (p *parser) product() expr {
	e := p.power()
	for p.isOp("*") || p.isOp("/") || p.isOp("//") || p.isOp("%") {
		op := p.next().text
		e = &binaryExpr{op, e, p.power()}
	}
	return e
}

func (p *parser) power() expr {
	e := p.unary(true)
	for p.op("**") {
		e = &binaryExpr{"**", e, p.unary(true)}
	}
	return e
}

func (p *parser) unary(filters bool) expr {
	defer p.nest()()
	var e expr
	switch {
	case p.op("-"):
		e = &negExpr{p.unary(false), true}
	case p.op("+"):
		e = &negExpr{p.unary(false), false}
	default:
		e = p.primary()
	}
	e = p.postfix(e)
	if filters {
		e = p.filtered(e)
	}
	return e
}

func (p *parser) primary() expr {
	switch t := p.next(); t.kind {
	case nameToken:
		switch t.text {
		case "true", "True":
			return &constExpr{Bool(true)}
		case "false", "False":
			return &constExpr{Bool(false)}
		case "none", "None":
			return &constExpr{None}
		case "cycler", "joiner", "lipsum", "self", "super":
			p.at--
			p.unsupported("the name %s", t.text)
		}
		return &nameExpr{p.id(t.text)}
	case stringToken:
		s := t.text
		for p.peek().kind == stringToken {
			s += p.next().text
		}
		return &constExpr{String(s)}
	case intToken:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			p.unsupported("the number %s", t.text)
		}
		return &constExpr{Int(int(n))}
	case floatToken:
		f, _ := strconv.ParseFloat(t.text, 64)
		return &constExpr{Float(f)}
	case opToken:
		switch t.text {
		case "(":
			if p.op(")") {
				return &listExpr{nil, tuple}
			}
			e := p.tuple(true)
			p.want(")")
			return e
		case "[":
			l := &listExpr{}
			for !p.op("]") {
				if len(l.items) > 0 {
					p.want(",")
					if p.op("]") {
						break
					}
				}
				l.items = append(l.items, p.expr(true))
			}
			return l
		case "{":
			d := &dictExpr{}
			for !p.op("}") {
				if len(d.keys) > 0 {
					p.want(",")
					if p.op("}") {
						break
					}
				}
				d.keys = append(d.keys, p.expr(true))
				p.want(":")
				d.values = append(d.values, p.expr(true))
			}
			return d
		}
		fallthrough
	default:
		p.at--
		if t.kind == endToken {
			p.at++
		}
		p.fail("unexpected %s", t)
	}
	return nil
}

func (p *parser) postfix(e expr) expr {
	for {
		switch {
		case p.op("."):
			switch t := p.next(); t.kind {
			case nameToken:
				e = &attrExpr{e, t.text}
			case intToken:
				n, _ := strconv.Atoi(t.text)
				e = &itemExpr{e, &constExpr{Int(n)}}
			default:
				p.at--
				p.fail("expected a name, got %s", t)
			}
		case p.op("["):
			e = p.subscript(e)
		case p.isOp("("):
			e = p.call(e)
		default:
			return e
		}
	}
}

func (p *parser) subscript(e expr) expr {
	s := &sliceExpr{of: e}
	bound := func() expr {
		if p.isOp(":") || p.isOp("]") {
			return nil
		}
		return p.expr(true)
	}
	s.start = bound()
	if !p.isOp(":") {
		if s.start == nil {
			p.fail("expected subscript expression")
		}
		if p.isOp(",") {
			p.unsupported("a subscript of several parts")
		}
		p.want("]")
		return &itemExpr{e, s.start}
	}
	p.at++
	s.stop = bound()
	if p.op(":") {
		s.step = bound()
	}
	p.want("]")
	return s
}

func (p *parser) filtered(e expr) expr {
	for {
		switch {
		case p.op("|"):
			e = p.filter(e)
		case p.word("is"):
			e = p.test(e)
		case p.isOp("("):
			e = p.call(e)
		default:
			return e
		}
	}
}

func (p *parser) filter(of expr) *filterExpr {
	name := p.name()
	f := &filterExpr{of: of, name: name, fn: filterNamed(name)}
	if f.fn == nil {
		if slices.Contains(otherFilters, name) {
			p.unsupported("the filter %s", name)
		}
		// Jinja2 may find out only where it is used.
		f.fn = func(r *run, _ Value, _ *call) Value {
			r.fail("No filter named '%s'.", name)
			return Value{}
		}
	}
	if p.isOp("(") {
		f.arguments = p.arguments()
	}
	return f
}

func (p *parser) test(of expr) expr {
	t := &testExpr{of: of}
	negated := p.word("not")
	t.name = p.name()
	if t.fn = tests[t.name]; t.fn == nil {
		if slices.Contains(otherTests, t.name) {
			p.unsupported("the test %s", t.name)
		}
		t.fn = func(r *run, _ Value, _ *call) bool {
			r.fail("No test named '%s'.", t.name)
			return false
		}
	}
	switch next := p.peek(); {
	case p.isOp("("):
		t.arguments = p.arguments()
	case next.kind == nameToken && !p.isWord("else", "or", "and"), next.kind == stringToken, next.kind == intToken,
		next.kind == floatToken, p.isOp("["), p.isOp("{"):
		if p.isWord("is") {
			p.fail("You cannot chain multiple tests with is")
		}
		t.arguments.positional = []expr{p.postfix(p.primary())}
	}
	if negated {
		return &notExpr{t}
	}
	return t
}

func (p *parser) call(fn expr) expr {
	line := p.peek().line
	c := &callExpr{fn: fn, arguments: p.arguments(), line: line}
	if a, ok := fn.(*attrExpr); ok && slices.Contains(otherMethods, a.name) {
		p.unsupported("the method %s", a.name)
	}
	return c
}

// arguments reads the arguments of a call.
func (p *parser) arguments() (a arguments) {
	p.want("(")
	for first := true; !p.op(")"); first = false {
		if !first {
			p.want(",")
			if p.op(")") {
				break
			}
		}
		if p.isOp("*") || p.isOp("**") {
			p.unsupported("unpacking arguments")
		}
		if t := p.peek(); t.kind == nameToken && p.tokens[p.at+1].kind == opToken && p.tokens[p.at+1].text == "=" {
			p.at += 2
			a.names = append(a.names, t.text)
			a.named = append(a.named, p.expr(true))
			continue
		}
		if len(a.names) > 0 {
			p.fail("invalid syntax for function call expression")
		}
		a.positional = append(a.positional, p.expr(true))
	}
	return a
}
