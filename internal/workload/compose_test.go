package workload

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// of is a source of requests.
func of(list ...Request) Source {
	return func(yield func(Request, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

var errBroken = errors.New("broken")

func failing(list ...Request) Source {
	return func(yield func(Request, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
		yield(Request{}, errBroken)
	}
}

func TestMergedSourcesAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sources []Source
		var want []time.Duration
		sessions := map[[2]int]bool{}
		n := rapid.IntRange(0, 5).Draw(t, "sources")
		for i := range n {
			times := rapid.SliceOf(rapid.Int64Range(0, 50)).Draw(t, "times")
			slices.Sort(times)
			var list []Request
			for _, at := range times {
				session := rapid.IntRange(0, 3).Draw(t, "session")
				list = append(list, Request{At: time.Duration(at), Session: session, Conversation: session, InputTokens: i + 1})
				want = append(want, time.Duration(at))
				sessions[[2]int{i, session}] = true
			}
			sources = append(sources, of(list...))
		}
		slices.Sort(want)
		list, err := all(Merge(sources...))
		require.NoError(t, err)
		var got []time.Duration
		kept := map[int]int{}
		for i, r := range list {
			got = append(got, r.At)
			if source, ok := kept[r.Session]; ok {
				require.Equal(t, source, r.InputTokens, "a session is of one source")
			}
			kept[r.Session] = r.InputTokens
			if i > 0 && list[i-1].At == r.At {
				require.LessOrEqual(t, list[i-1].InputTokens, r.InputTokens, "together, in the order of sources")
			}
		}
		require.Equal(t, want, got)
		require.Len(t, kept, len(sessions))
	})
	for range Merge(of(Request{}, Request{}), of(Request{})) { // sources are given up with it
		break
	}
	list, err := all(Merge(of(Request{At: 1}, Request{At: 9}), failing(Request{At: 5})))
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "source 1")
	require.Len(t, list, 2)
	_, err = all(Merge(failing()))
	require.ErrorIs(t, err, errBroken)
}

func TestScale(t *testing.T) {
	source, err := Scale(of(Request{At: 0}, Request{At: 3 * time.Second}, Request{At: 10 * time.Second}), 2.5)
	require.NoError(t, err)
	list, err := all(source)
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{0, 1200 * time.Millisecond, 4 * time.Second}, []time.Duration{list[0].At, list[1].At, list[2].At})
	for _, load := range []float64{0, -1} {
		_, err := Scale(source, load)
		require.ErrorContains(t, err, "load is")
	}
	_, err = all(Map(failing(Request{}), func(r Request) Request { return r }))
	require.ErrorIs(t, err, errBroken)
}

// A trace at another rate keeps its order, ties included.
func TestAScaledTraceKeepsItsOrder(t *testing.T) {
	lines := generated(MooncakeFormat, 500)
	plain := lines.line
	lines.line = func(n int) string { return plain(n / 3) } // three at a time
	list, err := all(Mooncake(lines))
	require.NoError(t, err)
	for _, load := range []float64{0.37, 1, 3, 1e6, 1e12} {
		source, err := Scale(of(list...), load)
		require.NoError(t, err)
		scaled, err := all(source)
		require.NoError(t, err)
		for i := range list {
			require.Equal(t, list[i].Session, scaled[i].Session)
			if i > 0 {
				require.GreaterOrEqual(t, scaled[i].At, scaled[i-1].At)
			}
		}
	}
}

func TestLimitAndWindow(t *testing.T) {
	source := chats(t, ChatOptions{Seed: 4, PauseScale: 0.1})
	first, err := all(Limit(source, 1000))
	require.NoError(t, err)
	require.Equal(t, take(t, source, 1000), first)
	none, err := all(Limit(failing(), 0))
	require.NoError(t, err)
	require.Empty(t, none)

	from, to := 60*time.Second, 180*time.Second
	window, err := Window(source, from, to)
	require.NoError(t, err)
	list, err := all(window)
	require.NoError(t, err)
	turns := map[int]int{}
	began := map[int]bool{}
	want := 0
	for _, r := range first {
		if r.At >= from && r.At < to {
			began[r.Session] = began[r.Session] || r.Turn == 0
			if began[r.Session] {
				want++
			}
		}
	}
	require.Greater(t, want, 300)
	require.Len(t, list, want)
	for _, r := range list {
		require.Equal(t, turns[r.Session], r.Turn, "whole sessions from their first turn on")
		turns[r.Session]++
		require.Less(t, r.At, to-from)
	}
	for _, bad := range [][2]time.Duration{{-1, 5}, {5, 5}} {
		_, err := Window(source, bad[0], bad[1])
		require.ErrorContains(t, err, "the window is")
	}
	window, err = Window(failing(Request{}), 0, 5)
	require.NoError(t, err)
	_, err = all(window)
	require.ErrorIs(t, err, errBroken)
}

func TestRepeat(t *testing.T) {
	path := t.TempDir() + "/trace"
	require.NoError(t, os.WriteFile(path, []byte(traces[MooncakeFormat].trace), 0o600))
	trace, _, err := Open(path)
	require.NoError(t, err)
	repeat := func(o RepeatOptions) []Request {
		source, err := Repeat(trace, o)
		require.NoError(t, err)
		list, err := all(Limit(source, 7))
		require.NoError(t, err)
		return list
	}
	list := repeat(RepeatOptions{Times: 3})
	require.Equal(t, []string{"0s 600 5", "1.5s 600 5", "2.25s 600 5", "3.75s 600 5", "4.5s 600 5", "6s 600 5"}, summary(list))
	sessions := map[int]bool{}
	texts := map[string]int{}
	for _, r := range list {
		sessions[r.Session] = true
		texts[string(r.Messages[0].AppendText(nil))]++
	}
	require.Len(t, sessions, 6)
	require.Len(t, texts, 3, "two requests of a round share their text, and rounds share none")
	require.Len(t, repeat(RepeatOptions{}), 7, "for ever")
	require.Equal(t, list[0].Messages, repeat(RepeatOptions{Times: 2, SameText: true})[3].Messages)

	once, err := Repeat(Mooncake(strings.NewReader(line)), RepeatOptions{Times: 2})
	require.NoError(t, err)
	_, err = all(once)
	require.ErrorIs(t, err, errOnce)
	_, err = Repeat(trace, RepeatOptions{Times: -1})
	require.ErrorContains(t, err, "Times is -1")
	broken, err := Repeat(failing(Request{}), RepeatOptions{})
	require.NoError(t, err)
	_, err = all(broken)
	require.ErrorContains(t, err, "round 1: broken")
}
