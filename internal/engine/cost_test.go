package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// firstToken is when an idle engine has the first token of a prompt.
func firstToken(t *testing.T, o Options, prompt int) time.Duration {
	e, r := start(t, o)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: prompt, OutputTokens: 1}))
	drain(e)
	return r.results[1].FirstToken
}

func TestAttentionGrowsWithTheSquareOfThePrompt(t *testing.T) {
	o := plainOptions()
	o.AttentionRate = 1000 // 1 ms a pair
	o.MaxBatchTokens = 200
	require.Equal(t, 10*ms+100*ms+5050*ms, firstToken(t, o, 100), "the step, 100 tokens, 100 x 101 / 2 pairs")
	o.MaxBatchTokens = 25
	require.Equal(t, 4*10*ms+100*ms+5050*ms, firstToken(t, o, 100), "in four chunks it is the same work")
}

func TestCachedTokensAreStillLookedBackOn(t *testing.T) {
	o := plainOptions()
	o.AttentionRate = 1000
	e, r := start(t, o)
	blocks := chain(1, 5)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 8, OutputTokens: 1, Blocks: blocks}))
	drain(e)
	require.NoError(t, e.Submit(e.Now(), Request{ID: 2, PromptTokens: 10, OutputTokens: 1, Blocks: blocks}))
	drain(e)
	got := r.results[2]
	require.Equal(t, 8, got.CachedTokens)
	require.Equal(t, 10*ms+2*ms+19*ms, got.FirstToken-got.Started, "token 9 looks on 9, token 10 on 10")
}

func TestExpertsAreTouchedByTokens(t *testing.T) {
	o := plainOptions()
	o.ExpertTime, o.ExpertShare = 80*ms, 0.5
	require.Equal(t, 11*ms+40*ms, firstToken(t, o, 1), "half of them for one token")
	require.Equal(t, 12*ms+60*ms, firstToken(t, o, 2))
	require.InDelta(t, 40*ms+80*ms, firstToken(t, o, 30), float64(ms)/1e3, "all of them for many")
}
