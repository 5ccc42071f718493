package engine

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestForecast compares what is foretold for a request with what comes about. Prompts share nothing that is not cached yet,
// and memory is enough for all that run, so the forecast must be exact but for rounding.
func TestForecast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, r := start(t, Options{
			BlockTokens: 4, Blocks: 20_000, MaxRunning: rapid.IntRange(1, 6).Draw(t, "running"),
			MaxBatchTokens: rapid.IntRange(6, 200).Draw(t, "budget"), PrefillRate: 1000, AttentionRate: math.Inf(1),
			StepTime: 10 * ms, StepTimePerSequence: ms, StepTimePerKVToken: 1000,
		})
		shared := chain(1, 100)
		draw := func(id uint64) Request {
			q := Request{
				ID: id, PromptTokens: rapid.IntRange(1, 300).Draw(t, "prompt"), OutputTokens: rapid.IntRange(1, 40).Draw(t, "output"),
				LoadedTokens: rapid.SampledFrom([]int{0, 0, 10, 1000}).Draw(t, "loaded"),
			}
			if rapid.Bool().Draw(t, "cached") {
				q.Blocks = shared[:min(len(shared), q.PromptTokens/4)]
			}
			return q
		}
		require.NoError(t, e.Submit(0, Request{ID: 999, PromptTokens: 400, OutputTokens: 1, Blocks: shared}))
		drain(e)
		now := e.Now()
		for id := range rapid.Uint64Range(0, 20).Draw(t, "before") {
			now += time.Duration(rapid.IntRange(0, 60).Draw(t, "pause")) * ms
			e.Advance(now)
			require.NoError(t, e.Submit(now, draw(id)))
		}
		now += time.Duration(rapid.IntRange(0, 1000).Draw(t, "pause")) * ms
		e.Advance(now)
		own := draw(1000)
		before := e.Stats()
		cached, foretold := e.Cached(&own), e.Forecast(now, &own)
		require.Equal(t, before, e.Stats(), "a forecast changes nothing")
		require.NoError(t, e.Submit(now, own))
		drain(e)
		got := r.results[1000]
		require.InEpsilon(t, float64(got.FirstToken-now), float64(foretold), 0.001)
		require.Equal(t, got.CachedTokens, max(cached, min(own.LoadedTokens, own.PromptTokens-1)))
	})
}

// TestForecastOfALongQueue is an estimate, to be right in size.
func TestForecastOfALongQueue(t *testing.T) {
	e, r := start(t, Options{BlockTokens: 4, Blocks: 50_000, MaxRunning: 64})
	for id := range uint64(200) {
		require.NoError(t, e.Submit(0, Request{ID: id, PromptTokens: 2000, OutputTokens: 20}))
	}
	e.Advance(0)
	own := Request{ID: 1000, PromptTokens: 1000, OutputTokens: 1}
	foretold := e.Forecast(0, &own)
	require.NoError(t, e.Submit(0, own))
	drain(e)
	require.InEpsilon(t, float64(r.results[1000].FirstToken), float64(foretold), 0.25)
}

// TestLoadedTokens: KV that comes from elsewhere takes no prefill, takes up memory, and can be found by the next request.
func TestLoadedTokens(t *testing.T) {
	e, r := start(t, plainOptions())
	q := Request{ID: 1, PromptTokens: 40, OutputTokens: 2, LoadedTokens: 40, Blocks: chain(7, 10)}
	require.NoError(t, e.Submit(0, q))
	e.Advance(0)
	require.Equal(t, 10, e.Stats().BlocksUsed)
	at, _ := e.NextStep()
	require.Equal(t, 11*ms, at, "only the last token is computed")
	drain(e)
	require.Equal(t, 39, r.results[1].CachedTokens)
	q.ID, q.LoadedTokens = 2, 0
	require.Equal(t, 36, e.Cached(&q))
	require.NoError(t, e.Submit(e.Now(), q))
	drain(e)
	require.Equal(t, 36, r.results[2].CachedTokens)

	// A request that is preempted has to compute what was loaded, as far as it is not in the cache any more.
	o := plainOptions()
	o.Blocks = 12
	e, r = start(t, o)
	require.NoError(t, e.Submit(0, Request{ID: 1, PromptTokens: 16, OutputTokens: 20}))
	require.NoError(t, e.Submit(0, Request{ID: 2, PromptTokens: 20, OutputTokens: 20, LoadedTokens: 20}))
	drain(e)
	require.Equal(t, 1, r.results[2].Preemptions)
	require.Equal(t, 19, r.results[2].CachedTokens)
	require.Equal(t, 20, r.results[2].OutputTokens)
}

func TestPrefillTime(t *testing.T) {
	o := plainOptions()
	o.AttentionRate = 10_000
	e, _ := start(t, o)
	require.NoError(t, e.SetSlowdown(0, 2))
	// 10 tokens at 1 ms; they look back on 30 each, and on 1 to 10: 355 pairs at 0.1 ms; all twice.
	require.InDelta(t, 2*(10*ms+35500*time.Microsecond), e.PrefillTime(40, 30), 2)
}
