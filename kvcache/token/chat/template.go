package chat

import (
	"fmt"

	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// template is a chat template and the variables that it always has.
type template struct {
	*jinja.Template
	source string
	vars   []jinja.Var
}

func newTemplate(source string, special map[string]string) (*template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("the template cannot be read: %w", err)
	}
	out := &template{Template: t, source: source}
	for name, text := range special {
		out.vars = append(out.vars, jinja.Var{Name: name, Value: jinja.String(text)})
	}
	return out, nil
}
