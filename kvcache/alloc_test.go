//go:build !race

// The race detector makes sync.Pool drop what it is given, at random.

package kvcache

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/events"
)

func TestApplyDoesNotAllocate(t *testing.T) {
	x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70})
	require.NoError(t, err)
	p := Pod{ID: 3, Generation: 1}
	require.NoError(t, x.Open(p, PodOptions{Model: "m", Capacity: 1000}))
	tokens := branch(1, 64)
	chain := space.Append(nil, tokens, nil)
	batch := &events.Batch{Events: []events.Event{
		stored(77, tokens, 0, 32), stored(77, tokens, 32, 64),
		{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: engine(77, tokens)},
	}}
	sequence := uint64(0)
	var m Matches
	among := all(64)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		sequence++
		x.ApplyBatch(p, sequence, batch)
		x.Speculate(p, chain)
		x.Match(chain, testBlock, among, &m)
	}))
}
