package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
)

// pickerConfig is llm-d's EndpointPickerConfig.
type pickerConfig struct {
	APIVersion         located    `json:"apiVersion"`
	Kind               located    `json:"kind"`
	FeatureGates       []located  `json:"featureGates"`
	Plugins            []llmdSpec `json:"plugins"`
	Profiles           []profile  `json:"schedulingProfiles"`
	DataLayer          *yaml.Node `json:"dataLayer"`
	FlowControl        *yaml.Node `json:"flowControl"`
	RequestHandler     *yaml.Node `json:"requestHandler"`
	SaturationDetector *yaml.Node `json:"saturationDetector"`
	Parser             *yaml.Node `json:"parser"`
}

type llmdSpec struct {
	Name       located    `json:"name"`
	Type       located    `json:"type"`
	Parameters *yaml.Node `json:"parameters"`
}

type profile struct {
	Name    located        `json:"name"`
	Plugins []profileEntry `json:"plugins"`
}

type profileEntry struct {
	Ref    located  `json:"pluginRef"`
	Weight *float64 `json:"weight"`
}

// gates are llm-d's feature gates and their standard values.
var gates = map[string]bool{"flowControl": false, "populate-non-leader-datastore": true}

// Plugin is a plugin of an llm-d file that is not scheduling's.
type Plugin struct {
	Name, Type string
	// Parameters are as JSON; null where there are none.
	Parameters json.RawMessage
}

// llmd is an EndpointPickerConfig on its way to a plan.
type llmd struct {
	*build
	d     *decoder
	parts map[string]*part
	order []string // of parts, as in the file
	gates map[string]bool
	taken map[string][]Plugin // by section
}

func (b *build) llmd(root *yaml.Node) error {
	l := &llmd{build: b, d: &decoder{}, parts: map[string]*part{}, gates: maps.Clone(gates), taken: map[string][]Plugin{}}
	var c pickerConfig
	l.d.into(root, reflect.ValueOf(&c).Elem(), "")
	switch c.APIVersion.text {
	case "llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1":
	default:
		l.d.problem(c.APIVersion.at, "apiVersion", "%q: want llm-d.ai/v1alpha1", c.APIVersion.text)
	}
	if c.Kind.text != "EndpointPickerConfig" {
		l.d.problem(c.Kind.at, "kind", "%q: want EndpointPickerConfig", c.Kind.text)
	}
	l.readGates(c.FeatureGates)
	for i, spec := range c.Plugins {
		l.read(spec, fmt.Sprintf("plugins[%d]", i))
	}
	l.stages(c)
	l.sections(c)
	return l.finish(l.d)
}

func (l *llmd) readGates(list []located) {
	for i, g := range list {
		path := fmt.Sprintf("featureGates[%d]", i)
		if g.at == nil {
			l.d.problem(nil, path, "empty")
			continue
		}
		if g.at.ShortTag() != "!!str" {
			continue // that is said already
		}
		name, value, given := strings.Cut(g.text, "=")
		if _, known := gates[name]; !known {
			l.d.problem(g.at, path, "%q is no feature gate: want one of flowControl, populate-non-leader-datastore", name)
			continue
		}
		on := true
		if given {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				l.d.problem(g.at, path, "%q: want true or false", value)
			}
		}
		l.gates[name] = on
	}
}

// read makes what a plugin of the file stands for.
func (l *llmd) read(spec llmdSpec, path string) {
	typ := spec.Type.text
	if typ == "" {
		l.d.problem(spec.Type.at, path+".type", "missing")
		return
	}
	name := spec.Name.text
	if name == "" {
		name = typ
	}
	if _, twice := l.parts[name]; twice {
		l.d.problem(spec.Type.at, path, "the name %q is given twice", name)
		return
	}
	l.parts[name] = l.part(name, spec, path)
	l.order = append(l.order, name)
}

