package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

type records []gateway.Record

func (r *records) Observe(rec gateway.Record) {
	rec.Request = nil // not to be kept
	*r = append(*r, rec)
}

// newBrain has a clock that advances by a second whenever it is read.
func newBrain(t *testing.T, endpoints ...scheduling.Endpoint) (*gateway.Brain, *scheduling.Pool, *records) {
	t.Helper()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints, Models: []string{"cold"}})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 8 << 20})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	require.NoError(t, err)
	var seen records
	now := time.Unix(0, 0)
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Observer: &seen, ExplainEvery: 2, Now: func() time.Time {
		now = now.Add(time.Second)
		return now
	}})
	require.NoError(t, err)
	return brain, pool, &seen
}

func parse(t *testing.T, kind api.Kind, body string) *api.Request {
	t.Helper()
	r, err := api.ParseRequest(kind, []byte(body))
	require.NoError(t, err)
	return r
}

func TestBrainAccountsForARequest(t *testing.T) {
	brain, pool, seen := newBrain(t,
		scheduling.Endpoint{ID: "a", Address: "10.0.0.1:80", Model: "m", Adapters: []string{"poet"}},
		scheduling.Endpoint{ID: "b", Address: "10.0.0.2:80", Model: "m"})
	require.Equal(t, []string{"cold", "m", "poet"}, brain.Models())

	r := parse(t, api.Completion, `{"model":"poet","prompt":[1,2,3,4],"stream":true}`)
	route, err := brain.Route(context.Background(), r)
	require.NoError(t, err)
	require.Equal(t, gateway.Target{ID: "a", Address: "10.0.0.1:80"}, route.Target())
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 4, KVTokens: 4}, pool.Total())
	route.FirstByte()
	route.Usage(api.Usage{CompletionTokens: 3, Known: api.CompletionCount, Estimated: true})
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 7}, pool.Total())
	final := api.Usage{PromptTokens: 4, CompletionTokens: 5, Known: api.PromptCount | api.CompletionCount}
	route.Usage(final)
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 9}, pool.Total())
	route.End(nil)
	require.Zero(t, pool.Total())
	require.Equal(t, &records{{
		Start: time.Unix(1, 0), Model: "m", Adapter: "poet", Endpoint: "a", Stream: true, Attempts: 1, Usage: final,
		PromptKind: gateway.PromptGiven, PromptTokens: 4,
		Decide: time.Second, TTFT: 2 * time.Second, Total: 3 * time.Second, Status: http.StatusOK,
	}}, seen)
}

