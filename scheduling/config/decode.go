package config

import (
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Line is where it is in the text, from 1; 0 where that is not known.
	Line int
	// Path is where it is in the document: schedulingProfiles[0].plugins[2].pluginRef.
	Path string
	Err  error
}

func (p *Problem) Error() string {
	text := p.Err.Error()
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("line %d: %s", p.Line, text)
	}
	return text
}

func (p *Problem) Unwrap() error { return p.Err }

// Bounds of what is read, so that no text can take long or go deep: anchors multiply.
const (
	maxBytes = 1 << 20
	maxNodes = 1 << 16
	maxDepth = 64
)

// decoder decodes YAML into Go values by their json tags, and collects every problem. It is strict: unknown and repeated
// fields, and values of another type, are problems.
type decoder struct {
	// plugin makes the plugin that stands where a value of an interface type is wanted; nil where there are none.
	plugin   func(d *decoder, kind reflect.Type, n *yaml.Node, path string, reserved ...string) any
	problems []error
	nodes    int
	depth    int
	full     bool // a bound was reached, and that is said
}

func (d *decoder) problem(n *yaml.Node, path, format string, args ...any) {
	p := &Problem{Path: path, Err: fmt.Errorf(format, args...)}
	if n != nil {
		p.Line = n.Line
	}
	d.problems = append(d.problems, p)
}

// err returns all problems, those with a line first, in order.
func (d *decoder) err() error {
	line := func(err error) int {
		var p *Problem
		if errors.As(err, &p) && p.Line > 0 {
			return p.Line
		}
		return math.MaxInt
	}
	slices.SortStableFunc(d.problems, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
	return errors.Join(d.problems...)
}

// parse returns the root of the one document in a text, or nil if the text is empty.
func parse(text []byte) (*yaml.Node, error) {
	if len(text) > maxBytes {
		return nil, &Problem{Err: fmt.Errorf("%d bytes: more than %d", len(text), maxBytes)}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, &Problem{Err: errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, &Problem{Line: more.Line, Err: errors.New("a second document")}
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	textType      = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawType       = reflect.TypeFor[json.RawMessage]()
	interfaceType = reflect.TypeFor[any]()
	nodeType      = reflect.TypeFor[*yaml.Node]()
	locatedType   = reflect.TypeFor[located]()
	weightedType  = reflect.TypeFor[scheduling.Weighted]()
)

// located is a text that remembers where it was.
type located struct {
	text string
	at   *yaml.Node
}

// enter follows an alias and counts; it reports false where a bound is reached.
func (d *decoder) enter(n *yaml.Node, path string) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.nodes++
	d.depth++
	if d.nodes <= maxNodes && d.depth <= maxDepth {
		return n, true
	}
	if !d.full {
		d.full = true
		d.problem(n, path, "too large or too deep: more than %d values or %d levels", maxNodes, maxDepth)
	}
	return n, false
}

// into decodes a node into a value that can be set.
func (d *decoder) into(n *yaml.Node, v reflect.Value, path string) {
	n, ok := d.enter(n, path)
	defer func() { d.depth-- }()
	if !ok || n.Tag == "!!null" {
		return
	}
	switch t := v.Type(); {
	case t == durationType:
		length, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.problem(n, path, "want a duration, like 5s")
			return
		}
		v.SetInt(int64(length))
	case t == rawType:
		v.SetBytes(d.raw(n, path))
	case t == interfaceType:
		var generic any
		_ = json.Unmarshal(d.raw(n, path), &generic)
		v.Set(reflect.ValueOf(&generic).Elem())
	case reflect.PointerTo(t).Implements(textType):
		if n.Kind != yaml.ScalarNode {
			d.problem(n, path, "want %s", describe(t))
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.problem(n, path, "%w", err)
		}
	case t == nodeType:
		v.Set(reflect.ValueOf(n))
	case t == locatedType:
		v.Set(reflect.ValueOf(located{n.Value, n}))
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			d.problem(n, path, "want text")
		}
	case t == weightedType && d.plugin != nil:
		d.weighted(n, v, path)
	case t.Kind() == reflect.Interface && d.plugin != nil:
		if p := d.plugin(d, t, n, path); p != nil {
			v.Set(reflect.ValueOf(p))
		}
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.into(n, v.Elem(), path)
	case t.Kind() == reflect.Struct:
		d.object(n, v, path)
	case t.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.problem(n, path, "want a list")
			return
		}
		list := reflect.MakeSlice(t, len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.into(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(list)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		v.Set(reflect.MakeMap(t))
		d.fields(n, path, func(key string, _, value *yaml.Node) {
			item := reflect.New(t.Elem()).Elem()
			d.into(value, item, join(path, key))
			v.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), item)
		})
	default:
		d.scalar(n, v, path)
	}
}

