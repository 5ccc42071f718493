package jinja

import (
	"cmp"
	"math"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Value is a value of Python's, as far as templates see them. The zero Value is undefined. It does not change.
type Value struct {
	kind   kind
	flavor flavor
	n      uint64 // of booleans, integers and floats
	s      string // of strings; of what is undefined, its name
	ref    any    // *list, *Dict, *big.Int, *namespace, callable or *loop
}

type kind uint8

const (
	undefinedKind kind = iota
	noneKind
	boolKind
	intKind
	floatKind
	stringKind
	listKind
	dictKind
	namespaceKind
	callableKind
	loopKind
)

// flavor tells apart what is of one kind.
type flavor uint8

const (
	plain     flavor = iota
	markup           // a string that is safe: it escapes what is added to it
	tuple            // a list in parentheses
	view             // of a dictionary: a list that cannot be indexed
	generator        // a list that can be read once, and nothing else
	large            // an integer that is a *big.Int
)

type list struct{ items []Value }

// None is Python's.
var None = Value{kind: noneKind}

// Bool returns a boolean.
func Bool(b bool) Value {
	if b {
		return Value{kind: boolKind, n: 1}
	}
	return Value{kind: boolKind}
}

// Int returns an integer.
func Int(n int) Value { return Value{kind: intKind, n: uint64(n)} }

// Float returns a float.
func Float(f float64) Value { return Value{kind: floatKind, n: math.Float64bits(f)} }

// String returns a string. It is UTF-8.
func String(s string) Value { return Value{kind: stringKind, s: s} }

// List returns a list of items, which it keeps.
func List(items []Value) Value { return Value{kind: listKind, ref: &list{items}} }

func listOf(f flavor, items []Value) Value {
	return Value{kind: listKind, flavor: f, ref: &list{items}}
}

// Value returns the dictionary as a value.
func (d *Dict) Value() Value { return Value{kind: dictKind, ref: d} }

// IsNone reports whether v is None.
func (v Value) IsNone() bool { return v.kind == noneKind }

// IsUndefined reports whether v is undefined.
func (v Value) IsUndefined() bool { return v.kind == undefinedKind }

// Str returns a string's text.
func (v Value) Str() (s string, ok bool) { return v.s, v.kind == stringKind }

// Truth returns a boolean's value.
func (v Value) Truth() (b, ok bool) { return v.n != 0, v.kind == boolKind }

// Items returns a list's items. They must not be changed.
func (v Value) Items() (items []Value, ok bool) {
	if v.kind != listKind {
		return nil, false
	}
	return v.ref.(*list).items, true
}

// Dict returns a dictionary.
func (v Value) Dict() (d *Dict, ok bool) {
	d, ok = v.ref.(*Dict)
	return d, ok
}

func (v Value) int() int64     { return int64(v.n) }
func (v Value) float() float64 { return math.Float64frombits(v.n) }

// number returns a number that is not large as a float.
func (v Value) number() float64 {
	if v.kind == floatKind {
		return v.float()
	}
	return float64(v.int())
}

func (v Value) isInt() bool { return v.kind == intKind || v.kind == boolKind }

// isNumber reports whether v can be computed with: it is no large integer.
func (v Value) isNumber() bool { return (v.isInt() || v.kind == floatKind) && v.flavor != large }

func (v Value) big() *big.Int {
	if v.flavor == large {
		return v.ref.(*big.Int)
	}
	return big.NewInt(v.int())
}

// Dict is a dictionary that keeps the order in which its keys came.
type Dict struct {
	keys, values []Value
	index        map[string]int32 // of the keys that are strings, once there are many
}

const indexFrom = 12

// NewDict returns a dictionary with room for some keys.
func NewDict(keys int) *Dict {
	room := make([]Value, 2*keys)
	return &Dict{keys: room[:0:keys], values: room[keys:keys]}
}

// Len returns how many keys there are.
func (d *Dict) Len() int { return len(d.keys) }

// At returns the i-th key, as text, and its value.
func (d *Dict) At(i int) (key string, value Value) { return d.keys[i].s, d.values[i] }

// Get returns the value of a key that is a string.
func (d *Dict) Get(key string) (v Value, ok bool) {
	if d.index != nil {
		i, ok := d.index[key]
		if !ok {
			return Value{}, false
		}
		return d.values[i], true
	}
	for i := range d.keys {
		if d.keys[i].kind == stringKind && d.keys[i].s == key {
			return d.values[i], true
		}
	}
	return Value{}, false
}

// Set sets the value of a key that is a string.
func (d *Dict) Set(key string, v Value) { d.set(String(key), v) }

func (d *Dict) set(key, v Value) {
	if i := d.find(key); i >= 0 {
		d.values[i] = v
		return
	}
	if d.index != nil && key.kind == stringKind {
		d.index[key.s] = int32(len(d.keys))
	}
	d.keys, d.values = append(d.keys, key), append(d.values, v)
	if d.index == nil && len(d.keys) == indexFrom {
		d.index = map[string]int32{}
		for i, k := range d.keys {
			if k.kind == stringKind {
				d.index[k.s] = int32(i)
			}
		}
	}
}

func (d *Dict) find(key Value) int {
	if key.kind == stringKind && d.index != nil {
		if i, ok := d.index[key.s]; ok {
			return int(i)
		}
		return -1
	}
	for i := range d.keys {
		if equal(d.keys[i], key) {
			return i
		}
	}
	return -1
}

// hashable reports whether v can be a key.
func hashable(v Value) bool {
	switch v.kind {
	case dictKind:
		return false
	case listKind:
		if v.flavor != tuple {
			return v.flavor == generator
		}
		for _, item := range v.ref.(*list).items {
			if !hashable(item) {
				return false
			}
		}
	}
	return true
}

func truth(v Value) bool {
	switch v.kind {
	case boolKind, intKind:
		return v.n != 0 || v.flavor == large
	case floatKind:
		return v.float() != 0
	case stringKind:
		return v.s != ""
	case listKind:
		return v.flavor == generator || len(v.ref.(*list).items) > 0
	case dictKind:
		return v.ref.(*Dict).Len() > 0
	case undefinedKind, noneKind:
		return false
	}
	return true
}

func equal(a, b Value) bool {
	switch {
	case a.kind == stringKind && b.kind == stringKind:
		return a.s == b.s
	case a.isNumber() && b.isNumber():
		if a.isInt() && b.isInt() {
			return a.n == b.n
		}
		return compareNumbers(a, b) == 0
	case a.kind != b.kind:
		return false
	}
	switch a.kind {
	case undefinedKind, noneKind:
		return true
	case intKind:
		return a.big().Cmp(b.big()) == 0
	case listKind:
		if a.flavor == generator || b.flavor == generator {
			return a.ref == b.ref
		}
		x, y := a.ref.(*list).items, b.ref.(*list).items
		if len(x) != len(y) || (a.flavor == tuple) != (b.flavor == tuple) {
			return false
		}
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
		return true
	case dictKind:
		x, y := a.ref.(*Dict), b.ref.(*Dict)
		if x.Len() != y.Len() {
			return false
		}
		for i := range x.keys {
			if j := y.find(x.keys[i]); j < 0 || !equal(x.values[i], y.values[j]) {
				return false
			}
		}
		return true
	}
	return a.ref == b.ref
}

// compareNumbers orders numbers, of which neither is large nor NaN; integers that a float cannot hold are compared exactly.
func compareNumbers(a, b Value) int {
	if a.isInt() && b.isInt() {
		return cmp.Compare(a.int(), b.int())
	}
	x, y := a.number(), b.number()
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case x == y:
		// A rounded integer may look equal.
		if a.isInt() && math.Abs(y) < 1<<63 {
			return cmp.Compare(a.int(), int64(y))
		}
		if b.isInt() && math.Abs(x) < 1<<63 {
			return cmp.Compare(int64(x), b.int())
		}
		return 0
	}
	return 2 // NaN
}

