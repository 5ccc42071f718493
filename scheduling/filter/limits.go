package filter

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Limits keeps the endpoints whose metrics and ledger counts meet all conditions. It stands for llm-d's utilization-filter
// and endpoint-attribute-filter, and for busy thresholds.
type Limits struct {
	// Conditions are at most 8.
	Conditions []Condition `json:"conditions"`
	// RemoveUnknown removes an endpoint where a metric is missing or stale; else such a metric meets its condition.
	RemoveUnknown bool `json:"removeUnknown,omitempty"`
	// FallbackOnEmpty keeps all where none meets the conditions.
	FallbackOnEmpty bool `json:"fallbackOnEmpty,omitempty"`
}

const maxConditions = 8

// Condition compares a metric with a value.
type Condition struct {
	Metric   scheduling.Metric `json:"metric"`
	Operator Operator          `json:"operator"`
	Value    float64           `json:"value"`
}

// Operator is a comparison.
type Operator string

// The comparisons.
const (
	LessThan           Operator = "LessThan"
	LessThanOrEqual    Operator = "LessThanOrEqual"
	GreaterThan        Operator = "GreaterThan"
	GreaterThanOrEqual Operator = "GreaterThanOrEqual"
	Equal              Operator = "Equal"
	NotEqual           Operator = "NotEqual"
)

// allows says which of less, equal and greater meet the operator.
func (o Operator) allows() (less, equal, greater bool) {
	switch o {
	case LessThan:
		return true, false, false
	case LessThanOrEqual:
		return true, true, false
	case GreaterThan:
		return false, false, true
	case GreaterThanOrEqual:
		return false, true, true
	case Equal:
		return false, true, false
	}
	return true, false, true
}

// Filter implements scheduling.Filter.
func (f Limits) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	type limit struct {
		metric               scheduling.Column
		value                float64
		less, equal, greater bool
	}
	var all [maxConditions]limit
	for i, want := range f.Conditions {
		all[i].metric, all[i].value = c.Metric(want.Metric), want.Value
		all[i].less, all[i].equal, all[i].greater = want.Operator.allows()
	}
	limits := all[:len(f.Conditions)]
	breaks := func(slot scheduling.Slot) bool {
		for i := range limits {
			l := &limits[i]
			switch v, known := l.metric.At(slot); {
			case !known:
				if f.RemoveUnknown {
					return true
				}
			case v < l.value && !l.less, v == l.value && !l.equal, v > l.value && !l.greater:
				return true
			}
		}
		return false
	}
	if f.FallbackOnEmpty {
		return deleteUnlessAll(slots, breaks)
	}
	return slices.DeleteFunc(slots, breaks)
}

// Validate implements scheduling.Validator.
func (f Limits) Validate() error {
	var problems []error
	if n := len(f.Conditions); n == 0 || n > maxConditions {
		problems = append(problems, fmt.Errorf("conditions: %d of them, want 1 to %d", n, maxConditions))
	}
	for i, c := range f.Conditions {
		path := fmt.Sprintf("conditions[%d]", i)
		if !c.Metric.Valid() {
			problems = append(problems, fmt.Errorf("%s.metric: %v is unknown", path, c.Metric))
		}
		switch c.Operator {
		case LessThan, LessThanOrEqual, GreaterThan, GreaterThanOrEqual, Equal, NotEqual:
		default:
			problems = append(problems, fmt.Errorf("%s.operator %q is unknown", path, c.Operator))
		}
		if math.IsNaN(c.Value) || math.IsInf(c.Value, 0) {
			problems = append(problems, fmt.Errorf("%s.value %v: not finite", path, c.Value))
		}
	}
	return errors.Join(problems...)
}
