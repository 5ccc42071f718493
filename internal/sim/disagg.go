package sim

import (
	"cmp"
	"fmt"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Disagg separates prefill from decode. The decode endpoint is picked first, by Config.Policy among those that take
// scheduling.Decode. If the decider says so, another is picked among those that take scheduling.Prefill; it computes the
// prompt, its KV blocks are transferred, and the decode endpoint goes on from there. Both reservations are held from the
// picks on. The client gets its first token from the decode endpoint.
type Disagg struct {
	// Policy picks prefill endpoints; without one it is Config.Policy.
	Policy Policy
	// New makes the decider of a run; nil means SplitAbove{}.
	New func(Env) (Decider, error)
	// KVBytesPerToken is the size of a token's KV; 0 means 131,072 (32 layers, 8 KV heads of 128, 2 bytes).
	KVBytesPerToken float64
	// LinkBytesPerSecond is the bandwidth of each endpoint's link; 0 means 50e9, a 400 Gbit/s NIC. LinkLatency is added to each
	// transfer; 0 means 1 ms. A link makes one transfer at a time, the others queue.
	LinkBytesPerSecond float64
	LinkLatency        time.Duration
}

// Decider says whether a request's prompt is prefilled elsewhere than it is decoded.
type Decider interface {
	// Split is asked once the decode endpoint is chosen; decode says which it is and what it has cached.
	Split(r *scheduling.Request, decode *scheduling.Decision) bool
}

// SplitAbove splits requests with more than so many prompt tokens that the decode endpoint does not have cached.
type SplitAbove struct {
	Tokens int
}

// Split implements Decider.
func (s SplitAbove) Split(r *scheduling.Request, decode *scheduling.Decision) bool {
	return r.Prompt.Len()-decode.CachedTokens > s.Tokens
}

func (d Disagg) withDefaults() Disagg {
	d.KVBytesPerToken = cmp.Or(d.KVBytesPerToken, 131_072)
	d.LinkBytesPerSecond = cmp.Or(d.LinkBytesPerSecond, 50e9)
	d.LinkLatency = cmp.Or(d.LinkLatency, time.Millisecond)
	if d.New == nil {
		d.New = func(Env) (Decider, error) { return SplitAbove{}, nil }
	}
	return d
}

func (d *Disagg) validate(p *problems) {
	p.positive("Disagg.KVBytesPerToken", d.KVBytesPerToken)
	p.positive("Disagg.LinkBytesPerSecond", d.LinkBytesPerSecond)
	p.notNegative("Disagg.LinkLatency", d.LinkLatency)
}

func (r *run) startDisagg() error {
	d := r.c.Disagg
	if d == nil {
		return nil
	}
	policy := d.Policy
	if policy.New == nil {
		policy = r.c.Policy
	}
	var err error
	if r.prefillers, _, err = r.scheduler(policy, r.pool, scheduling.Prefill, nil); err != nil {
		return fmt.Errorf("Disagg.Policy: %w", err)
	}
	if r.decider, err = d.New(r.env()); err != nil {
		return fmt.Errorf("Disagg: %w", err)
	}
	return nil
}

// transfer moves a prompt's KV from where it was prefilled to where it is decoded, and goes on there. If its source crashes
// meanwhile, the decode endpoint computes the prompt itself.
func (r *run) transfer(q *request) {
	d := r.c.Disagg
	from, to := q.prefiller, q.node
	want := q.engineRequest(to)
	bytes := float64(q.PromptTokens-to.engine.Cached(&want)) * d.KVBytesPerToken
	start := max(r.now, from.linkFree, to.linkFree)
	end := start + d.LinkLatency + time.Duration(bytes/d.LinkBytesPerSecond*float64(time.Second))
	from.linkFree, to.linkFree = end, end
	r.result.Transfers++
	r.result.TransferBytes += bytes
	r.result.TransferWait += start - r.now
	q.leg = moving
	serial, crashes := q.serial, from.crashes
	r.at(end, func() {
		if q.serial != serial {
			return
		}
		q.leg = decoding
		if from.crashes != crashes {
			q.leg = whole
		}
		r.submit(q)
	})
}
