package jinja

import (
	"fmt"
	"slices"
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