func TestBrainMovesOn(t *testing.T) {
	brain, pool, seen := newBrain(t,
		scheduling.Endpoint{ID: "a", Address: "10.0.0.1:80", Model: "m"}, scheduling.Endpoint{ID: "b", Address: "10.0.0.2:80", Model: "m"})
	route, err := brain.Route(context.Background(), parse(t, api.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`))
	require.NoError(t, err)
	first := route.Target().ID
	refused := errors.New("refused")
	require.True(t, route.Next(refused))
	require.NotEqual(t, first, route.Target().ID)
	require.Equal(t, 1, pool.Total().Requests)
	require.False(t, route.Next(refused))
	failure := &gateway.EngineError{Endpoint: route.Target().ID}
	route.End(failure)
	require.Zero(t, pool.Total())
	require.Equal(t, 2, (*seen)[0].Attempts)
	require.Equal(t, []gateway.Attempt{{Endpoint: first, Err: refused}}, (*seen)[0].Failed)
	require.Equal(t, http.StatusBadGateway, (*seen)[0].Status)
	require.ErrorIs(t, (*seen)[0].Err, failure)
}

func TestBrainRejects(t *testing.T) {
	brain, pool, seen := newBrain(t, scheduling.Endpoint{ID: "a", Address: "10.0.0.1:80", Model: "m"})
	for _, row := range []struct {
		model, reason string
		status        int
		retry         time.Duration
	}{
		{"nope", gateway.ReasonModelNotFound, http.StatusNotFound, 0},
		{"cold", gateway.ReasonNoEndpoint, http.StatusServiceUnavailable, time.Second},
	} {
		_, err := brain.Route(context.Background(), parse(t, api.Completion, `{"model":"`+row.model+`","prompt":"x"}`))
		rejection := gateway.RejectionOf(err)
		require.Equal(t, row.status, rejection.Status)
		require.Equal(t, row.reason, rejection.Reason)
		require.Equal(t, row.retry, rejection.RetryAfter)
		require.Contains(t, rejection.Message, row.model)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := brain.Route(ctx, parse(t, api.Completion, `{"model":"m","prompt":"x"}`))
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, *seen, 3)
	for i, status := range []int{http.StatusNotFound, http.StatusServiceUnavailable, 499} {
		require.Equal(t, status, (*seen)[i].Status)
	}
	require.Zero(t, pool.Total())
}

// Tools come before the messages in a chat template: other tools, another prompt.
func TestBrainSeparatesPromptsByToolsAndSalt(t *testing.T) {
	brain, _, seen := newBrain(t, scheduling.Endpoint{ID: "a", Address: "10.0.0.1:80", Model: "m"})
	long := `"messages":[{"role":"user","content":"` + strings.Repeat("x", 4000) + `"}]`
	for _, extra := range []string{``, ``, `"tools":[{"type":"function"}],`, `"cache_salt":"s",`, `"cache_salt":"s",`} {
		route, err := brain.Route(context.Background(), parse(t, api.Chat, `{"model":"m",`+extra+long+`}`))
		require.NoError(t, err)
		route.End(nil)
	}
	var cached []bool
	for _, r := range *seen {
		cached = append(cached, r.PredictedCached > 900)
	}
	require.Equal(t, []bool{false, true, false, false, true}, cached)
	require.Nil(t, (*seen)[0].Explanation)
	require.NotNil(t, (*seen)[1].Explanation)
}

// learned is what a Learner was told.
type learned []string

func (l *learned) ObserveTTFT(p *scheduling.Prediction, took time.Duration) {
	*l = append(*l, fmt.Sprint("ttft ", p.Basis.Slot, " ", took))
}
func (l *learned) ObserveTPOT(p *scheduling.Prediction, took time.Duration) {
	*l = append(*l, fmt.Sprint("tpot ", p.Basis.Slot, " ", took))
}
func (l *learned) Ended(r *scheduling.Request, p *scheduling.Prediction) {
	*l = append(*l, fmt.Sprint("ended ", p.Basis.Slot, " ", r.TPOT))
}

// soon predicts the same for all endpoints.
type soon struct{}

func (soon) Produce(c *scheduling.Cycle) {
	for _, slot := range c.Snapshot.Live() {
		c.Predictions()[slot] = scheduling.Prediction{TTFT: 1, Basis: scheduling.Basis{Slot: slot}}
	}
}

// The learner is told of streamed answers, from the pick on, and of each endpoint that the request leaves.
func TestBrainTeaches(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80"}}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{soon{}}, Picker: new(picker.RoundRobin)}})
	require.NoError(t, err)
	var told learned
	now := time.Unix(0, 0)
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Learner: &told, Now: func() time.Time { return now },
		Objectives: func(header func(string) string) (ttft, tpot time.Duration) {
			d, _ := time.ParseDuration(header("Slo"))
			return 0, d
		}})
	require.NoError(t, err)
	route := func(body string) *gateway.Route {
		told = nil
		r := parse(t, api.Completion, body)
		r.Header = func(string) string { return "50ms" }
		route, err := brain.Route(context.Background(), r)
		require.NoError(t, err)
		return route
	}
	const streamed = `{"model":"m","prompt":"x","stream":true}`

	r := route(streamed)
	now = now.Add(time.Second)
	require.True(t, r.Next(errors.New("refused")))
	now = now.Add(3 * time.Second)
	r.FirstByte()
	r.Usage(api.Usage{CompletionTokens: 11, Known: api.CompletionCount})
	now = now.Add(5 * time.Second)
	r.End(nil)
	require.Equal(t, learned{"ended 0 50ms", "ttft 1 3s", "tpot 1 500ms", "ended 1 50ms"}, told)

	r = route(streamed)
	r.FirstByte()
	r.Usage(api.Usage{CompletionTokens: 11, Known: api.CompletionCount})
	now = now.Add(time.Second)
	r.End(errors.New("broke off"))
	require.Len(t, told, 2, "an answer that is not complete has no time between tokens: %v", told)

	r = route(`{"model":"m","prompt":"x"}`)
	r.FirstByte()
	r.Usage(api.Usage{CompletionTokens: 11, Known: api.CompletionCount})
	r.End(nil)
	require.Len(t, told, 1, "an answer in one piece has no first token: %v", told)
}

// late refuses everything.
type late struct{}

func (late) Filter(*scheduling.Cycle, []scheduling.Slot) []scheduling.Slot { return nil }
func (late) Refusal() error                                                { return errors.New("too late") }

func TestBrainRefusesWithReason(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:80"}}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{late{}}}})
	require.NoError(t, err)
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched})
	require.NoError(t, err)
	_, err = brain.Route(context.Background(), parse(t, api.Completion, `{"model":"m","prompt":"x"}`))
	rejection := gateway.RejectionOf(err)
	require.Equal(t, http.StatusTooManyRequests, rejection.Status)
	require.Equal(t, gateway.ReasonOverloaded, rejection.Reason)
	require.Equal(t, "too late", rejection.Message)
	require.Equal(t, time.Second, rejection.RetryAfter)
}

func TestBrainOptionsAreChecked(t *testing.T) {
	_, err := gateway.NewBrain(gateway.BrainOptions{})
	require.EqualError(t, err, "scheduler: nil")
}

type nobody struct{}

func (nobody) Filter(*scheduling.Cycle, []scheduling.Slot) []scheduling.Slot { return nil }

func TestARejectionIsExplained(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "10.0.0.1:80", Model: "m"}}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{nobody{}}}})
	require.NoError(t, err)
	var seen records
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Observer: &seen, ExplainEvery: 1})
	require.NoError(t, err)
	_, err = brain.Route(t.Context(), parse(t, api.Completion, `{"model":"m","prompt":"hi"}`))
	require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
	require.Equal(t, []scheduling.Removal{{Filter: "gateway_test.nobody", Endpoint: "a"}}, seen[0].Explanation.Removed)
}
