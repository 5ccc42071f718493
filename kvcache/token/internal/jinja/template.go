package jinja

import (
	"slices"
	"time"
)

// Template is a template that has been read. It is safe for concurrent use.
type Template struct {
	body    []stmt
	names   []string // by id
	ids     map[string]int
	globals []Value // by id; what is not given otherwise
	format  bool    // see ContentParts
}

// Options bound a rendering. The zero value works.
type Options struct {
	// Now is what strftime_now tells; nil means time.Now.
	Now func() time.Time
	// MaxBytes bounds the result and each value on the way to it, MaxSteps the work; 0 means DefaultMaxBytes and
	// DefaultMaxSteps.
	MaxBytes, MaxSteps int
	// Keep are characters that are never printed as an escape.
	Keep string
}

// The bounds of a rendering that has none of its own.
const (
	DefaultMaxBytes = 64 << 20
	DefaultMaxSteps = 2_000_000
)

// maxDepth bounds how macros and recursive loops call each other. Python's own bound is near 200 for macros.
const maxDepth = 200

// Var is a variable that a template is given.
type Var struct {
	Name  string
	Value Value
}

// Parse reads a template. The error is an *Error where Jinja2 would refuse it, an *UnsupportedError for what this package
// lacks.
func Parse(source string) (t *Template, err error) {
	defer caught(&err)
	p := &parser{tokens: lex(source), t: &Template{ids: map[string]int{}}}
	p.t.body = p.statements("the end")
	p.t.globals = make([]Value, len(p.t.names))
	for i, name := range p.t.names {
		if g := global(name); g != nil {
			p.t.globals[i] = Value{kind: callableKind, ref: g}
		}
	}
	p.t.format = p.contentParts()
	return p.t, nil
}

// ContentParts reports whether a template loops over the contents of messages, which are then to be lists of parts: the rule
// by which vLLM finds it out (--chat-template-content-format auto).
func (t *Template) ContentParts() bool { return t.format }

// Append appends what the template makes of the variables to dst. The error is an *Error where Jinja2 or Python would
// refuse, or where a bound is passed, and an *UnsupportedError for what this package lacks.
func (t *Template) Append(dst []byte, vars []Var, o Options) (out []byte, err error) {
	r := &run{t: t, out: dst, start: len(dst), now: o.Now, maxBytes: o.MaxBytes, steps: o.MaxSteps, keep: o.Keep}
	if r.now == nil {
		r.now = time.Now
	}
	if r.maxBytes == 0 {
		r.maxBytes = DefaultMaxBytes
	}
	if r.steps == 0 {
		r.steps = DefaultMaxSteps
	}
	r.vars = slices.Clone(t.globals)
	for _, v := range vars {
		if id, ok := t.ids[v.Name]; ok {
			r.vars[id] = v.Value
		}
	}
	defer func() { out = r.out }()
	defer caught(&err)
	r.exec(t.body, &scope{})
	return r.out, nil
}

// run is one rendering.
type run struct {
	t        *Template
	vars     []Value // by id
	out      []byte
	start    int // of what this rendering wrote
	line     int
	steps    int // that are left
	depth    int
	maxBytes int
	now      func() time.Time
	keep     string
	args     []Value // of the calls that are under way
}

func (r *run) step() {
	if r.steps--; r.steps < 0 {
		r.fail("the template takes too many steps")
	}
}

// size refuses values that are too large.
func (r *run) size(bytes int) {
	if bytes > r.maxBytes || bytes < 0 {
		r.fail("the template makes more than %d bytes", r.maxBytes)
	}
}

func (r *run) enter() {
	if r.depth++; r.depth > maxDepth {
		r.fail("maximum recursion depth exceeded")
	}
}

// capture returns what f writes.
func (r *run) capture(f func()) string {
	start := len(r.out)
	f()
	s := string(r.out[start:])
	r.out = r.out[:start]
	return s
}

// scope is the variables of a loop, a macro or the like.
type scope struct {
	outer  *scope
	ids    []int
	values []Value
}

func (s *scope) set(id int, v Value) {
	for i, have := range s.ids {
		if have == id {
			s.values[i] = v
			return
		}
	}
	s.ids, s.values = append(s.ids, id), append(s.values, v)
}

func (r *run) lookup(s *scope, id int) Value {
	for ; s != nil; s = s.outer {
		for i, have := range s.ids {
			if have == id {
				return s.values[i]
			}
		}
	}
	if v := r.vars[id]; v.kind != undefinedKind {
		return v
	}
	return Value{s: r.t.names[id]}
}
