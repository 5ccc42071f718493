package kvcache

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Llama-3.1-70B at 400 TFLOP/s: 0.35 ms and 327,680 bytes a token, so that a link of 0.94 GB/s breaks even.
func TestCosts(t *testing.T) {
	c := Costs{Prefill: 350 * time.Microsecond, KVBytes: 327_680}
	breakEven := c.KVBytes / c.Prefill.Seconds()
	require.InDelta(t, .94e9, breakEven, .01e9)
	c.From[CPU] = Link{BytesPerSecond: 50 * breakEven}
	c.From[Disk] = Link{BytesPerSecond: 2 * breakEven, Latency: 35 * time.Millisecond}
	c.From[Remote] = Link{BytesPerSecond: .5 * breakEven}
	require.NoError(t, c.Validate())
	for _, row := range []struct {
		name   string
		tier   Tier
		tokens int
		want   float64
	}{
		{"what the GPU has is free", GPU, 1000, 1000},
		{"so is what will be there", Guessed, 1000, 1000},
		{"CPU memory costs a fiftieth", CPU, 1000, 980},
		{"a disk costs half, and 100 tokens of latency", Disk, 1000, 400},
		{"which too few tokens do not earn back", Disk, 150, 0},
		{"a link that is slower than computing", Remote, 1000, 0},
	} {
		require.InDelta(t, row.want, c.Saved(row.tier, row.tokens), 1e-6, row.name)
	}
	var m Matches
	m.reset(64)
	m.Tiers[GPU][3], m.Tiers[CPU][3], m.Tiers[Remote][3] = 10, 5, 5
	require.InDelta(t, 16*10+16*5*.98, c.Worth(&m, 3, 16), 1e-6)

	c.Prefill, c.KVBytes, c.From[CPU].Latency, c.From[Disk].BytesPerSecond = 0, math.NaN(), -1, math.Inf(1)
	for _, problem := range []string{"prefill 0s", "kv bytes NaN", "from[cpu].latency -1ns", "from[disk].bytes per second +Inf"} {
		require.ErrorContains(t, c.Validate(), problem)
	}
}
