package workload

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDocumentsAreInFrontOfFirstPrompts(t *testing.T) {
	questions, err := Chats(ChatOptions{Seed: 1, Turns: 3, Input: Lengths{Mean: 100}, Output: Lengths{Mean: 10}, Added: Lengths{Mean: 50}})
	require.NoError(t, err)
	source, err := Documents(questions, DocumentOptions{Seed: 7, Count: 20, Tokens: Lengths{Mean: 1000, CV: 1}, SystemTokens: 30})
	require.NoError(t, err)
	lengths, asked := map[uint64]int{}, map[uint64]int{}
	document := map[int]int{} // tokens, by session
	var before []Request
	for r, err := range Limit(questions, 2000) {
		require.NoError(t, err)
		before = append(before, r)
	}
	i := 0
	for r, err := range Limit(source, 2000) {
		require.NoError(t, err)
		if r.Turn == 0 {
			front := r.Messages[0]
			require.Equal(t, System, front.Role)
			require.Equal(t, 30, front.Pieces[0].Tokens)
			d := front.Pieces[1]
			if n, seen := lengths[d.ID]; seen {
				require.Equal(t, n, d.Tokens, "a document has one length")
			}
			lengths[d.ID] = d.Tokens
			asked[d.ID]++
			document[r.Session] = 30 + d.Tokens
			require.Equal(t, before[i].Messages, r.Messages[1:])
		} else {
			require.Equal(t, before[i].Messages, r.Messages)
		}
		require.Equal(t, before[i].InputTokens+document[r.Session], r.InputTokens)
		i++
	}
	assert.Len(t, lengths, 20)
	most := 0
	for _, n := range asked {
		most = max(most, n)
	}
	assert.InDelta(t, 1/3.6, float64(most)/float64(len(document)), 0.06, "by Zipf's law, the sum of 1/k up to 20 being 3.6")
	_, err = Documents(questions, DocumentOptions{Count: -1, Skew: -1, SystemTokens: -1, Tokens: Lengths{Mean: -1}})
	for _, want := range []string{"Count is -1", "Skew is -1", "SystemTokens is -1", "Tokens.Mean is -1"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestRotatedTraces(t *testing.T) {
	trace := []Request{
		{At: 0, Session: 0, InputTokens: 1, Messages: []Message{{User, []Piece{{1, 1}}}}},
		{At: 4 * time.Second, Session: 1, InputTokens: 2, Messages: []Message{{User, []Piece{{1, 2}}}}},
		{At: 6 * time.Second, Session: 2, InputTokens: 3, Messages: []Message{{User, []Piece{{2, 3}}}}},
	}
	source, err := Rotate(trace, 1, 3./8) // its own rate: the gap behind the last is the mean gap of 2 s
	require.NoError(t, err)
	var got []Request
	for r, err := range Limit(source, 8) {
		require.NoError(t, err)
		got = append(got, r)
	}
	var at []time.Duration
	var sessions, inputs []int
	for _, r := range got {
		at, sessions, inputs = append(at, r.At/time.Second), append(sessions, r.Session), append(inputs, r.InputTokens)
	}
	assert.Equal(t, []time.Duration{0, 2, 4, 8, 10, 12, 16, 18}, at)
	assert.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8}, sessions)
	assert.Equal(t, []int{2, 3, 1, 2, 3, 1, 2, 3}, inputs)
	assert.Equal(t, got[2].Messages[0].Pieces[0].ID, got[3].Messages[0].Pieces[0].ID, "what is shared in the trace is shared in each round")
	assert.NotEqual(t, got[0].Messages[0].Pieces[0].ID, got[3].Messages[0].Pieces[0].ID, "rounds share nothing")
	for _, bad := range []struct {
		trace []Request
		first int
		rate  float64
	}{{nil, 0, 1}, {trace, 3, 1}, {trace, -1, 1}, {trace, 0, 0}} {
		_, err := Rotate(bad.trace, bad.first, bad.rate)
		assert.Error(t, err)
	}
}
