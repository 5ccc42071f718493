package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/picker"
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

// Section is a part of an llm-d file that is not scheduling's.
type Section struct {
	// Name is its field: flowControl.
	Name string
	// Config is its content as JSON; null where the file has the plugins or the gate alone.
	Config json.RawMessage
	// Plugins are those of the file that belong to it.
	Plugins []Plugin
	// Gates are the feature gates, with their standard values where the file says nothing.
	Gates map[string]bool

	node *yaml.Node
}

// Decode decodes Config by the json tags of what v points to, strictly, and reports every problem with its path in the file.
func (s Section) Decode(v any) error {
	if s.node == nil {
		return nil
	}
	d := &decoder{}
	d.into(s.node, reflect.ValueOf(v).Elem(), s.Name)
	return d.err()
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
		if g.at.ShortTag() != "!!str" {
			continue
		}
		path := fmt.Sprintf("featureGates[%d]", i)
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
	make, ok := l.own(typ)
	if !ok {
		make, ok = llmdTypes[typ]
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
	p := make(given)
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

// assembled is one of the file's profiles.
type assembled struct {
	scheduling.Profile
	parts []*part
}

// stages makes the plan's profile or stages of the file's profiles and its profile handler.
func (l *llmd) stages(c pickerConfig) {
	profiles := map[string]*assembled{}
	var names []string
	for i := range c.Profiles {
		p := &c.Profiles[i]
		path := fmt.Sprintf("schedulingProfiles[%d]", i)
		if p.Name.text == "" {
			l.d.problem(p.Name.at, path+".name", "missing")
		} else if profiles[p.Name.text] != nil {
			l.d.problem(p.Name.at, path+".name", "%q is given twice", p.Name.text)
		}
		profiles[p.Name.text] = l.assemble(p.Plugins, path)
		names = append(names, p.Name.text)
	}
	if len(c.Profiles) == 0 {
		var all []profileEntry
		for _, name := range l.order {
			if p := l.parts[name]; p.inProfile() {
				all = append(all, profileEntry{Ref: located{text: name}})
			}
		}
		names = []string{"default"}
		profiles["default"] = l.assemble(all, "plugins")
	}

	var handlers []string
	for _, name := range l.order {
		if l.parts[name].handler != nil {
			handlers = append(handlers, name)
		}
	}
	h := &handler{}
	switch {
	case len(handlers) > 1:
		l.d.problem(nil, "plugins", "%q are profile handlers: want one", handlers)
		return
	case len(handlers) == 1:
		h = l.parts[handlers[0]].handler
	case len(names) > 1:
		l.d.problem(nil, "plugins", "no profile handler, though there are %d profiles", len(names))
		return
	}
	if s := h.byHeader; s != nil && len(names) > 1 {
		if !slices.Contains(names, s.standard) {
			l.d.problem(nil, h.path+".defaultProfile", "%q is no profile", s.standard)
		}
		merged := *s
		merged.names = names
		for _, name := range names {
			l.produce(profiles[name], name, false)
		}
		l.plan.Options.Profile = merged.merge(profiles)
		return
	}
	if !h.disagg {
		if len(names) > 1 {
			l.d.problem(nil, "schedulingProfiles", "%d of them: %s takes one", len(names), handlers[0])
			return
		}
		only := profiles[names[0]]
		l.produce(only, names[0], false)
		l.plan.Options.Profile = only.Profile
		return
	}
	l.disaggregate(h, names, profiles)
}

// assemble collects the plugins of a profile.
func (l *llmd) assemble(entries []profileEntry, path string) *assembled {
	a := &assembled{}
	for _, name := range l.order {
		a.Filters = append(a.Filters, l.parts[name].screeners...)
	}
	for i, entry := range entries {
		at := fmt.Sprintf("%s.plugins[%d].pluginRef", path, i)
		p, ok := l.parts[entry.Ref.text]
		switch {
		case entry.Ref.text == "":
			l.d.problem(entry.Ref.at, at, "missing")
			continue
		case !ok:
			l.d.problem(entry.Ref.at, at, "%q names no plugin", entry.Ref.text)
			continue
		case !p.inProfile():
			if !p.failed {
				l.d.problem(entry.Ref.at, at, "%q is no filter, scorer or picker", entry.Ref.text)
			}
			continue
		}
		a.parts = append(a.parts, p)
		if p.filter != nil {
			a.Filters = append(a.Filters, p.filter)
		}
		if p.scorer != nil {
			weight := 1.0
			if entry.Weight != nil {
				weight = *entry.Weight
			}
			if weight < 0 {
				l.d.problem(entry.Ref.at, fmt.Sprintf("%s.plugins[%d].weight", path, i), "%v: negative", weight)
			} else if weight > 0 { // 0 counts for nothing
				a.Scorers = append(a.Scorers, scheduling.Weighted{Scorer: p.scorer, Weight: weight})
			}
		} else if entry.Weight != nil {
			l.note("%s.plugins[%d].weight: %q is no scorer, and its weight means nothing", path, i, entry.Ref.text)
		}
		if p.picker != nil {
			if a.Picker != nil {
				l.d.problem(entry.Ref.at, at, "%q: the profile has a picker already", entry.Ref.text)
			}
			a.Picker = p.picker
		}
	}
	for _, name := range l.order {
		if a.Picker == nil {
			a.Picker = l.parts[name].picker
		}
	}
	if a.Picker == nil {
		a.Picker = picker.MaxScore{}
	}
	return a
}

// produce adds the producers that the plugins of a profile need, which llm-d makes where the file does not name them.
func (l *llmd) produce(a *assembled, path string, match bool) {
	wanted := map[string]bool{}
	media := false
	for _, p := range a.parts {
		if p.match {
			wanted[p.producerName] = true
		}
		media = media || p.media
	}
	sources := []*part{}
	for _, name := range l.order {
		if p := l.parts[name]; p.source {
			wanted[p.producerName] = true
			sources = append(sources, p)
		}
	}
	if match && len(wanted) == 0 {
		wanted[""] = true
	}
	if wanted[""] {
		delete(wanted, "")
		switch {
		case len(wanted) == 0:
			wanted[l.matcher()] = true
		case len(wanted) == 1: // a pick has one match
			l.note("profile %q: plugins that name no prefix producer go by %s", path, quoted(wanted))
		}
	}
	if len(wanted) > 1 {
		l.d.problem(nil, "schedulingProfiles", "the plugins of profile %q go by different prefix producers: %s", path, quoted(wanted))
		return
	}
	for name := range wanted {
		if p := l.parts[name]; p != nil && p.matches {
			a.Producers = append(a.Producers, p.producer)
		} else {
			l.d.problem(nil, "schedulingProfiles", "profile %q: %q is no prefix producer", path, name)
		}
	}
	if media {
		a.Producers = append(a.Producers, l.implicit("mm-embeddings-cache-producer").producer)
	}
	for _, p := range sources {
		a.Producers = append(a.Producers, p.producer)
	}
	for _, name := range l.order { // nobody needs to refer to producers of the program's own
		if p := l.parts[name]; p.own && p.producer != nil && !wanted[name] {
			a.Producers = append(a.Producers, p.producer)
		}
	}
}

// matcher returns the name of the producer that a plugin goes by which names none.
func (l *llmd) matcher() string {
	const standard = "approx-prefix-cache-producer"
	l.implicit(standard)
	return standard
}

// implicit returns the part of a name, which is made where the file does not have it.
func (l *llmd) implicit(name string) *part {
	if l.parts[name] == nil {
		l.parts[name] = l.part(name, llmdSpec{Type: located{text: name}}, name)
	}
	return l.parts[name]
}

// disaggregate makes the stages of llm-d's disagg-profile-handler.
func (l *llmd) disaggregate(h *handler, names []string, profiles map[string]*assembled) {
	used := map[string]bool{}
	find := func(name string) *assembled {
		used[name] = true
		if profiles[name] == nil {
			l.d.problem(nil, "schedulingProfiles", "no profile %q, which the profile handler runs", name)
		}
		return profiles[name]
	}
	decide := func(ref, field, earlier string) scheduling.Condition {
		p := l.parts[ref]
		if p == nil || p.decider == nil {
			if p == nil || !p.failed {
				l.d.problem(nil, h.path+".deciders."+field, "%q names no decider", ref)
			}
			return nil
		}
		return p.decider(earlier)
	}
	decode := scheduling.Stage{Name: h.decode}
	prefill := scheduling.Stage{Name: h.prefill, Takes: scheduling.Prefill, Optional: true}
	encode := scheduling.Stage{Name: h.encode, Takes: scheduling.Encode, Optional: true}
	withEncode, withPrefill := h.encodeDecider != "", h.prefillDecider != "" || h.prefillFirst
	if h.prefillFirst {
		decode.After = []string{prefill.Name}
		if withEncode {
			encode.After, decode.After = []string{prefill.Name}, append(decode.After, encode.Name)
			encode.When = decide(h.encodeDecider, "encode", prefill.Name)
		}
		if h.prefillDecider != "" {
			l.d.problem(nil, h.path+".deciders.prefill", "not with stageOrder prefill-first, which always prefills elsewhere")
		}
	} else {
		if withEncode {
			encode.After = []string{decode.Name}
			encode.When = decide(h.encodeDecider, "encode", decode.Name)
		}
		if withPrefill {
			prefill.After = []string{decode.Name}
			if withEncode {
				prefill.After = append(prefill.After, encode.Name)
			}
			prefill.When = decide(h.prefillDecider, "prefill", decode.Name)
		}
	}
	_, byMatch := prefill.When.(condition.Uncached)
	stages := []*scheduling.Stage{&decode}
	if withEncode {
		stages = append(stages, &encode)
	}
	if withPrefill {
		stages = append(stages, &prefill)
	}
	for _, st := range stages {
		a := find(st.Name)
		if a == nil {
			continue
		}
		l.produce(a, st.Name, byMatch && st != &encode)
		st.Profile = a.Profile
		l.plan.Options.Stages = append(l.plan.Options.Stages, *st)
	}
	for _, name := range names {
		if !used[name] {
			l.note("profile %q: nothing runs it, there is no decider for it", name)
		}
	}
}

func (l *llmd) note(format string, args ...any) {
	l.plan.Notes = append(l.plan.Notes, fmt.Sprintf(format, args...))
}

// sections gives what is not scheduling's to those who take it.
func (l *llmd) sections(c pickerConfig) {
	if l.gates["flowControl"] && c.FlowControl == nil && l.loader.Sections["flowControl"] == nil {
		l.d.problem(nil, "featureGates", "flowControl is not handled by scheduling: give Loader.Sections[%q], or take it out", "flowControl")
	}
	if c.SaturationDetector != nil {
		l.d.problem(c.SaturationDetector, "saturationDetector", "deprecated by llm-d and not supported: use flowControl.saturationDetector")
	}
	if c.Parser != nil {
		l.d.problem(c.Parser, "parser", "deprecated by llm-d and not supported: use requestHandler.parsers")
	}
	l.section("flowControl", c.FlowControl, c.FlowControl != nil || len(l.taken["flowControl"]) > 0 || l.gates["flowControl"], false)
	l.section("requestHandler", c.RequestHandler, c.RequestHandler != nil, l.parsers(c.RequestHandler))
	l.section("dataLayer", c.DataLayer, c.DataLayer != nil || len(l.taken["dataLayer"]) > 0, l.sources(c.DataLayer))
}

func (l *llmd) section(name string, n *yaml.Node, present, harmless bool) {
	take := l.loader.Sections[name]
	if take == nil {
		if n != nil && !harmless {
			l.d.problem(n, name, "not handled by scheduling: give Loader.Sections[%q], or take it out", name)
		}
		return
	}
	if !present {
		return
	}
	s := Section{Name: name, Config: json.RawMessage("null"), Plugins: l.taken[name], Gates: l.gates, node: n}
	if n != nil {
		s.Config = l.d.raw(n, name)
	}
	if err := take(s); err != nil {
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			l.d.problems = append(l.d.problems, list.Unwrap()...) // of Decode
		} else {
			l.d.problem(n, name, "%w", err)
		}
	}
}

// parsers checks the references of the requestHandler section. Parsers themselves are the data plane's.
func (l *llmd) parsers(n *yaml.Node) bool {
	var h struct {
		Parsers []struct {
			Ref located `json:"pluginRef"`
		} `json:"parsers"`
	}
	if n == nil || l.loader.Sections["requestHandler"] != nil {
		return true
	}
	l.d.into(n, reflect.ValueOf(&h).Elem(), "requestHandler")
	for i, p := range h.Parsers {
		l.refers(p.Ref, fmt.Sprintf("requestHandler.parsers[%d].pluginRef", i))
	}
	return true
}

// sources checks the references of the dataLayer section, and reports whether all that it does is to connect sources of
// metrics and what reads them: the program's own scraper does that.
func (l *llmd) sources(n *yaml.Node) bool {
	var layer struct {
		InjectDefaults *bool `json:"injectDefaults"`
		Sources        []struct {
			Ref        located `json:"pluginRef"`
			Extractors []struct {
				Ref located `json:"pluginRef"`
			} `json:"extractors"`
		} `json:"sources"`
		Discovery     *yaml.Node `json:"discovery"`
		PeerDiscovery *yaml.Node `json:"peerDiscovery"`
		Syncer        *yaml.Node `json:"crossReplicaSyncerPluginRef"`
		SyncInterval  *yaml.Node `json:"crossReplicaSyncInterval"`
	}
	if n == nil || l.loader.Sections["dataLayer"] != nil {
		return true
	}
	l.d.into(n, reflect.ValueOf(&layer).Elem(), "dataLayer")
	for i, s := range layer.Sources {
		path := fmt.Sprintf("dataLayer.sources[%d]", i)
		l.refers(s.Ref, path+".pluginRef")
		for j, e := range s.Extractors {
			l.refers(e.Ref, fmt.Sprintf("%s.extractors[%d].pluginRef", path, j))
		}
	}
	return layer.Discovery == nil && layer.PeerDiscovery == nil && layer.Syncer == nil && layer.SyncInterval == nil
}

func (l *llmd) refers(ref located, path string) {
	if l.parts[ref.text] == nil {
		l.d.problem(ref.at, path, "%q names no plugin", ref.text)
	}
}

func quoted(set map[string]bool) string {
	var names []string
	for name := range set {
		names = append(names, strconv.Quote(name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