// weighted decodes a scorer, whose weight stands among its parameters.
func (d *decoder) weighted(n *yaml.Node, v reflect.Value, path string) {
	scorer := v.FieldByName("Scorer")
	if p := d.plugin(d, scorer.Type(), n, path, "weight"); p != nil {
		scorer.Set(reflect.ValueOf(p))
	}
	if weight := fieldOf(n, "weight"); weight != nil {
		before := len(d.problems)
		d.into(weight, v.FieldByName("Weight"), join(path, "weight"))
		if v.FieldByName("Weight").Float() == 0 && len(d.problems) == before {
			d.problem(weight, join(path, "weight"), "0: leave the scorer out")
		}
	}
}

// scalar decodes text, numbers and booleans, which must be written as such: 5 is no text and "5" no number.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	fits := n.Kind == yaml.ScalarNode
	switch v.Kind() {
	case reflect.String:
		fits = fits && n.ShortTag() == "!!str"
	case reflect.Bool:
		fits = fits && n.ShortTag() == "!!bool"
	case reflect.Float32, reflect.Float64:
		fits = fits && (n.ShortTag() == "!!float" || n.ShortTag() == "!!int")
	default:
		fits = fits && n.ShortTag() == "!!int"
	}
	if !fits || n.Decode(v.Addr().Interface()) != nil {
		d.problem(n, path, "want %s", describe(v.Type()))
	}
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0"
	}
	return "another value"
}

// fields calls each for the fields of a mapping; repeated ones are problems.
func (d *decoder) fields(n *yaml.Node, path string, each func(key string, at, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "want fields")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			d.problem(key, path, "want a plain name for a field")
			continue
		}
		if seen[key.Value] {
			d.problem(key, join(path, key.Value), "given twice")
			continue
		}
		seen[key.Value] = true
		each(key.Value, key, n.Content[i+1])
	}
}

// object decodes a mapping into a struct.
func (d *decoder) object(n *yaml.Node, v reflect.Value, path string) {
	known := fieldsOf(v.Type())
	d.fields(n, path, func(key string, at, value *yaml.Node) {
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key })
		if i < 0 {
			d.problem(at, join(path, key), "unknown field%s", suggest(known))
			return
		}
		d.into(value, v.FieldByIndex(known[i].index), join(path, key))
	})
}

func suggest(known []field) string {
	if len(known) == 0 {
		return ": there are none here"
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	return ": want one of " + strings.Join(names, ", ")
}

type field struct {
	name  string
	index []int
}

// fieldsOf returns the fields of a struct that have a name in JSON. Those of embedded structs count as its own, unless it has
// one of the same name.
func fieldsOf(t reflect.Type) []field {
	var list, embedded []field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for _, inner := range fieldsOf(f.Type) {
				embedded = append(embedded, field{inner.name, append([]int{f.Index[0]}, inner.index...)})
			}
		case f.IsExported() && name != "":
			list = append(list, field{name, f.Index})
		}
	}
	for _, f := range embedded {
		if !slices.ContainsFunc(list, func(own field) bool { return own.name == f.name }) {
			list = append(list, f)
		}
	}
	return list
}

// raw returns a node as JSON, fields in alphabetical order.
func (d *decoder) raw(n *yaml.Node, path string) []byte {
	text, err := json.Marshal(d.generic(n, path))
	if err != nil { // a number that JSON does not have
		d.problem(n, path, "want numbers that are finite")
		return []byte("null")
	}
	return text
}

// definition returns parameters as JSON, to compare them by. Their problems show when they are decoded.
func (d *decoder) definition(n *yaml.Node) string {
	scratch := &decoder{nodes: d.nodes, depth: d.depth}
	text := scratch.raw(n, "")
	d.nodes = scratch.nodes
	return string(text)
}

func (d *decoder) generic(n *yaml.Node, path string) any {
	n, ok := d.enter(n, path)
	defer func() { d.depth-- }()
	if !ok {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.fields(n, path, func(key string, _, value *yaml.Node) { m[key] = d.generic(value, join(path, key)) })
		return m
	case yaml.SequenceNode:
		list := []any{}
		for i, item := range n.Content {
			list = append(list, d.generic(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return list
	}
	if n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp" {
		return n.Value
	}
	var v any
	if n.Decode(&v) != nil {
		return n.Value
	}
	return v
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
