// Package policy has ready-made scheduling profiles.
package policy

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Default sends a request where most of its prompt is cached, unless that endpoint has much more to do than the others:
// one with more than 8 + 1.25·mean requests in flight is left out (filter.Overload). Of the rest the highest weighted mean
// wins:
//
//	3  Prefix            the cached fraction of the prompt
//	4  InFlightTokens    what this process has there to prefill
//	1  InFlightRequests  what this process has there at all
//	1  Queue             what waits in the engine, if it says
//	1  KVUtilization     room in the KV cache, if it says
//	1  LoRA              the adapter is there, if the request wants one
//
// Tokens weigh most because prompts differ by a factor of a hundred: requests alone do not show the one that will keep an
// engine busy for seconds.
//
// index is the memory of what was sent where, and serves one pool.
func Default(index *prefix.Index) scheduling.Profile {
	return scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index}},
		Filters:   []scheduling.Filter{filter.Overload{}},
		Scorers: []scheduling.Weighted{
			{Scorer: scorer.Prefix{}, Weight: 3},
			{Scorer: scorer.InFlightTokens{}, Weight: 4},
			{Scorer: scorer.InFlightRequests{}, Weight: 1},
			{Scorer: scorer.Queue{}, Weight: 1},
			{Scorer: scorer.KVUtilization{}, Weight: 1},
			{Scorer: scorer.LoRA{}, Weight: 1},
		},
		Picker: picker.MaxScore{},
	}
}

// RoundRobin takes the endpoints in turn: the baseline to compare with.
func RoundRobin() scheduling.Profile {
	return scheduling.Profile{Picker: new(picker.RoundRobin)}
}

// LeastRequests sends a request where the fewest are in flight.
func LeastRequests() scheduling.Profile { return scheduling.Profile{} }
