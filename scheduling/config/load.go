package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// Loader reads configurations. The zero value knows the module's own plugins. It is safe for concurrent use while its fields
// do not change.
type Loader struct {
	// Types are plugins of the program's own. Where one has the name of a built-in one, or of one of llm-d's, it is taken in
	// its place.
	Types Types
	// Index is what prefix indexes are made with, one for each producer that needs one. Its MaxEndpoints is to be the pool's.
	Index prefix.Options
	// Attributes say which metric an attribute of llm-d is that its plugins go by, beside those of its core metrics.
	Attributes map[string]scheduling.Metric
	// Sections are given the parts of llm-d's files that are not scheduling's, by name: flowControl, dataLayer,
	// requestHandler. A part that changes what happens to requests is an error where there is nobody to take it.
	Sections map[string]func(Section) error
}

// Plan is a configuration that was read and found valid.
type Plan struct {
	// Options are for scheduling.New or Scheduler.Swap.
	Options scheduling.Options
	// External are plugins of an llm-d file that are not scheduling's: where tokens and metrics come from, and parsers.
	// The program has its own ways to set these up, and may look here for their parameters.
	External []Plugin
	// Notes say where the plan is not quite what was asked for.
	Notes []string

	text      []byte
	instances map[string]instance
}

// instance is a plugin of a plan.
type instance struct {
	name, typ string
	// definition is its parameters as JSON: what is equal in two plans is the same plugin.
	definition string
	plugin     any
}

// Plugin returns the plugin of a name, or nil: its type, where the configuration gives it no name. If plugins of different kinds
// share the name it is the first of: condition, filter, picker, producer, scorer, term.
func (p *Plan) Plugin(name string) any {
	for _, key := range slices.Sorted(maps.Keys(p.instances)) {
		if in := p.instances[key]; in.name == name {
			if made, ok := in.plugin.(*part); ok {
				return made.plugin()
			}
			return in.plugin
		}
	}
	return nil
}

// Load reads a configuration in either form, or reports every problem with it, each a *Problem.
func (l *Loader) Load(text []byte) (*Plan, error) { return l.Reload(nil, text) }

// Reload reads a configuration that is to take the place of another one. A plugin of the same name, type and parameters is
// the same plugin as before, with all it has learned; one whose parameters changed takes over what it can (scheduling.Inheritor).
func (l *Loader) Reload(old *Plan, text []byte) (*Plan, error) {
	b := &build{loader: l, kinds: BuiltIn().with(l.Types).kinds(), plan: &Plan{instances: map[string]instance{}}}
	if old != nil {
		b.old = old.instances
	}
	if err := b.read(text, true); err != nil {
		return nil, err
	}
	b.plan.text = slices.Clone(text)
	return b.plan, nil
}

// LoadFile reads a configuration from a file.
func (l *Loader) LoadFile(path string) (*Plan, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	plan, err := l.Load(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return plan, nil
}

// readFile reads a file that is not larger than a configuration can be.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// build is a plan in the making.
type build struct {
	loader *Loader
	kinds  []kind
	old    map[string]instance
	plan   *Plan
}

// document is our own form.
type document struct {
	Preset string `json:"preset"`
	scheduling.Options
}

func (b *build) read(text []byte, presets bool) error {
	root, err := parse(text)
	if err != nil {
		return err
	}
	if root == nil {
		return &Problem{Err: errors.New("empty")}
	}
	if fieldOf(root, "kind") != nil || fieldOf(root, "apiVersion") != nil {
		return b.llmd(root)
	}
	d := &decoder{plugin: b.entry}
	var doc document
	d.into(root, reflect.ValueOf(&doc).Elem(), "")
	if doc.Preset != "" {
		at := fieldOf(root, "preset")
		for _, name := range []string{"profile", "stages"} {
			if n := fieldOf(root, name); n != nil {
				d.problem(n, name, "a preset has its own")
			}
		}
		preset, err := Preset(doc.Preset)
		if err == nil && presets && len(d.problems) == 0 {
			err = b.read([]byte(preset), false)
		}
		if err != nil {
			d.problem(at, "preset", "%w", err)
		}
		own := b.plan.Options
		own.MaxMetricAge, own.Seed = doc.MaxMetricAge, doc.Seed
		doc.Options = own
	}
	b.plan.Options = doc.Options
	return b.finish(d)
}

// finish checks the plan as a whole, unless there are problems already that would show again.
func (b *build) finish(d *decoder) error {
	if err := d.err(); err != nil {
		return err
	}
	if err := b.plan.Options.Validate(); err != nil {
		return errors.Join(flatten(err)...)
	}
	return nil
}

// flatten makes a Problem of each error that was joined.
func flatten(err error) []error {
	var list []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list = append(list, &Problem{Err: e})
		}
		return list
	}
	return []error{&Problem{Err: err}}
}

