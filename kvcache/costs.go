package kvcache

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Costs say what it takes to load a prefix from a tier instead of computing it. Loading n tokens from a tier pays if
//
//	Latency + n * KVBytes / BytesPerSecond < n * Prefill
//
// Prefill is what a performance model says of the engine (package accel: the time of a prefill over its tokens), and KVBytes what
// the model's architecture does (accel.Model.KVBytesPerToken).
type Costs struct {
	// Prefill is the time to compute a token of a prompt.
	Prefill time.Duration
	// KVBytes is the size of a token's keys and values in all layers.
	KVBytes float64
	// From is by Tier. The zero Link is free, as GPU and Guessed are.
	From [Tiers]Link
}

// Link is how a tier is read.
type Link struct {
	Latency        time.Duration
	BytesPerSecond float64 // 0 for no limit
}

// Validate reports every problem.
func (c *Costs) Validate() error {
	var problems []error
	if c.Prefill <= 0 {
		problems = append(problems, fmt.Errorf("prefill %v: want more than 0", c.Prefill))
	}
	if !(c.KVBytes >= 0) || math.IsInf(c.KVBytes, 0) {
		problems = append(problems, fmt.Errorf("kv bytes %v: want 0 or more", c.KVBytes))
	}
	for t, l := range c.From {
		if l.Latency < 0 {
			problems = append(problems, fmt.Errorf("from[%v].latency %v: negative", Tier(t), l.Latency))
		}
		if !(l.BytesPerSecond >= 0) || math.IsInf(l.BytesPerSecond, 0) {
			problems = append(problems, fmt.Errorf("from[%v].bytes per second %v: want 0 or more", Tier(t), l.BytesPerSecond))
		}
	}
	return errors.Join(problems...)
}

// Saved is how many tokens need not be computed by having some in a tier: those that could have been computed while they are loaded
// do not count. It is 0 where loading does not pay.
func (c *Costs) Saved(t Tier, tokens int) float64 {
	l := &c.From[t]
	load := l.Latency.Seconds()
	if l.BytesPerSecond > 0 {
		load += float64(tokens) * c.KVBytes / l.BytesPerSecond
	}
	return max(0, float64(tokens)-load/c.Prefill.Seconds())
}

// Worth is how many tokens a pod need not compute of a prompt that was matched.
func (c *Costs) Worth(m *Matches, id uint32, blockTokens int) float64 {
	sum := 0.0
	for t := range Tier(Tiers) {
		if n := m.Tiers[t][id]; n > 0 {
			sum += c.Saved(t, int(n)*blockTokens)
		}
	}
	return sum
}