// part makes a part, or takes it from the old plan.
func (l *llmd) part(name string, spec llmdSpec, path string) *part {
	typ, at := spec.Type.text, spec.Type.at
	if spec.Parameters == nil {
		spec.Parameters = &yaml.Node{Kind: yaml.MappingNode}
		if at != nil {
			spec.Parameters.Line = at.Line
		}
	}
	create, ok := l.own(typ)
	if !ok {
		create, ok = llmdTypes[typ]
	}
	if !ok {
		before := len(l.d.problems)
		l.elsewhere(name, spec, path)
		return &part{failed: len(l.d.problems) > before}
	}
	in := instance{name: name, typ: typ, definition: l.d.definition(spec.Parameters)}
	key := "llm-d " + name
	old, had := l.old[key]
	if had && old.typ == typ && old.definition == in.definition {
		l.plan.instances[key] = old
		l.plan.Notes = append(l.plan.Notes, old.plugin.(*part).notes...)
		return old.plugin.(*part)
	}
	given := &parameters{llmd: l, node: spec.Parameters, path: path + ".parameters", name: name}
	p := create(given)
	p.notes = given.notes
	l.plan.Notes = append(l.plan.Notes, p.notes...)
	if had && old.typ == typ {
		if was := old.plugin.(*part); p.plugin() != nil && was.plugin() != nil {
			inherit(p.plugin(), was.plugin())
		}
	}
	for _, plugin := range p.all() {
		if err := l.prepare(plugin); err != nil {
			l.d.problem(spec.Parameters, path, "%w", err)
		} else if v, ok := plugin.(scheduling.Validator); ok {
			if err := v.Validate(); err != nil {
				l.d.problem(spec.Parameters, path+".parameters", "%w", err)
			}
		}
	}
	in.plugin = p
	l.plan.instances[key] = in
	return p
}

// own finds a type of the program's own.
func (l *llmd) own(typ string) (func(*parameters) *part, bool) {
	var create func() any
	for _, k := range l.loader.Types.kinds() {
		if create == nil {
			create = k.types[typ]
		}
	}
	if create == nil {
		return nil, false
	}
	return func(p *parameters) *part {
		plugin := create()
		if v := reflect.ValueOf(plugin); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
			p.into(plugin)
		} else {
			p.none()
		}
		_, known := llmdTypes[typ]
		made := &part{own: !known}
		made.producer, made.matches = plugin.(scheduling.Producer)
		made.filter, _ = plugin.(scheduling.Filter)
		made.scorer, _ = plugin.(scheduling.Scorer)
		made.picker, _ = plugin.(scheduling.Picker)
		if c, ok := plugin.(scheduling.Condition); ok {
			made.decider = func(string) scheduling.Condition { return c }
		}
		return made
	}, true
}

// elsewhere deals with types that are not scheduling's.
func (l *llmd) elsewhere(name string, spec llmdSpec, path string) {
	typ := spec.Type.text
	p := Plugin{Name: name, Type: typ, Parameters: l.d.raw(spec.Parameters, path+".parameters")}
	if len(spec.Parameters.Content) == 0 {
		p.Parameters = json.RawMessage("null")
	}
	section, external := externalTypes[typ]
	switch {
	case external && section == "":
		l.plan.External = append(l.plan.External, p)
	case external:
		l.taken[section] = append(l.taken[section], p)
		if l.loader.Sections[section] == nil {
			l.d.problem(spec.Type.at, path+".type", "%q belongs to %s, which scheduling does not handle: give Loader.Sections[%q], or take it out", typ, section, section)
		}
	case deprecated[typ] != "":
		l.d.problem(spec.Type.at, path+".type", "%q is deprecated by llm-d and not supported: %s", typ, deprecated[typ])
	case unsupported[typ] != "":
		l.d.problem(spec.Type.at, path+".type", "%q is not supported: %s", typ, unsupported[typ])
	default:
		l.d.problem(spec.Type.at, path+".type", "%q is unknown: a type of one's own belongs into Loader.Types", typ)
	}
}

func (l *llmd) note(format string, args ...any) {
	l.plan.Notes = append(l.plan.Notes, fmt.Sprintf(format, args...))
}
