package accel

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// fields reads values of a config by name and collects what is wrong with them. A value of null is absent.
type fields struct {
	values map[string]any
	bad    *problems
	at     string // what errors put before a name, such as "config.text_config."
}

func (f fields) get(names ...string) (name string, v any, ok bool) {
	for _, name := range names {
		if v, ok := f.values[name]; ok && v != nil {
			return name, v, true
		}
	}
	return names[0], nil, false
}

func (f fields) has(names ...string) bool {
	_, _, ok := f.get(names...)
	return ok
}

func (f fields) problem(name string, v any, want string) {
	if s, ok := v.(string); ok && len(s) > 64 {
		v = s[:64] + "..."
	}
	switch v := v.(type) {
	case map[string]any:
		f.bad.add(f.at+name, "an object", want)
	case []any:
		f.bad.add(f.at+name, fmt.Sprintf("a list of %d", len(v)), want)
	default:
		f.bad.add(f.at+name, v, want)
	}
}

// need is the whole number, from 1, of the first of names that is there; none is a problem.
func (f fields) need(names ...string) int {
	if !f.has(names...) {
		f.bad.add(f.at+names[0], "absent", "is needed"+alias(names))
		return 0
	}
	return f.number(1, names)
}

func alias(names []string) string {
	if len(names) == 1 {
		return ""
	}
	return ", or one of " + strings.Join(names[1:], ", ")
}

// opt is need for what may be absent, and then is def; it may be 0.
func (f fields) opt(def int, names ...string) int {
	if !f.has(names...) {
		return def
	}
	return f.number(0, names)
}

const maxNumber = 1 << 40

func (f fields) number(low int, names []string) int {
	name, v, _ := f.get(names...)
	n, ok := v.(json.Number)
	x, err := n.Float64()
	if !ok || err != nil || x != math.Trunc(x) || x < float64(low) || x > maxNumber {
		f.problem(name, v, fmt.Sprintf("must be a whole number of at least %d", low))
		return 0
	}
	return int(x)
}

func (f fields) flag(def bool, name string) bool {
	_, v, ok := f.get(name)
	if !ok {
		return def
	}
	b, isBool := v.(bool)
	if !isBool {
		f.problem(name, v, "must be true or false")
	}
	return b
}

func (f fields) text(names ...string) string {
	name, v, ok := f.get(names...)
	if !ok {
		return ""
	}
	s, isText := v.(string)
	if !isText {
		f.problem(name, v, "must be a string")
	}
	return s
}

// texts is a list of strings, or nil.
func (f fields) texts(name string) []string {
	list := f.list(name)
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			f.problem(name, v, "must be a list of strings")
			return nil
		}
		out = append(out, s)
	}
	return out
}

// ints is a list of whole numbers, or nil.
func (f fields) ints(name string) []int {
	list := f.list(name)
	out := make([]int, 0, len(list))
	for _, v := range list {
		n, ok := v.(json.Number)
		x, err := n.Int64()
		if !ok || err != nil || x < 0 || x > maxNumber {
			f.problem(name, v, "must be a list of whole numbers")
			return nil
		}
		out = append(out, int(x))
	}
	return out
}

func (f fields) list(name string) []any {
	_, v, ok := f.get(name)
	if !ok {
		return nil
	}
	list, isList := v.([]any)
	if !isList {
		f.problem(name, v, "must be a list")
	}
	return list
}

// object is a nested object, or false.
func (f fields) object(name string) (fields, bool) {
	_, v, ok := f.get(name)
	if !ok {
		return fields{}, false
	}
	m, isObject := v.(map[string]any)
	if !isObject {
		f.problem(name, v, "must be an object")
		return fields{}, false
	}
	return fields{m, f.bad, f.at + name + "."}, true
}
