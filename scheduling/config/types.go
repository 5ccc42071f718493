package config

import (
	"maps"
	"reflect"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Types are the plugins that a configuration can name. Each function returns a plugin with its standard parameters; if that
// is a pointer to a struct, the parameters in the configuration are decoded into it by the json tags of its fields.
type Types struct {
	Producers  map[string]func() scheduling.Producer
	Filters    map[string]func() scheduling.Filter
	Scorers    map[string]func() scheduling.Scorer
	Pickers    map[string]func() scheduling.Picker
	Conditions map[string]func() scheduling.Condition
	// Terms are the parts of a scorer.Cost.
	Terms map[string]func() scorer.Term
}

// BuiltIn returns the module's own types, by the names of our own form. The maps are the caller's.
func BuiltIn() Types {
	return Types{
		Producers: map[string]func() scheduling.Producer{
			"prefix": func() scheduling.Producer { return new(prefix.Producer) },
			"media":  func() scheduling.Producer { return new(prefix.Media) },
			"source": func() scheduling.Producer { return new(prefix.Source) },
		},
		Filters: map[string]func() scheduling.Filter{
			"adapter-spread":  func() scheduling.Filter { return new(filter.AdapterSpread) },
			"balanced-prefix": func() scheduling.Filter { return new(filter.BalancedPrefix) },
			"cache-aware":     func() scheduling.Filter { return new(filter.CacheAware) },
			"context-length":  func() scheduling.Filter { return new(scorer.ContextLength) },
			"header-label":    func() scheduling.Filter { return new(filter.HeaderLabel) },
			"labels":          func() scheduling.Filter { return new(filter.Labels) },
			"limits":          func() scheduling.Filter { return new(filter.Limits) },
			"longest-prefix":  func() scheduling.Filter { return new(filter.LongestPrefix) },
			"modality":        func() scheduling.Filter { return new(filter.Modality) },
			"overload":        func() scheduling.Filter { return new(filter.Overload) },
			"pinned":          func() scheduling.Filter { return new(filter.Pinned) },
			"prefix-affinity": func() scheduling.Filter { return new(filter.PrefixAffinity) },
			"role":            func() scheduling.Filter { return new(filter.Role) },
			"rollout":         func() scheduling.Filter { return new(filter.Rollout) },
			"session-binding": func() scheduling.Filter { return new(scorer.SessionBinding) },
			"topology":        func() scheduling.Filter { return new(filter.Topology) },
		},
		Scorers: map[string]func() scheduling.Scorer{
			"active-requests":    func() scheduling.Scorer { return new(scorer.ActiveRequests) },
			"cold-lru":           func() scheduling.Scorer { return new(scorer.ColdLRU) },
			"context-length":     func() scheduling.Scorer { return new(scorer.ContextLength) },
			"cost":               func() scheduling.Scorer { return new(scorer.Cost) },
			"dynamo":             func() scheduling.Scorer { return new(scorer.Dynamo) },
			"effort":             func() scheduling.Scorer { return new(scorer.Effort) },
			"header-label":       func() scheduling.Scorer { return new(scorer.HeaderLabel) },
			"in-flight-requests": func() scheduling.Scorer { return new(scorer.InFlightRequests) },
			"in-flight-tokens":   func() scheduling.Scorer { return new(scorer.InFlightTokens) },
			"kv-utilization":     func() scheduling.Scorer { return new(scorer.KVUtilization) },
			"linear":             func() scheduling.Scorer { return new(scorer.Linear) },
			"lmetric":            func() scheduling.Scorer { return new(scorer.LMetric) },
			"lora":               func() scheduling.Scorer { return new(scorer.LoRA) },
			"media":              func() scheduling.Scorer { return new(scorer.Media) },
			"pinned":             func() scheduling.Scorer { return new(scorer.Pinned) },
			"prefix":             func() scheduling.Scorer { return new(scorer.Prefix) },
			"prefix-hash":        func() scheduling.Scorer { return new(scorer.PrefixHash) },
			"queue":              func() scheduling.Scorer { return new(scorer.Queue) },
			"ring":               func() scheduling.Scorer { return new(scorer.Ring) },
			"running":            func() scheduling.Scorer { return new(scorer.Running) },
			"session":            func() scheduling.Scorer { return new(scorer.Session) },
			"session-binding":    func() scheduling.Scorer { return new(scorer.SessionBinding) },
			"tenant-spread":      func() scheduling.Scorer { return new(scorer.TenantSpread) },
			"token-load":         func() scheduling.Scorer { return new(scorer.TokenLoad) },
			"topology":           func() scheduling.Scorer { return new(scorer.Topology) },
			"weighted-load":      func() scheduling.Scorer { return new(scorer.WeightedLoad) },
		},
		Pickers: map[string]func() scheduling.Picker{
			"max-score":       func() scheduling.Picker { return new(picker.MaxScore) },
			"power-of-two":    func() scheduling.Picker { return new(picker.PowerOfTwo) },
			"random":          func() scheduling.Picker { return new(picker.Random) },
			"round-robin":     func() scheduling.Picker { return new(picker.RoundRobin) },
			"softmax":         func() scheduling.Picker { return new(picker.Softmax) },
			"weighted-random": func() scheduling.Picker { return new(picker.WeightedRandom) },
		},
		Conditions: map[string]func() scheduling.Condition{
			"media":    func() scheduling.Condition { return new(condition.Media) },
			"never":    func() scheduling.Condition { return new(condition.Never) },
			"uncached": func() scheduling.Condition { return new(condition.Uncached) },
		},
		Terms: map[string]func() scorer.Term{
			"adapter-time":  func() scorer.Term { return new(scorer.AdapterTime) },
			"each":          func() scorer.Term { return new(scorer.Each) },
			"prefill-time":  func() scorer.Term { return new(scorer.PrefillTime) },
			"transfer-time": func() scorer.Term { return new(scorer.TransferTime) },
		},
	}
}

// with returns the types of both; where both have a name, those of other.
func (t Types) with(other Types) Types {
	maps.Copy(t.Producers, other.Producers)
	maps.Copy(t.Filters, other.Filters)
	maps.Copy(t.Scorers, other.Scorers)
	maps.Copy(t.Pickers, other.Pickers)
	maps.Copy(t.Conditions, other.Conditions)
	maps.Copy(t.Terms, other.Terms)
	return t
}

// kind is one of the interfaces that plugins implement, and the types that there are of it.
type kind struct {
	is    reflect.Type
	name  string
	types map[string]func() any
}

func kindOf[T any](name string, types map[string]func() T) kind {
	k := kind{reflect.TypeFor[T](), name, map[string]func() any{}}
	for typ, make := range types {
		k.types[typ] = func() any { return make() }
	}
	return k
}

func (t Types) kinds() []kind {
	return []kind{
		kindOf("producer", t.Producers), kindOf("filter", t.Filters), kindOf("scorer", t.Scorers),
		kindOf("picker", t.Pickers), kindOf("condition", t.Conditions), kindOf("term", t.Terms),
	}
}

func (k kind) names() []string { return slices.Sorted(maps.Keys(k.types)) }
