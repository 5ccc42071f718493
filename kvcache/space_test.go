package kvcache

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
)

// What an engine says of a prompt is found by those prompts that the engine would find it for.
func TestSpacesSeparate(t *testing.T) {
	tokens := branch(1, 4)
	image := []blockhash.Item{{ID: "image", Offset: 3, Tokens: 3}} // in blocks 1 and 2 of two tokens
	withImage := []events.Extra{{Block: 1, Kind: events.Item, Value: "image", Offset: 1}, {Block: 2, Kind: events.Item, Value: "image", Offset: -1}}
	for _, row := range []struct {
		name  string
		event func(*events.Event)
		space Space
		items []blockhash.Item
		want  int32
	}{
		{"the same", func(*events.Event) {}, Space{Model: "m"}, nil, 4},
		{"another model", func(*events.Event) {}, Space{Model: "n"}, nil, 0},
		{"a model that the event names", func(e *events.Event) { e.Model = "n" }, Space{Model: "n"}, nil, 4},
		{"an adapter", func(e *events.Event) { e.Adapter = "sql" }, Space{Model: "m", Adapter: "sql", Revision: "2"}, nil, 4},
		{"an earlier revision of it", func(e *events.Event) { e.Adapter = "sql" }, Space{Model: "m", Adapter: "sql", Revision: "1"}, nil, 0},
		{"an adapter that only the event has", func(e *events.Event) { e.Adapter = "sql" }, Space{Model: "m"}, nil, 0},
		{"a salt", func(e *events.Event) { e.Salt = "tenant" }, Space{Model: "m", Salt: "tenant"}, nil, 4},
		{"another salt", func(e *events.Event) { e.Salt = "tenant" }, Space{Model: "m", Salt: "other"}, nil, 0},
		{"another scheme", func(*events.Event) {}, Space{Model: "m", Scheme: "theirs"}, nil, 0},
		{"an image", func(e *events.Event) { e.Extras = withImage }, Space{Model: "m"}, image, 4},
		{"an image that only the event has", func(e *events.Event) { e.Extras = withImage }, Space{Model: "m"}, nil, 1},
		{"an image that only the prompt has", func(*events.Event) {}, Space{Model: "m"}, image, 1},
		{"an image elsewhere in the block", func(e *events.Event) { e.Extras = withImage }, Space{Model: "m"}, []blockhash.Item{{ID: "image", Offset: 2, Tokens: 4}}, 1},
		{"embeddings", func(e *events.Event) { e.Extras = []events.Extra{{Block: 2, Kind: events.Embeddings, Value: "digest"}} }, Space{Model: "m"}, nil, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70})
			require.NoError(t, err)
			p := Pod{ID: 3, Generation: 1}
			require.NoError(t, x.Open(p, PodOptions{Model: "m", Revision: "2"}))
			e := stored(77, tokens, 0, 4)
			row.event(&e)
			x.Apply(p, &e)
			row.space.BlockTokens = testBlock
			var m Matches
			x.Match(row.space.Append(nil, tokens, row.items), testBlock, all(64), &m)
			require.Equal(t, row.want, m.Blocks[3])
		})
	}
}

// Where engines give blocks of different spaces the same hash, a removal that does not say which ends all of them.
func TestNameInSeveralSpaces(t *testing.T) {
	x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70})
	require.NoError(t, err)
	p := Pod{ID: 3, Generation: 1}
	require.NoError(t, x.Open(p, PodOptions{Model: "m"}))
	tokens := branch(1, 4)
	salted := Space{Model: "m", Salt: "s", BlockTokens: testBlock}
	for _, salt := range []string{"", "s"} {
		e := stored(77, tokens, 0, 4)
		e.Salt = salt
		x.Apply(p, &e)
	}
	blocks := func(s Space) int32 {
		var m Matches
		x.Match(s.Append(nil, tokens, nil), testBlock, all(64), &m)
		return m.Blocks[3]
	}
	require.EqualValues(t, 4, blocks(space))
	require.EqualValues(t, 4, blocks(salted))
	x.Apply(p, &events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: engine(77, tokens)[2:3]})
	require.EqualValues(t, 2, blocks(space))
	require.EqualValues(t, 2, blocks(salted))
	x.check(t)
}

func TestInspectAndResolve(t *testing.T) {
	x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70})
	require.NoError(t, err)
	p := Pod{ID: 3, Generation: 1}
	require.NoError(t, x.Open(p, PodOptions{Model: "m"}))
	tokens := branch(1, 6)
	chain, names := space.Append(nil, tokens, nil), engine(77, tokens)
	e := stored(77, tokens, 0, 4)
	x.Apply(p, &e)
	x.Apply(p, &events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: names[1:2]})
	require.Equal(t, []Block{
		{Known: true, Held: 1 << GPU, Engine: names[0], HasEngine: true}, {Known: true, Engine: names[1], HasEngine: true},
		{Known: true, Held: 1 << GPU, Engine: names[2], HasEngine: true}, {Known: true, Held: 1 << GPU, Engine: names[3], HasEngine: true},
		{}, {},
	}, x.Inspect(p, chain, nil))
	require.Equal(t, chain[:4], x.Resolve(nil, names))
	require.Equal(t, []Group{{ID: 0, BlockTokens: testBlock}}, x.Groups(p))
}
