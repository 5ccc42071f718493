package config

import (
	"encoding/json"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

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
