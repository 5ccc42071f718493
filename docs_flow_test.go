package inferloom_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/dashboard"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/stretchr/testify/require"
)

// What follows is the code of docs/flow.md, line by line.

func controlled(ctx context.Context, pool *scheduling.Pool, index *prefix.Index, prompt scheduling.Prompt) (status int, retry time.Duration) {
	gate := &flow.Gate{Adaptive: &flow.Adaptive{}} // how much each endpoint takes at once is found out
	profile := policy.Default(index)
	profile.Filters = append([]scheduling.Filter{gate}, profile.Filters...)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: profile})
	if err != nil {
		return http.StatusInternalServerError, 0
	}

	control, err := flow.New(sched, flow.Options{
		Gate:    gate,
		Tenants: map[string]flow.Tenant{"research": {Weight: 2}, "trial": {MaxInFlight: 4, Rate: 500}},
	})
	if err != nil {
		return http.StatusInternalServerError, 0
	}
	defer control.Close()
	if _, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Flow: control}); err != nil {
		return http.StatusInternalServerError, 0
	}
	if _, err := dashboard.New(dashboard.Options{Pool: pool, Flow: control}); err != nil {
		return http.StatusInternalServerError, 0
	}

	d, err := control.Acquire(ctx, &scheduling.Request{Model: "llama", Tenant: "research", Prompt: prompt})
	if refused, ok := errors.AsType[*flow.Rejected](err); ok {
		return refused.Status(), refused.RetryAfter
	}
	defer d.Done() // hands the room to whoever is next
	return http.StatusOK, 0
}

func besideInteractive() *flow.Gate {
	gate := &flow.Gate{
		Limits:   flow.Limits{MaxPrefillTokens: 8192},
		Adaptive: &flow.Adaptive{},
		Ceilings: []flow.Ceiling{{Below: 0, Share: 0.75}}, // the batch has priority -1
	}
	return gate
}

func flowSection(text []byte) (options flow.Options, notes []string, err error) {
	loader := config.Loader{Sections: map[string]func(config.Section) error{"flowControl": func(s config.Section) error {
		var section flow.LLMD
		if err := s.Decode(&section); err != nil {
			return err
		}
		var plugins []flow.LLMDPlugin
		for _, p := range s.Plugins {
			plugins = append(plugins, flow.LLMDPlugin(p))
		}
		var err error
		options, notes, err = section.Options(plugins)
		return err
	}}}
	_, err = loader.Load(text)
	return options, notes, err
}

func TestFlowGuide(t *testing.T) {
	requireCompiled(t, "docs_flow_test.go", "docs/flow.md")
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:8000", Model: "llama"}}, Models: []string{"m"}})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	status, _ := controlled(t.Context(), pool, index, scheduling.Prompt{})
	require.Equal(t, http.StatusOK, status)
	pool.Remove("10.0.0.1:8000")
	status, _ = controlled(t.Context(), pool, index, scheduling.Prompt{})
	require.NotEqual(t, http.StatusOK, status)
	require.NoError(t, besideInteractive().Validate())

	options, notes, err := flowSection([]byte(`apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins: [{type: queue-scorer}, {type: max-score-picker}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]}]
flowControl: {maxRequests: 5k}
`))
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, 5000, options.MaxRequests)
}
