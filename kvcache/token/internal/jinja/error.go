package jinja

import "fmt"

// Error is a refusal of Jinja2's or Python's to render a template with some values.
type Error struct {
	Line    int // of the template, or 0
	Message string
	Raised  bool // by the template's own raise_exception
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Message)
}

// UnsupportedError says that a template uses what this package lacks.
type UnsupportedError struct {
	Line int // of the template, or 0
	What string
}

func (e *UnsupportedError) Error() string {
	if e.Line == 0 {
		return e.What + " is not supported"
	}
	return fmt.Sprintf("line %d: %s is not supported", e.Line, e.What)
}

// stop is what ends a rendering, or a parse, that cannot go on.
type stop struct{ err error }

func (r *run) fail(format string, args ...any) {
	panic(stop{&Error{Line: r.line, Message: fmt.Sprintf(format, args...)}})
}

func (r *run) unsupported(format string, args ...any) {
	panic(stop{&UnsupportedError{Line: r.line, What: fmt.Sprintf(format, args...)}})
}

// caught turns a stop into the error that it carries. Use it with defer.
func caught(err *error) {
	switch p := recover().(type) {
	case nil:
	case stop:
		*err = p.err
	default:
		panic(p)
	}
}
