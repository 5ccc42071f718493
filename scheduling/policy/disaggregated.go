package policy

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Disaggregated decodes where most of the prompt is cached or little else runs, and gives work away that is worth it: to encoders
// the images, sounds and films of a request, where they were encoded before if possible; to prefill endpoints a prompt of which
// at least 512 tokens are not cached where it will be decoded, where most of it is cached or little else is to be prefilled, and
// near. Endpoints say by their role what they take; where there is none for a stage, the decoding endpoint does its work.
//
// prompts is the memory of prompts that were sent somewhere, media that of images, sounds and films; both serve one pool.
func Disaggregated(prompts, media *prefix.Index) []scheduling.Stage {
	prefixes := []scheduling.Producer{&prefix.Producer{Index: prompts}}
	return []scheduling.Stage{
		{
			Name: "decode",
			Profile: scheduling.Profile{
				Producers: prefixes,
				Filters:   []scheduling.Filter{filter.Role{Phase: scheduling.Decode}, filter.Overload{}},
				Scorers: []scheduling.Weighted{
					{Scorer: scorer.Prefix{}, Weight: 3}, {Scorer: scorer.InFlightRequests{}, Weight: 2}, {Scorer: scorer.Queue{}, Weight: 1},
					{Scorer: scorer.KVUtilization{}, Weight: 2},
				},
			},
		},
		{
			Name: "encode", After: []string{"decode"}, When: condition.Media{}, Takes: scheduling.Encode, Optional: true,
			Profile: scheduling.Profile{
				Producers: []scheduling.Producer{&prefix.Media{Index: media}},
				Filters:   []scheduling.Filter{filter.Role{Phase: scheduling.Encode, Explicit: true}, filter.Overload{}},
				Scorers:   []scheduling.Weighted{{Scorer: scorer.Media{}, Weight: 2}, {Scorer: scorer.InFlightRequests{}, Weight: 1}},
			},
		},
		{
			Name: "prefill", After: []string{"decode"}, When: condition.Uncached{Tokens: 512, Stage: "decode"}, Takes: scheduling.Prefill, Optional: true,
			Profile: scheduling.Profile{
				Producers: prefixes,
				Filters:   []scheduling.Filter{filter.Role{Phase: scheduling.Prefill, Explicit: true}, filter.Overload{}},
				Scorers: []scheduling.Weighted{
					{Scorer: scorer.Prefix{}, Weight: 3}, {Scorer: scorer.InFlightTokens{}, Weight: 4}, {Scorer: scorer.Queue{}, Weight: 1},
					{Scorer: &scorer.Topology{}, Weight: 1},
				},
			},
		},
	}
}
