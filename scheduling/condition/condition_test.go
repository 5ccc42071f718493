package condition_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
)

// cached says how much of the prompt every endpoint has.
type cached int32

func (n cached) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for i := range c.Match.Cached {
		c.Match.Cached[i] = int32(n)
	}
}

func TestConditions(t *testing.T) {
	for _, row := range []struct {
		name      string
		condition scheduling.Condition
		cached    cached // of a prompt of 1000 tokens
		request   scheduling.Request
		want      bool
	}{
		{name: "enough is missing", condition: condition.Uncached{Tokens: 200}, cached: 800, want: true},
		{name: "too little is missing", condition: condition.Uncached{Tokens: 200}, cached: 801},
		{name: "short", condition: condition.Uncached{PromptTokens: 1001}},
		{name: "long enough", condition: condition.Uncached{PromptTokens: 1000}, cached: 1000, want: true},
		{name: "of a stage", condition: condition.Uncached{Tokens: 200, Stage: "one"}, cached: 801},
		{name: "of a stage that did not run", condition: condition.Uncached{Tokens: 1000, Stage: "other"}, cached: 801, want: true},
		{name: "text", condition: condition.Media{}},
		{name: "an image", condition: condition.Media{}, request: scheduling.Request{Modality: scheduling.Image}, want: true},
		{name: "pieces", condition: condition.Media{}, request: scheduling.Request{Media: []scheduling.Media{{}}}, want: true},
		{name: "never", condition: condition.Never{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:80"}}})
			require.NoError(t, err)
			s, err := scheduling.New(pool, scheduling.Options{Stages: []scheduling.Stage{
				{Name: "one", Profile: scheduling.Profile{Producers: []scheduling.Producer{row.cached}}}, {Name: "two", When: row.condition},
			}})
			require.NoError(t, err)
			row.request.Prompt.Tokens = make([]uint32, 1000)
			d, err := s.Pick(context.Background(), &row.request)
			require.NoError(t, err)
			defer d.Done()
			_, ran := d.Stage("two")
			require.Equal(t, row.want, ran)
		})
	}
	require.EqualError(t, condition.Uncached{Tokens: -1, PromptTokens: -2}.Validate(), "nonCachedTokens -1: negative\npromptTokens -2: negative")
}
