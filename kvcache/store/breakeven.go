package store

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/accel"
)

// Recompute is the time that an accelerator takes to prefill a number of tokens when the KV of those before them is there.
type Recompute func(cachedTokens, tokens int) time.Duration

// PrefillTime makes a Recompute of a performance model, for prompts of up to maxTokens. The model is asked once, at 257 lengths; the
// function interpolates and allocates nothing.
func PrefillTime(p *accel.Prepared, maxTokens int) (Recompute, error) {
	if maxTokens < 1 {
		return nil, fmt.Errorf("maxTokens is %d, want at least 1", maxTokens)
	}
	const points = 256
	step := (maxTokens + points - 1) / points
	prefill := func(tokens int) (time.Duration, error) {
		e, err := p.Estimate(accel.Workload{InputTokens: tokens, OutputTokens: 1, Concurrency: 1})
		return e.Prefill, err
	}
	// What even one token takes is paid once for each prefill.
	once, err := prefill(1)
	if err != nil {
		return nil, err
	}
	var from [points + 1]time.Duration
	for i := 1; i <= points; i++ {
		t, err := prefill(i * step)
		if err != nil {
			return nil, fmt.Errorf("prefill of %d tokens: %w", i*step, err)
		}
		from[i] = max(t-once, from[i-1])
	}
	upTo := func(tokens int) time.Duration {
		tokens = min(max(tokens, 0), points*step)
		i := tokens / step
		if i == points {
			return from[i]
		}
		return from[i] + (from[i+1]-from[i])*time.Duration(tokens-i*step)/time.Duration(step)
	}
	return func(cached, tokens int) time.Duration {
		if tokens <= 0 {
			return 0
		}
		return once + upTo(cached+tokens) - upTo(cached)
	}, nil
}

// Residence is where a block of a prefix can be loaded from. Reads is a level's LevelStats.Reads.
type Residence struct {
	Reads  Speed
	Bytes  int64
	Tokens int
}

// Decision is what to do with a prompt whose first blocks are in a store.
type Decision struct {
	// Load is how many of the blocks to load; the rest of the prompt is computed.
	Load int
	// LoadTime and ComputeTime are of this decision; ComputeAll is what loading nothing takes.
	LoadTime, ComputeTime, ComputeAll time.Duration
}

// Saved is the time that the decision saves.
func (d Decision) Saved() time.Duration { return d.ComputeAll - d.LoadTime - d.ComputeTime }

// LoadOrRecompute finds how many of a prompt's resident blocks to load before the rest of its tokens is computed, so that both
// together take the least time. For n blocks of b bytes each, loading wins over computing if
//
//	latency + n*b/bandwidth < time to prefill n blocks
//
// where attention makes the right side grow faster than the number of tokens. Blocks of one speed that follow each other share
// one latency, as they are read together; loading and computing are not overlapped. A block whose level was not measured is
// not loaded, nor is what comes after it. A prompt's last token is always computed: it gives the first token of the answer.
func LoadOrRecompute(blocks []Residence, promptTokens int, recompute Recompute) Decision {
	d := Decision{ComputeAll: recompute(0, promptTokens)}
	d.ComputeTime = d.ComputeAll
	load, cached := time.Duration(0), 0
	bytes := int64(0) // of the run of blocks of one speed
	before := time.Duration(0)
	for i, b := range blocks {
		if i == 0 || b.Reads != blocks[i-1].Reads {
			before, bytes = load, 0
		}
		bytes += b.Bytes
		t, ok := b.Reads.Time(bytes)
		if cached += b.Tokens; !ok || cached > promptTokens {
			break
		}
		load = before + t
		// What is left is at least the last token.
		compute := recompute(min(cached, promptTokens-1), max(promptTokens-cached, 1))
		if load+compute < d.LoadTime+d.ComputeTime {
			d.Load, d.LoadTime, d.ComputeTime = i+1, load, compute
		}
	}
	return d
}

// BreakEvenTokens is the least number of tokens for which loading a prefix is faster than computing it, up to most; ok is false
// if there is none, or the speed was not measured.
func BreakEvenTokens(reads Speed, bytesPerToken float64, recompute Recompute, most int) (tokens int, ok bool) {
	for n := 1; n <= most; n += max(n/64, 1) {
		t, measured := reads.Time(int64(float64(n) * bytesPerToken))
		if measured && t < recompute(0, n) {
			return n, true
		}
	}
	return 0, false
}
