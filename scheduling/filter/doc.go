// Package filter has the built-in scheduling filters, a type each. A filter's exported fields are its parameters; unless its
// doc says otherwise zero values work, and a field whose zero means a standard value says which. Filters that are used by
// pointer remember what they derived from the pool's labels.
package filter

import (
	"fmt"
	"math"
)

// notNegative returns an error unless a parameter is a number of at least 0.
func notNegative(name string, v float64) error {
	if v >= 0 && !math.IsInf(v, 0) {
		return nil
	}
	return fmt.Errorf("%s %v: want a number of at least 0", name, v)
}

// fraction returns an error unless a parameter is in [0, 1].
func fraction(name string, v float64) error {
	if v >= 0 && v <= 1 {
		return nil
	}
	return fmt.Errorf("%s %v: want a number from 0 to 1", name, v)
}
