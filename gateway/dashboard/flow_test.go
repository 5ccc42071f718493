package dashboard

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

func TestFlowControlIsShown(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "a:1", Model: "m"}}, Models: []string{"cold"}})
	require.NoError(t, err)
	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 2}}
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
	require.NoError(t, err)
	controller, err := flow.New(sched, flow.Options{Gate: gate, Cost: flow.Cost{Prompt: 1}, Tenants: map[string]flow.Tenant{"big": {Weight: 3, MaxInFlight: 1}}})
	require.NoError(t, err)
	defer controller.Close()
	plain, _ := newTest(t, Options{})
	require.Nil(t, plain.document(0).Flow)

	d, _ := newTest(t, Options{Pool: pool, Flow: controller})
	require.Equal(t, &flowTable{Bands: []flowBand{}, Lanes: []flowLane{}, Tenants: []flowTenant{}, Reasons: []flowOutcome{}}, d.document(0).Flow)
	ask := func(model, tenant string, tokens int) {
		r := &scheduling.Request{Model: model, Tenant: tenant, Prompt: scheduling.Prompt{Text: make([]byte, 4*tokens)}}
		controller.Ask(context.Background(), r, func(scheduling.Decision, error) {})
	}
	ask("m", "big", 30)
	ask("m", "big", 30)
	ask("m", "small", 10)
	ask("m", "small", 10)
	ask("cold", "small", 10)
	require.Equal(t, &flowTable{
		Waiting: 2, Granted: 2, Refused: 1, Reasons: []flowOutcome{{"no_endpoint", 1}}, Bands: []flowBand{{0, 2}},
		Lanes: []flowLane{{1, "their tenant's own limit"}, {1, "room on a"}},
		Tenants: []flowTenant{
			{Tenant: "big", Weight: 3, Waiting: 1, InFlight: 1, Served: 30, Share: .75, Limited: true},
			{Tenant: "small", Weight: 1, Waiting: 1, InFlight: 1, Served: 10, Share: .25},
		},
	}, d.document(0).Flow)
}
