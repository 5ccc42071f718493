package redisindex

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Pod writes what one publisher's events say. It is an events.Sink: one call at a time.
type Pod struct {
	index       *Index
	ctx         context.Context
	model, name string

	generation string
	stale      bool // something is missing: nothing is claimed until a new generation is in place

	mu     sync.Mutex
	health Health
}

// Health is what a Pod has done since it was opened.
type Health struct {
	Stored, Removed uint64 // blocks written
	PassedOver      uint64 // events of sparse cache groups, of blocks elsewhere, or without hashes
	Failures        uint64 // writes that failed
	Restarts        uint64 // generations after the first
	LastError       error
}

// Open begins a new generation of a pod, which holds nothing yet. If Redis does not answer, that is done with the first batch.
// Writes end when the context does.
func (x *Index) Open(ctx context.Context, model, pod string) (*Pod, error) {
	if err := errors.Join(checkName("model", model), checkName("pod", pod)); err != nil {
		return nil, err
	}
	p := &Pod{index: x, ctx: ctx, model: model, name: pod}
	if err := p.begin(); err != nil {
		p.stale = true
		p.note(func(h *Health) { h.Failures++; h.LastError = err })
	}
	return p, nil
}

// Close takes the pod out of the index.
func (p *Pod) Close() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.index.o.Timeout)
	defer cancel()
	return p.index.Remove(ctx, p.model, p.name)
}

// begin gives the pod a number that no pod has ever had.
func (p *Pod) begin() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.index.o.Timeout)
	defer cancel()
	n, err := p.index.o.Client.Incr(ctx, p.index.o.Prefix+":g").Result()
	if err == nil {
		p.generation = strconv.FormatInt(n, 10)
		err = p.index.o.Client.HSet(ctx, p.index.pods(p.model), p.name, p.generation).Err()
	}
	if err != nil {
		return fmt.Errorf("redisindex: open %q: %w", p.name, err)
	}
	p.stale = false
	return nil
}

// Health is safe for concurrent use.
func (p *Pod) Health() Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.health
}

func (p *Pod) note(f func(*Health)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.health)
}

// restart forgets all that the pod holds.
func (p *Pod) restart() bool {
	if err := p.begin(); err != nil {
		p.stale = true
		p.note(func(h *Health) { h.Failures++; h.LastError = err })
		return false
	}
	p.note(func(h *Health) { h.Restarts++ })
	return true
}

// Lost implements events.Sink: what is held is no longer certain, so it is forgotten.
func (p *Pod) Lost(events.Loss) { p.restart() }

// Apply implements events.Sink. It returns when Redis has answered, or not answered in time.
func (p *Pod) Apply(m *events.Message) {
	if p.stale && !p.restart() {
		return
	}
	var pipe redis.Pipeliner
	var h Health
	send := func() {
		if pipe == nil {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, p.index.o.Timeout)
		defer cancel()
		if _, err := pipe.Exec(ctx); err != nil {
			p.stale = true
			h.Failures++
			h.LastError = err
		}
		pipe = nil
	}
	for i := range m.Batch.Events {
		e := &m.Batch.Events[i]
		if e.Kind == events.Cleared {
			send()
			if !p.restart() {
				break
			}
			continue
		}
		if len(e.Hashes) == 0 || e.Locality >= events.Elsewhere || !whole(e.Attention) {
			h.PassedOver++
			continue
		}
		if pipe == nil {
			pipe = p.index.o.Client.Pipeline()
		}
		field := appendField(p.name, e.Tier)
		for _, hash := range e.Hashes {
			key := p.index.block(p.model, hash)
			if e.Kind == events.Stored {
				pipe.HSet(p.ctx, key, field, p.generation)
				pipe.Expire(p.ctx, key, p.index.o.TTL)
			} else {
				pipe.HDel(p.ctx, key, field)
			}
		}
		if e.Kind == events.Stored {
			h.Stored += uint64(len(e.Hashes))
		} else {
			h.Removed += uint64(len(e.Hashes))
		}
	}
	send()
	p.note(func(total *Health) {
		total.Stored += h.Stored
		total.Removed += h.Removed
		total.PassedOver += h.PassedOver
		total.Failures += h.Failures
		if h.LastError != nil {
			total.LastError = h.LastError
		}
	})
}

// whole reports whether a cache group holds every block of a prefix. Events of models of one group do not say.
func whole(a events.Attention) bool {
	switch a {
	case events.UnspecifiedAttention, events.FullAttention, events.MLAAttention, events.SinkFull:
		return true
	}
	return false
}