// order compares two values as Python's < does. It reports false where that is an error.
func order(a, b Value) (c int, ok bool) {
	switch {
	case a.kind == stringKind && b.kind == stringKind:
		return strings.Compare(a.s, b.s), true
	case a.isNumber() && b.isNumber():
		return compareNumbers(a, b), true
	case a.isInt() && b.isInt():
		return a.big().Cmp(b.big()), true
	case a.kind == listKind && b.kind == listKind && a.flavor == b.flavor && a.flavor <= tuple:
		x, y := a.ref.(*list).items, b.ref.(*list).items
		for i := range min(len(x), len(y)) {
			if !equal(x[i], y[i]) {
				return order(x[i], y[i])
			}
		}
		return cmp.Compare(len(x), len(y)), true
	}
	return 0, false
}

// typeName is what Python calls v's type.
func typeName(v Value) string {
	switch v.kind {
	case undefinedKind:
		return "Undefined"
	case noneKind:
		return "NoneType"
	case boolKind:
		return "bool"
	case intKind:
		return "int"
	case floatKind:
		return "float"
	case stringKind:
		return "str"
	case listKind:
		switch v.flavor {
		case tuple:
			return "tuple"
		case generator:
			return "generator"
		}
		return "list"
	case dictKind:
		return "dict"
	case namespaceKind:
		return "Namespace"
	}
	return "function"
}

// ascii reports whether s has a byte for each character.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
