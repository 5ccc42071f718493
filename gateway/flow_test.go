package gateway_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// newFlow is a brain with flow control over one endpoint that takes one request at a time.
func newFlow(t *testing.T, o flow.Options) (*gateway.Brain, *flow.Controller, *guarded) {
	t.Helper()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "a:1", Model: "m"}}, Models: []string{"cold"}})
	require.NoError(t, err)
	o.Gate = &flow.Gate{Limits: flow.Limits{MaxRequests: 1}}
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{o.Gate}}})
	require.NoError(t, err)
	controller, err := flow.New(sched, o)
	require.NoError(t, err)
	t.Cleanup(controller.Close)
	var seen guarded
	brain, err := gateway.NewBrain(gateway.BrainOptions{
		Scheduler: sched, Flow: controller, Observer: &seen, Dialect: gateway.LLMD{Objectives: map[string]int{"chat": 5, "batch": -1}},
	})
	require.NoError(t, err)
	return brain, controller, &seen
}

// guarded are records of requests that end on several goroutines.
type guarded struct {
	mu sync.Mutex
	records
}

func (g *guarded) Observe(r gateway.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records.Observe(r)
}

func (g *guarded) last() *gateway.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &g.records[len(g.records)-1]
}

func with(r *api.Request, headers map[string]string) *api.Request {
	r.Header = func(name string) string { return headers[name] }
	return r
}

func TestBrainWaitsForFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		brain, controller, seen := newFlow(t, flow.Options{})
		ask := func(headers map[string]string) *api.Request {
			return with(parse(t, api.Completion, `{"model":"m","prompt":"x"}`), headers)
		}
		first, err := brain.Route(t.Context(), ask(nil))
		require.NoError(t, err)
		var order []string
		var mu sync.Mutex
		for _, objective := range []string{"batch", "none such", "chat"} {
			go func() {
				route, err := brain.Route(t.Context(), ask(map[string]string{"X-Llm-D-Inference-Objective": objective, "X-Llm-D-Inference-Fairness-Id": objective}))
				require.NoError(t, err)
				mu.Lock()
				order = append(order, objective)
				mu.Unlock()
				time.Sleep(time.Second)
				route.FirstByte()
				route.End(nil)
			}()
			synctest.Wait()
		}
		require.Equal(t, 3, controller.Stats().Waiting)
		time.Sleep(time.Second)
		first.End(nil)
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{"chat", "none such", "batch"}, order)
		require.Equal(t, 3*time.Second, seen.last().Waited)
		require.Zero(t, controller.Pool().Total())
		var tenants []string
		for _, tenant := range controller.Stats().Tenants {
			tenants = append(tenants, tenant.Tenant)
		}
		require.ElementsMatch(t, []string{gateway.DefaultFlow, "batch", "none such", "chat"}, tenants)
	})
}

func TestBrainSaysWhyFlowControlRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		brain, controller, seen := newFlow(t, flow.Options{MaxRequests: 1, TTL: 2 * time.Second})
		ask := func(model string) *api.Request { return parse(t, api.Completion, `{"model":"`+model+`","prompt":"x"}`) }
		first, err := brain.Route(t.Context(), ask("m"))
		require.NoError(t, err)
		refuse := func(ctx context.Context, r *api.Request) *gateway.Rejection {
			_, err := brain.Route(ctx, r)
			require.Error(t, err)
			rejection := gateway.RejectionOf(err)
			require.Equal(t, rejection.Status, seen.last().Status)
			return rejection
		}
		reason := func(r *gateway.Rejection) string { return r.Header[0].Value }

		expired := refuse(t.Context(), ask("m"))
		require.Equal(t, http.StatusTooManyRequests, expired.Status)
		require.Equal(t, gateway.ReasonTooLate, expired.Reason)
		require.Equal(t, "rejected-ttl-expired", reason(expired))
		require.Equal(t, time.Second, expired.RetryAfter)

		go func() {
			_, _ = brain.Route(t.Context(), ask("m"))
		}()
		synctest.Wait()
		full := refuse(t.Context(), ask("m"))
		require.Equal(t, http.StatusTooManyRequests, full.Status)
		require.Equal(t, gateway.ReasonOverloaded, full.Reason)
		require.Equal(t, "rejected-saturated", reason(full))

		cold := refuse(t.Context(), ask("cold"))
		require.Equal(t, http.StatusServiceUnavailable, cold.Status)
		require.Equal(t, gateway.ReasonNoEndpoint, cold.Reason)
		require.Equal(t, "rejected-no-endpoints", reason(cold))
		time.Sleep(3 * time.Second)

		require.Equal(t, http.StatusNotFound, refuse(t.Context(), ask("unheard of")).Status)

		gone, leave := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			leave()
		}()
		_, err = brain.Route(gone, ask("m"))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 499, seen.last().Status)
		require.Equal(t, gateway.ClientLeft, seen.last().Outcome())

		controller.Close()
		down := refuse(t.Context(), ask("m"))
		require.Equal(t, http.StatusServiceUnavailable, down.Status)
		require.Equal(t, "rejected-shutting-down", reason(down))
		first.End(nil)
		require.Zero(t, controller.Pool().Total())
	})
}

func TestLLMDHeaders(t *testing.T) {
	dialect := gateway.LLMD{Objectives: map[string]int{"chat": 5}}
	for name, row := range map[string]struct {
		headers map[string]string
		want    scheduling.Request
	}{
		"none": {nil, scheduling.Request{Tenant: gateway.DefaultFlow}},
		"new": {map[string]string{"X-Llm-D-Inference-Fairness-Id": "t", "X-Llm-D-Inference-Objective": "chat", "X-Llm-D-Slo-Ttft-Ms": "250", "X-Llm-D-Slo-Tpot-Ms": "20.5"},
			scheduling.Request{Tenant: "t", Priority: 5, TTFT: 250 * time.Millisecond, TPOT: 20500 * time.Microsecond}},
		"old": {map[string]string{"X-Gateway-Inference-Fairness-Id": "t", "X-Gateway-Inference-Objective": "chat", "X-Slo-Ttft-Ms": "1"},
			scheduling.Request{Tenant: "t", Priority: 5, TTFT: time.Millisecond}},
		"nonsense": {map[string]string{"X-Llm-D-Slo-Ttft-Ms": "-1", "X-Llm-D-Slo-Tpot-Ms": "1e300", "X-Llm-D-Inference-Objective": "?"},
			scheduling.Request{Tenant: gateway.DefaultFlow}},
	} {
		t.Run(name, func(t *testing.T) {
			var s scheduling.Request
			dialect.Describe(&s, with(&api.Request{}, row.headers))
			require.Equal(t, row.want, s)
		})
	}
}
