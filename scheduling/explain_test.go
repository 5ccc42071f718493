package scheduling_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
)

var update = flag.Bool("update", false, "write testdata anew")

// explained is a request that has a bit of everything: stages, one of which does not run, filters, abstentions, scores out of
// range.
func explained(t *testing.T) *scheduling.Explanation {
	list := endpoints(5)
	list[3].Role, list[4].Role = scheduling.Prefill, scheduling.Prefill
	pool := newPool(t, list...)
	profile := func(phase scheduling.Role, scores fixed) scheduling.Profile {
		return scheduling.Profile{
			Producers: []scheduling.Producer{has{"e1": 96, "e4": 32}},
			Filters:   []scheduling.Filter{filter.Role{Phase: phase, Explicit: phase == scheduling.Prefill}},
			Scorers:   []scheduling.Weighted{{Scorer: scores, Weight: 3}, {Scorer: fixed{"e0": math.NaN(), "e1": math.Inf(1), "e2": .5, "e3": math.NaN(), "e4": math.NaN()}}},
		}
	}
	s := newStaged(t, pool,
		scheduling.Stage{Name: "decode", Profile: profile(scheduling.Decode, fixed{"e0": .25, "e1": .75, "e2": -4})},
		scheduling.Stage{Name: "encode", When: condition.Media{}},
		scheduling.Stage{Name: "prefill", Profile: profile(scheduling.Prefill, fixed{"e3": 9, "e4": .5}), After: []string{"decode"}, Takes: scheduling.Prefill},
	)
	first, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 160)}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 160)}, Explain: true})
	require.NoError(t, err)
	d.Done()
	first.Done()
	return d.Explanation
}

// The JSON is an interface: docs/scheduling.md names its fields.
func TestExplanationAsJSON(t *testing.T) {
	got, err := json.MarshalIndent(explained(t), "", "  ")
	require.NoError(t, err)
	const golden = "testdata/explanation.json"
	if *update {
		require.NoError(t, os.WriteFile(golden, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got)+"\n")
}

func TestExplanationRoundTrips(t *testing.T) {
	x := explained(t)
	b, err := json.Marshal(x)
	require.NoError(t, err)
	var back scheduling.Explanation
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, *x, back)
}

// Everything that makes a total is in the explanation.
func TestExplanationAddsUp(t *testing.T) {
	x := explained(t)
	for _, stage := range append(x.Stages, x) {
		for _, c := range stage.Candidates {
			total, weight := 0.0, 0.0
			for i, s := range c.Scores {
				mean, voted := 0.0, 0.0
				for _, other := range stage.Candidates {
					if o := other.Scores[i]; !o.Abstained {
						mean += o.Score
						voted++
					}
				}
				if voted == 0 {
					continue
				}
				weight += s.Weight
				if s.Abstained {
					s.Score = mean / voted
				}
				total += s.Weight * s.Score
			}
			require.InDelta(t, total/weight, c.Total, 1e-12, "%s in %s", c.Endpoint, stage.Stage)
		}
	}
}

// A pick that fails says which filter removed whom.
func TestAFailureIsExplained(t *testing.T) {
	s := newScheduler(t, newPool(t, endpoints(3)...), scheduling.Profile{Filters: []scheduling.Filter{keep{"e0": true}, keep{"e1": true}}})
	var pick *scheduling.PickError
	_, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Explain: true})
	require.ErrorAs(t, err, &pick)
	b, err := json.Marshal(pick.Explanation)
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"m","prompt_tokens":0,"attempts":1,"candidates":[],"removed":[
		{"filter":"scheduling_test.keep","endpoint":"e1"},{"filter":"scheduling_test.keep","endpoint":"e2"},{"filter":"scheduling_test.keep","endpoint":"e0"}]}`, string(b))

	_, err = s.Pick(context.Background(), &scheduling.Request{Model: "m"})
	require.ErrorAs(t, err, &pick)
	require.Nil(t, pick.Explanation, "nobody asked")
	_, err = s.Pick(context.Background(), &scheduling.Request{Model: "x", Explain: true})
	require.True(t, errors.As(err, &pick))
	require.Nil(t, pick.Explanation, "there was nothing to choose from")
}