func fieldOf(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// entry makes the plugin that an entry of our own form describes: its type's name, or fields of which one is its type and the
// others, except for its name and those that belong to the list it is in, its parameters.
func (b *build) entry(d *decoder, t reflect.Type, n *yaml.Node, path string, reserved ...string) any {
	i := slices.IndexFunc(b.kinds, func(k kind) bool { return k.is == t })
	if i < 0 {
		d.problem(n, path, "cannot be configured")
		return nil
	}
	k := b.kinds[i]
	typ, name := "", ""
	parameters := &yaml.Node{Kind: yaml.MappingNode, Line: n.Line}
	switch n.Kind {
	case yaml.ScalarNode:
		typ = n.Value
	case yaml.MappingNode:
		d.fields(n, path, func(key string, at, value *yaml.Node) {
			switch {
			case key == "type":
				d.into(value, reflect.ValueOf(&typ).Elem(), join(path, key))
			case key == "name":
				d.into(value, reflect.ValueOf(&name).Elem(), join(path, key))
			case !slices.Contains(reserved, key):
				parameters.Content = append(parameters.Content, at, value)
			}
		})
	}
	if typ == "" {
		d.problem(n, path, "want the type of a %s, or fields of which one is its type", k.name)
		return nil
	}
	create, ok := k.types[typ]
	if !ok {
		d.problem(n, path, "%s %q is unknown: want one of %s", k.name, typ, strings.Join(k.names(), ", "))
		return nil
	}
	if name == "" {
		name = typ
	}
	in := instance{name: name, typ: typ, definition: d.definition(parameters)}
	key := k.name + " " + name
	if have, ok := b.plan.instances[key]; ok {
		if have.typ != typ || have.definition != in.definition {
			d.problem(n, path, "another %s of the name %q has other parameters: give one of them a name of its own", k.name, name)
		}
		return have.plugin
	}
	old, had := b.old[key]
	if had && old.typ == typ && old.definition == in.definition {
		b.plan.instances[key] = old
		return old.plugin
	}
	in.plugin = create()
	if v := reflect.ValueOf(in.plugin); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		d.object(parameters, v.Elem(), path)
	} else if len(parameters.Content) > 0 {
		d.problem(parameters, path, "%s %q takes no parameters", k.name, typ)
	}
	if had && old.typ == typ {
		inherit(in.plugin, old.plugin)
	}
	if err := b.prepare(in.plugin); err != nil {
		d.problem(n, path, "%w", err)
	}
	b.plan.instances[key] = in
	return in.plugin
}

func inherit(plugin, old any) {
	if i, ok := plugin.(scheduling.Inheritor); ok {
		i.Inherit(old)
	}
}

// prepare gives a plugin what it needs beside parameters.
func (b *build) prepare(plugin any) (err error) {
	switch p := plugin.(type) {
	case *prefix.Producer:
		if p.Index == nil {
			p.Index, err = prefix.New(b.loader.Index)
		}
	case *prefix.Media:
		if p.Index == nil {
			p.Index, err = prefix.New(b.loader.Index)
		}
	}
	if err != nil {
		return fmt.Errorf("prefix index: %w", err)
	}
	return nil
}
