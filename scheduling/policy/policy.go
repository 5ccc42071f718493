// Package policy has ready-made scheduling profiles.
package policy

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Default sends a request where it costs the least, counted in tokens that an engine has to prefill (scorer.Effort):
//
//  1. what is to be prefilled there before it, by this process's ledger and the engine's report of what others queued;
//  2. twice the part of its own prompt that is not cached there, or more if queues are long: it also delays those who come next;
//  3. 64 for each request in flight there, and 8192 to load its LoRA adapter, twice that if another has to go;
//  4. but an endpoint with more than 16 + 1.25·mean requests in flight is left out (filter.Overload): a popular prefix spreads;
//  5. ties go to the fewest requests in flight, then at random.
//
// There is nothing to configure: tokens stand for time on engines of any speed, and the weights are ratios of costs within one
// engine. docs/policies.md compares it with other projects' policies.
//
// index is the memory of what was sent where, and serves one pool.
func Default(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.Overload{Slack: 16}},
		Scorers:   []scheduling.Weighted{{Scorer: scorer.Effort{}}},
		Picker:    picker.MaxScore{},
	}
}

// Objectives is Default for requests that have latency objectives: one that would more likely than not miss them wherever it
// went is refused (latency.Admit), and others go where they have nearly the best chance (latency.Chance). Requests without
// objectives go as by Default. The model learns if it is told how long requests took: gateway.BrainOptions.Learner.
func Objectives(index *prefix.Index, model *latency.Model) scheduling.Profile {
	p := Default(index)
	p.Producers = append(p.Producers, &latency.Producer{Model: model})
	p.Filters = append([]scheduling.Filter{latency.Admit{}, latency.Chance{}}, p.Filters...)
	return p
}

// RoundRobin takes the endpoints in turn: the baseline to compare with.
func RoundRobin() scheduling.Profile {
	return scheduling.Profile{Picker: new(picker.RoundRobin)}
}

// LeastRequests sends a request where the fewest are in flight.
func LeastRequests() scheduling.Profile { return scheduling.Profile{} }
