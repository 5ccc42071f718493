package chat

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// template is a chat template, and what all requests render it with.
type template struct {
	*jinja.Template
	source string
	vars   []jinja.Var
	parts  bool // contents are given as lists of parts
}

func newTemplate(source string, o Options) (*template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, unreadable(err)
	}
	out := &template{Template: t, source: source, parts: o.ContentFormat == ContentParts}
	if o.ContentFormat == ContentAuto {
		out.parts = t.ContentParts()
	}
	for _, name := range slices.Sorted(maps.Keys(o.Special)) {
		out.vars = append(out.vars, jinja.Var{Name: name, Value: jinja.String(o.Special[name])})
	}
	return out, nil
}

func unreadable(err error) error {
	var unsupported *jinja.UnsupportedError
	if errors.As(err, &unsupported) {
		return fmt.Errorf("%w here: let the engine render the prompts of this model", err)
	}
	return err
}

// probes are conversations that a template is tried on when it is loaded. It may refuse some of them.
var probes = []string{
	`{"messages":[{"role":"user","content":"a"}]}`,
	`{"messages":[{"role":"system","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"},{"role":"user","content":"d"}]}`,
	`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`,
	`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning":"c"},{"role":"user","content":"d"}],
		"chat_template_kwargs":{"enable_thinking":false,"thinking":true},"documents":[{"title":"a","text":"b"}]}`,
	`{"messages":[{"role":"system","content":"a"},{"role":"user","content":"a"},
		{"role":"assistant","content":null,"tool_calls":[{"id":"abcdefghi","type":"function","function":{"name":"f","arguments":"{\"x\": [1, 2.5, null, \"y\"]}"}}]},
		{"role":"tool","tool_call_id":"abcdefghi","content":"c"},{"role":"assistant","content":"d"},{"role":"user","content":"e"}],` + probeTools + `}`,
	`{"messages":[{"role":"user","content":"a"}],` + probeTools + `}`,
}

const probeTools = `"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object",
	"properties":{"x":{"type":"array","items":{"type":"string","enum":["a"]}},"y":{"type":["integer","null"],"description":"d","default":1},
	"z":{"type":"object","properties":{"n":{"type":"number"}},"required":["n"]}},"required":["x"]}}}]`

// probe finds out whether a template uses what the template engine lacks, or refuses everything.
func (m *Model) probe(t *template) error {
	trial := &Model{plain: t, tools: t, kwargs: m.kwargs}
	var refusal error
	renders := false
	for _, body := range probes {
		r, err := trial.parseChat([]byte(body))
		if err != nil {
			return err
		}
		_, err = t.apply(nil, r.conversation, m.rendering)
		var unsupported *jinja.UnsupportedError
		switch {
		case errors.As(err, &unsupported):
			return unreadable(err)
		case err == nil:
			renders = true
		case refusal == nil:
			refusal = fmt.Errorf("it refuses %s: %w", body, err)
		}
	}
	if renders {
		return nil
	}
	return refusal
}
