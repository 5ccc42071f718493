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
	Conditions []Condition `json:"conditions"`
	// RemoveUnknown removes an endpoint where a metric is missing or stale; else such a metric meets its condition.
	RemoveUnknown bool `json:"removeUnknown,omitempty"`
	// FallbackOnEmpty keeps all where none meets the conditions.
	FallbackOnEmpty bool `json:"fallbackOnEmpty,omitempty"`
}

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

func (o Operator) holds(a, b float64) bool {
	switch o {
	case LessThan:
		return a < b
	case LessThanOrEqual:
		return a <= b
	case GreaterThan:
		return a > b
	case GreaterThanOrEqual:
		return a >= b
	case Equal:
		return a == b
	}
	return a != b
}

// Filter implements scheduling.Filter.
func (f Limits) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	breaks := func(slot scheduling.Slot) bool {
		for i := range f.Conditions {
			want := &f.Conditions[i]
			v, known := c.Metric(want.Metric).At(slot)
			if known && !want.Operator.holds(v, want.Value) || !known && f.RemoveUnknown {
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
	if len(f.Conditions) == 0 {
		problems = append(problems, errors.New("conditions: none"))
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
