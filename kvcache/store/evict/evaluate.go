package evict

import (
	"fmt"
	"iter"
)

// Block is one block of a request's prompt.
type Block struct {
	ID ID
	// Bytes is its size in the store and Cost the seconds to compute it when all before it are there.
	Bytes int64
	Cost  float64
}

// Result is what a store of one size under one policy would have done for a trace.
type Result struct {
	Requests int
	// Blocks are those of all prompts, Hits those of them that the store had together with all before them: a block after
	// a gap saves nothing.
	Blocks, Hits int
	// LoadedBytes are of hits, StoredBytes of blocks that were written.
	LoadedBytes, StoredBytes int64
	// SavedSeconds is what computing the hits again would have taken, TotalSeconds that of all blocks.
	SavedSeconds, TotalSeconds float64
	Evictions                  int
	// Orphaned counts blocks that were resident without the block before them when a request looked for both.
	Orphaned int
}

// HitRatio is the part of all blocks that were hits.
func (r Result) HitRatio() float64 { return float64(r.Hits) / max(float64(r.Blocks), 1) }

// MovedBytes is what was read and written.
func (r Result) MovedBytes() int64 { return r.LoadedBytes + r.StoredBytes }

// Evaluate replays prompts, each a chain of blocks from the first on, against a store of a capacity. A prompt's blocks are used
// from the last to the first, as engines release them, so that the beginning of a prefix is always the more recent; they
// are not evicted while the prompt runs. Of a prompt that is larger than the store the beginning is kept.
func Evaluate(k Kind, capacityBytes int64, prompts iter.Seq[[]Block]) (Result, error) {
	p, err := New(k, capacityBytes)
	if err != nil {
		return Result{}, err
	}
	var r Result
	resident := map[ID]int64{}
	used := int64(0)
	running := map[ID]bool{}
	isRunning := func(id ID) bool { return running[id] }
	for prompt := range prompts {
		r.Requests++
		hits, whole, fits, bytes := 0, true, 0, int64(0)
		clear(running)
		for _, b := range prompt {
			if b.Bytes <= 0 {
				return r, fmt.Errorf("request %d: block of %d bytes", r.Requests, b.Bytes)
			}
			_, ok := resident[b.ID]
			if ok && !whole {
				r.Orphaned++
			}
			if whole = whole && ok; whole {
				hits++
				r.LoadedBytes += b.Bytes
				r.SavedSeconds += b.Cost
			}
			r.TotalSeconds += b.Cost
			if bytes += b.Bytes; bytes <= capacityBytes {
				fits++
				running[b.ID] = true
			}
		}
		r.Blocks += len(prompt)
		r.Hits += hits
		for i := fits - 1; i >= 0; i-- {
			b := prompt[i]
			if _, ok := resident[b.ID]; ok {
				p.Hit(b.ID)
				continue
			}
			for used+b.Bytes > capacityBytes {
				id, ok := p.Evict(isRunning)
				if !ok {
					return r, fmt.Errorf("request %d: %v evicts nothing of %d pages", r.Requests, k, p.Len())
				}
				used -= resident[id]
				delete(resident, id)
				r.Evictions++
			}
			m := Meta{Bytes: b.Bytes, Depth: i, Cost: b.Cost}
			if i > 0 {
				m.Parent, m.HasParent = prompt[i-1].ID, true
			}
			p.Add(b.ID, m)
			resident[b.ID] = b.Bytes
			used += b.Bytes
			r.StoredBytes += b.Bytes
		}
	}
	return r, nil
}
