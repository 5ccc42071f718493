package jinja

import (
	"slices"
	"strconv"
)

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
