package enginemetrics

import (
	"fmt"
	"slices"
	"strings"
)

// Selector names series: a metric and the labels that they must have.
type Selector struct {
	Name   string
	Labels []Label
}

// Label is a label and its value.
type Label struct{ Name, Value string }

// ParseSelector reads name{label="value",...}, the form of a series in a page. Quotes may be left out where a value holds
// neither comma nor brace.
func ParseSelector(s string) (Selector, error) {
	name, rest, labelled := strings.Cut(strings.TrimSpace(s), "{")
	sel := Selector{Name: strings.TrimSpace(name)}
	if !isName(sel.Name, true) {
		return Selector{}, fmt.Errorf("selector %q: %q is no name of a metric", s, sel.Name)
	}
	if !labelled {
		return sel, nil
	}
	for {
		rest = strings.TrimLeft(rest, " \t")
		if after, ok := strings.CutPrefix(rest, "}"); ok {
			if after != "" {
				return Selector{}, fmt.Errorf("selector %q: %q behind the labels", s, after)
			}
			return sel, nil
		}
		label, value, ok := strings.Cut(rest, "=")
		label = strings.TrimSpace(label)
		if !ok || !isName(label, false) {
			return Selector{}, fmt.Errorf("selector %q: want label=\"value\" at %q", s, rest)
		}
		if slices.ContainsFunc(sel.Labels, func(l Label) bool { return l.Name == label }) {
			return Selector{}, fmt.Errorf("selector %q: label %s twice", s, label)
		}
		value = strings.TrimLeft(value, " \t")
		if strings.HasPrefix(value, `"`) {
			raw, n, ok := quoted([]byte(value))
			if !ok {
				return Selector{}, fmt.Errorf("selector %q: no end of %s", s, value)
			}
			rest, value = value[n:], string(unescape(nil, raw))
		} else {
			end := strings.IndexAny(value, ",}")
			if end < 0 {
				return Selector{}, fmt.Errorf("selector %q: no closing brace", s)
			}
			rest, value = value[end:], strings.TrimSpace(value[:end])
		}
		sel.Labels = append(sel.Labels, Label{label, value})
		rest = strings.TrimLeft(rest, " \t")
		if after, ok := strings.CutPrefix(rest, ","); ok {
			rest = after
		} else if !strings.HasPrefix(rest, "}") {
			return Selector{}, fmt.Errorf("selector %q: no closing brace", s)
		}
	}
}

// String returns the selector as it stands in a page.
func (s Selector) String() string {
	if len(s.Labels) == 0 {
		return s.Name
	}
	var b strings.Builder
	b.WriteString(s.Name)
	for i, l := range s.Labels {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&b, `%s="%s"`, l.Name, strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(l.Value))
	}
	b.WriteByte('}')
	return b.String()
}

func isName(s string, colons bool) bool {
	for i, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || colons && c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
