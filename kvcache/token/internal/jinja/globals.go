package jinja

import (
	"fmt"
	"time"
)

// builtin is a function that every template has.
type builtin struct {
	name string
	fn   func(r *run, a *call) Value
}

func (b *builtin) call(r *run, args []Value, named []kwarg) Value {
	return b.fn(r, &call{b.name, args, named})
}

// global returns the function of that name.
func global(name string) *builtin {
	switch name {
	case "raise_exception":
		return &builtin{name, func(r *run, a *call) Value {
			panic(stop{&Error{Line: r.line, Message: r.str(a.one(r)), Raised: true}})
		}}
	case "strftime_now":
		return &builtin{name, func(r *run, a *call) Value { return String(r.strftime(r.text(a.one(r)))) }}
	case "namespace":
		return &builtin{name, func(r *run, a *call) Value {
			ns := &namespace{}
			d := r.newDict(a)
			for i := range d.Len() {
				key, v := d.At(i)
				if key != "" && key[0] == '_' {
					r.fail("a namespace has no attribute that begins with an underscore: %s", key)
				}
				ns.attrs.Set(key, v)
			}
			return Value{kind: namespaceKind, ref: ns}
		}}
	case "dict":
		return &builtin{name, func(r *run, a *call) Value { return r.newDict(a).Value() }}
	case "range":
		return &builtin{name, rangeOf}
	}
	return nil
}

// newDict is Python's dict: of pairs or of a dictionary, and of names.
func (r *run) newDict(a *call) *Dict {
	d := &Dict{}
	if len(a.args) > 1 {
		r.fail("dict expected at most 1 argument, got %d", len(a.args))
	}
	for _, v := range a.args {
		if from, ok := v.Dict(); ok {
			for i := range from.keys {
				d.set(from.keys[i], from.values[i])
			}
			continue
		}
		for _, pair := range r.iterate(v) {
			items := r.iterate(pair)
			if len(items) != 2 || !hashable(items[0]) {
				r.fail("dictionary update sequence: want pairs of a key and a value")
			}
			d.set(items[0], items[1])
		}
	}
	for _, k := range a.named {
		d.Set(k.name, k.value)
	}
	return d
}

// maxRange is the sandbox's bound.
const maxRange = 100_000

func rangeOf(r *run, a *call) Value {
	p := a.bind(r, "start", "stop", "step")
	start, stop, step := 0, r.count(p[0], 0), r.count(p[2], 1)
	if len(a.args) == 0 || len(a.named) > 0 {
		r.fail("range expected at least 1 argument")
	}
	if len(a.args) > 1 {
		start, stop = stop, r.count(p[1], 0)
	}
	if step == 0 {
		r.fail("range() arg 3 must not be zero")
	}
	items := []Value{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(items) == maxRange {
			r.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxRange)
		}
		items = append(items, Int(i))
	}
	return List(items)
}

// strftime formats the time as C's function does in its own locale.
func (r *run) strftime(format string) string {
	now := r.now()
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out = append(out, format[i])
			continue
		}
		i++
		pad := true
		if format[i] == '-' && i+1 < len(format) {
			pad = false
			i++
		}
		number := func(n, digits int) {
			if !pad {
				digits = 0
			}
			out = fmt.Appendf(out, "%0*d", digits, n)
		}
		switch format[i] {
		case 'Y':
			number(now.Year(), 4)
		case 'y':
			number(now.Year()%100, 2)
		case 'm':
			number(int(now.Month()), 2)
		case 'd':
			number(now.Day(), 2)
		case 'H':
			number(now.Hour(), 2)
		case 'I':
			number((now.Hour()+11)%12+1, 2)
		case 'M':
			number(now.Minute(), 2)
		case 'S':
			number(now.Second(), 2)
		case 'j':
			number(now.YearDay(), 3)
		case 'B':
			out = append(out, now.Month().String()...)
		case 'b', 'h':
			out = append(out, now.Month().String()[:3]...)
		case 'A':
			out = append(out, now.Weekday().String()...)
		case 'a':
			out = append(out, now.Weekday().String()[:3]...)
		case 'p':
			out = now.AppendFormat(out, "PM")
		case 'F':
			out = now.AppendFormat(out, time.DateOnly)
		case 'T':
			out = now.AppendFormat(out, time.TimeOnly)
		case '%':
			out = append(out, '%')
		default:
			r.unsupported("the directive %%%c of strftime", format[i])
		}
	}
	return string(out)
}
