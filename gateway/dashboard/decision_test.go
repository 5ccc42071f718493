package dashboard

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
)

func explained(endpoint string) gateway.Record {
	r := answer(endpoint)
	r.Explanation = &scheduling.Explanation{Candidates: []scheduling.Candidate{{Endpoint: endpoint, Rank: 1}}}
	return r
}

func numbers(decisions []decision) (n []uint64) {
	for _, d := range decisions {
		n = append(n, d.Number)
	}
	return n
}

func TestLastDecisionsAreKept(t *testing.T) {
	d, _ := newTest(t, Options{Decisions: 3, Failures: 2})
	for range 5 {
		d.Observe(explained("a"))
	}
	for i := range 3 {
		d.Observe(gateway.Record{Model: "nope", Err: &gateway.Rejection{Status: 404, Reason: fmt.Sprint(i)}})
	}
	doc := d.document(0)
	require.Equal(t, []uint64{5, 4, 3}, numbers(doc.Decisions), "newest first; what was rejected was not decided")
	require.Len(t, doc.Failures, 2)
	require.Equal(t, "rejected with 404 2: ", doc.Failures[0].Error)
	require.Equal(t, "rejected", doc.Failures[0].Outcome)

	for after, want := range map[uint64][]uint64{1: {5, 4, 3}, 3: {5, 4}, 5: nil, 6: {5, 4, 3}} {
		require.Equal(t, want, numbers(d.document(after).Decisions), "after %d", after)
	}
}

func TestUnexplainedDecisionsMakeRoom(t *testing.T) {
	d, c := newTest(t, Options{})
	kept := func() (s string) {
		for _, r := range d.document(0).Decisions {
			s += map[bool]string{true: "x", false: "-"}[r.Explanation != nil]
		}
		return s
	}
	d.Observe(answer("a"))
	require.Equal(t, "-", kept(), "without explanations, those without")
	d.Observe(explained("a"))
	d.Observe(answer("a"))
	c.add(unexplainedAfter)
	d.Observe(answer("a"))
	require.Equal(t, "x-", kept(), "explained ones keep others out for a while")
	c.add(time.Nanosecond)
	d.Observe(answer("a"))
	require.Equal(t, "-x-", kept())
}

func TestDecisionIsExplained(t *testing.T) {
	d, _ := newTest(t, Options{})
	scores := func(queue float64, abstained bool) []scheduling.Score {
		return []scheduling.Score{{Scorer: "scorer.Prefix", Weight: 3, Score: 1.0 / 3}, {Scorer: "scorer.Queue", Weight: 1, Score: queue, Abstained: abstained}}
	}
	r := gateway.Record{
		Model: "m", Adapter: "poet", Endpoint: "a", Attempts: 2, Stream: true, PredictedCached: 64, Decide: 20 * time.Microsecond,
		Usage: api.Usage{PromptTokens: 100, Known: api.PromptCount},
		Explanation: &scheduling.Explanation{
			Model: "m", PromptTokens: 96, Attempts: 1,
			Removed: []scheduling.Removal{{Filter: "filter.Role", Endpoint: "p"}, {Filter: "filter.Role", Endpoint: "q"}, {Filter: "filter.Zone", Endpoint: "z"}},
			Candidates: []scheduling.Candidate{
				{Endpoint: "b", Rank: 1, Total: 0.5, Requests: 2, PrefillTokens: 7, CachedTokens: 64, Scores: scores(0, false)},
				{Endpoint: "a", Rank: 2, Total: 0.25, Scores: scores(0, true)},
			},
		},
	}
	d.Observe(r)
	got, err := json.Marshal(d.document(0).Decisions[0])
	require.NoError(t, err)
	require.JSONEq(t, `{
		"number": 1, "ended_ms": 1700000000000, "model": "m", "adapter": "poet", "endpoint": "a", "stream": true, "attempts": 2,
		"outcome": "answered", "prompt_tokens": 100, "cached_tokens": null, "output_tokens": null, "predicted_cached_tokens": 64,
		"decide_ms": 0.02, "ttft_ms": null, "total_ms": null,
		"explanation": {
			"prompt_tokens": 96, "attempts": 1,
			"scorers": [{"scorer": "scorer.Prefix", "weight": 3}, {"scorer": "scorer.Queue", "weight": 1}],
			"candidates": [
				{"endpoint": "b", "rank": 1, "total": 0.5, "requests": 2, "prefill_tokens": 7, "cached_tokens": 64, "scores": [0.3333, 0]},
				{"endpoint": "a", "rank": 2, "total": 0.25, "requests": 0, "prefill_tokens": 0, "cached_tokens": 0, "scores": [0.3333, null]}
			],
			"removed": [{"filter": "filter.Role", "count": 2, "endpoints": ["p", "q"]}, {"filter": "filter.Zone", "count": 1, "endpoints": ["z"]}]
		}
	}`, string(got))
}

func TestLargeExplanationsAreCut(t *testing.T) {
	x := &scheduling.Explanation{}
	for i := range 400 {
		x.Candidates = append(x.Candidates, scheduling.Candidate{Endpoint: fmt.Sprint(i)})
		x.Removed = append(x.Removed, scheduling.Removal{Filter: "f", Endpoint: fmt.Sprint(i)})
	}
	e := newExplanation(x)
	require.Len(t, e.Candidates, maxCandidates)
	require.Equal(t, 400-maxCandidates, e.More)
	require.Len(t, e.Removed, 1)
	require.Equal(t, 400, e.Removed[0].Count)
	require.Len(t, e.Removed[0].Endpoints, maxRemoved)
	isAbsent(t, e.Candidates[0].Total) // nobody scored
}
