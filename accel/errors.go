package accel

import (
	"errors"
	"fmt"
)

// FieldError says which input was refused. Where several are, they are joined with errors.Join.
type FieldError struct {
	Field string // such as "Parallelism.TP" or "config.num_experts"
	Value any
	Want  string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s is %v: %s", e.Field, e.Value, e.Want) }

// problems collects what is wrong with an input.
type problems []error

func (p *problems) add(field string, value any, want string) {
	*p = append(*p, &FieldError{Field: field, Value: value, Want: want})
}

func (p problems) err() error { return errors.Join(p...) }
