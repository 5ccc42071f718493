package filter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Labels keeps the endpoints whose labels meet all requirements, with the meaning of a Kubernetes label selector. Use it by
// pointer.
type Labels struct {
	// Match wants labels of exactly these values.
	Match map[string]string `json:"matchLabels,omitempty"`
	// Expressions are more requirements.
	Expressions []Requirement `json:"matchExpressions,omitempty"`

	kept scheduling.PerLayout[[]bool]
}

// Requirement is a condition on one label.
type Requirement struct {
	Key      string        `json:"key"`
	Operator LabelOperator `json:"operator"`
	Values   []string      `json:"values,omitempty"`
}

// LabelOperator is what a Requirement wants of its label.
type LabelOperator string

// The operators of Kubernetes. An endpoint without the label meets NotIn.
const (
	In           LabelOperator = "In"
	NotIn        LabelOperator = "NotIn"
	Exists       LabelOperator = "Exists"
	DoesNotExist LabelOperator = "DoesNotExist"
)

// Filter implements scheduling.Filter.
func (f *Labels) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	kept := f.kept.Of(c.Snapshot, f.derive)
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return !kept[slot] })
}

func (f *Labels) derive(s *scheduling.Snapshot) []bool {
	return scheduling.BySlot(s, func(e *scheduling.Endpoint) bool {
		for key, want := range f.Match {
			if got, ok := e.Labels[key]; !ok || got != want {
				return false
			}
		}
		return !slices.ContainsFunc(f.Expressions, func(r Requirement) bool { return !r.met(e.Labels) })
	})
}

func (r Requirement) met(labels map[string]string) bool {
	value, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, value)
	case NotIn:
		return !ok || !slices.Contains(r.Values, value)
	case Exists:
		return ok
	}
	return !ok
}

// Validate implements scheduling.Validator.
func (f *Labels) Validate() error {
	var problems []error
	for i, r := range f.Expressions {
		path := fmt.Sprintf("matchExpressions[%d]", i)
		if r.Key == "" {
			problems = append(problems, fmt.Errorf("%s.key: empty", path))
		}
		switch r.Operator {
		case In, NotIn:
			if len(r.Values) == 0 {
				problems = append(problems, fmt.Errorf("%s.values: empty, want some for %s", path, r.Operator))
			}
		case Exists, DoesNotExist:
			if len(r.Values) > 0 {
				problems = append(problems, fmt.Errorf("%s.values %q: want none for %s", path, r.Values, r.Operator))
			}
		default:
			problems = append(problems, fmt.Errorf("%s.operator %q: want In, NotIn, Exists or DoesNotExist", path, r.Operator))
		}
	}
	return errors.Join(problems...)
}

// HeaderLabel keeps the endpoints whose label has the value of a request header: a client that names a revision or a
// variant gets it. Without the header, or with an empty one, all stay. Use it by pointer.
type HeaderLabel struct {
	Header string `json:"headerName"`
	Label  string `json:"labelKey"`
	// Prefer keeps all where no endpoint has the value; else none is left.
	Prefer bool `json:"prefer,omitempty"`

	values scheduling.PerLayout[[]string]
}

// Filter implements scheduling.Filter.
func (f *HeaderLabel) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Request.Header == nil {
		return slots
	}
	want := c.Request.Header(f.Header)
	if want == "" {
		return slots
	}
	values := f.values.Of(c.Snapshot, func(s *scheduling.Snapshot) []string {
		return scheduling.BySlot(s, func(e *scheduling.Endpoint) string { return e.Labels[f.Label] })
	})
	miss := func(slot scheduling.Slot) bool { return values[slot] != want }
	if f.Prefer {
		return deleteUnlessAll(slots, miss)
	}
	return slices.DeleteFunc(slots, miss)
}

// Validate implements scheduling.Validator.
func (f *HeaderLabel) Validate() error {
	var problems []error
	if f.Header == "" {
		problems = append(problems, errors.New("headerName: empty"))
	}
	if f.Label == "" {
		problems = append(problems, errors.New("labelKey: empty"))
	}
	return errors.Join(problems...)
}

// deleteUnlessAll removes the slots for which remove is true, or none if that is all of them. It calls remove for a slot up
// to twice.
func deleteUnlessAll(slots []scheduling.Slot, remove func(scheduling.Slot) bool) []scheduling.Slot {
	if !slices.ContainsFunc(slots, func(slot scheduling.Slot) bool { return !remove(slot) }) {
		return slots
	}
	return slices.DeleteFunc(slots, remove)
}
