package workload

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// take returns the first n requests of a source.
func take(t *testing.T, source Source, n int) []Request {
	t.Helper()
	var all []Request
	for r, err := range source {
		require.NoError(t, err)
		if all = append(all, r); len(all) == n {
			break
		}
	}
	return all
}

func chats(t *testing.T, o ChatOptions) Source {
	t.Helper()
	source, err := Chats(o)
	require.NoError(t, err)
	return source
}

func TestChatsDependOnTheSeedOnly(t *testing.T) {
	source := chats(t, ChatOptions{Seed: 7})
	first := take(t, source, 1000)
	assert.Equal(t, first, take(t, source, 1000), "a second iteration begins again")
	assert.Equal(t, first, take(t, chats(t, ChatOptions{Seed: 7}), 1000))
	assert.NotEqual(t, first, take(t, chats(t, ChatOptions{Seed: 8}), 1000))
}

func TestChatsAreLikeTheTrace(t *testing.T) {
	requests := take(t, chats(t, ChatOptions{Seed: 1}), 12031)
	within := func(name string, want, got, tolerance float64) {
		t.Helper()
		assert.InDelta(t, want, got, tolerance*want, name)
	}
	lengths := func(of func(Request) int) (sorted []int, mean float64) {
		for _, r := range requests {
			sorted = append(sorted, of(r))
			mean += float64(of(r)) / float64(len(requests))
		}
		slices.Sort(sorted)
		return sorted, mean
	}
	shares := []float64{0.1, 0.25, 0.5, 0.75, 0.9, 0.99}
	at := func(sorted []int, share float64) float64 { return float64(sorted[int(share*float64(len(sorted)))]) }

	// Later turns add to first prompts that are drawn from the trace's distribution, so inputs are longer, short ones above all.
	input, mean := lengths(func(r Request) int { return r.InputTokens })
	within("mean input", 12035, mean, 0.15)
	for i, want := range []float64{964, 2306, 6909, 15368, 27367, 85401} {
		within("input", want, at(input, shares[i]), []float64{0.35, 0.25, 0.2, 0.15, 0.15, 0.1}[i])
	}
	output, mean := lengths(func(r Request) int { return r.OutputTokens })
	within("mean output", 343, mean, 0.05)
	for i, want := range []float64{24, 156, 350, 472, 597, 1120} {
		within("output", want, at(output, shares[i]), 0.15)
	}
	within("seconds", 3537, requests[len(requests)-1].At.Seconds(), 0.05)

	previous := map[int]int{} // the input of a session's latest turn
	blocks, repeated := 0, 0
	for _, r := range requests {
		blocks += (r.InputTokens + 511) / 512
		repeated += max(1, previous[r.Session]/512)
		previous[r.Session] = r.InputTokens
	}
	within("repeated blocks", 0.37, float64(repeated)/float64(blocks), 0.1)
}

func TestChatsAreConversations(t *testing.T) {
	requests := take(t, chats(t, ChatOptions{Seed: 3, SystemPrompts: 3}), 5000)
	latest := map[int]Request{}
	systems := map[Piece]int{}
	at, later := time.Duration(0), 0
	for _, r := range requests {
		require.GreaterOrEqual(t, r.At, at, "in order of arrival")
		at = r.At
		added := 0
		for _, m := range r.Messages {
			added += m.Tokens()
		}
		before, follows := latest[r.Session]
		if follows {
			later++
			require.Equal(t, before.Turn+1, r.Turn)
			require.False(t, before.Last, "nothing follows the last turn")
			require.Len(t, r.Messages, 1)
			require.Equal(t, before.InputTokens+before.OutputTokens+added, r.InputTokens)
		} else {
			require.Zero(t, r.Turn)
			require.Equal(t, added, r.InputTokens)
			require.Equal(t, System, r.Messages[0].Role)
			systems[r.Messages[0].Pieces[1]]++
			require.Equal(t, requests[0].Messages[0].Pieces[0], r.Messages[0].Pieces[0], "all begin alike")
		}
		require.Equal(t, User, r.Messages[len(r.Messages)-1].Role)
		latest[r.Session] = r
	}
	assert.Len(t, systems, 3)
	assert.Greater(t, later, len(requests)/5)
}

func TestPausesStretch(t *testing.T) {
	second := func(scale float64) time.Duration {
		first := map[int]time.Duration{}
		for r, err := range chats(t, ChatOptions{Seed: 1, PauseScale: scale}) {
			require.NoError(t, err)
			if r.Turn == 1 {
				return r.At - first[r.Session]
			}
			first[r.Session] = r.At
		}
		return 0
	}
	assert.Greater(t, second(1), 5*time.Second)
	assert.Less(t, second(0.001), time.Second)
}

func TestChatOptionsAreChecked(t *testing.T) {
	_, err := Chats(ChatOptions{RequestsPerSecond: -1, SystemPrompts: -2, PauseScale: -3})
	require.Error(t, err)
	for _, field := range []string{"RequestsPerSecond is -1", "SystemPrompts is -2", "PauseScale is -3"} {
		assert.ErrorContains(t, err, field)
	}
}
