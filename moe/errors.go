package moe

import (
	"errors"
	"fmt"
)

// FieldError says which input was refused. Planners join all of them with errors.Join.
type FieldError struct {
	Field string // such as "Cluster.GPUs" or "Loads.Tokens[3][17]"
	Value any
	Want  string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s is %v, %s", e.Field, e.Value, e.Want) }

// problems collects what is wrong with an input. Of a long row of bad values only the first are named.
type problems struct {
	errs []error
	more int
}

const maxProblems = 20

func (p *problems) add(field string, value any, want string) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	p.errs = append(p.errs, &FieldError{Field: field, Value: value, Want: want})
}

func (p *problems) err() error {
	if p.more > 0 {
		p.errs = append(p.errs, fmt.Errorf("and %d more", p.more))
	}
	return errors.Join(p.errs...)
}
