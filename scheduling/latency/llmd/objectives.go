package llmd

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Headers that carry objectives in milliseconds, and their older names.
const (
	TTFTHeader    = "X-Llm-D-Slo-Ttft-Ms"
	TPOTHeader    = "X-Llm-D-Slo-Tpot-Ms"
	OldTTFTHeader = "X-Slo-Ttft-Ms"
	OldTPOTHeader = "X-Slo-Tpot-Ms"
)

// Objectives reads a request's objectives from its headers. One that is missing or is no positive number is 0.
func Objectives(header func(name string) string) (ttft, tpot time.Duration) {
	return milliseconds(header(TTFTHeader), header(OldTTFTHeader)), milliseconds(header(TPOTHeader), header(OldTPOTHeader))
}

func milliseconds(value, old string) time.Duration {
	if value == "" {
		value = old
	}
	ms, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ms > 0) || ms > math.MaxInt64/1e6 {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// Running remembers the TPOT objectives of the requests that are in flight on each endpoint, for the strictest of them bounds
// what a further request may do there. It learns of new ones as a Committer, and must be told with Ended when one ends; gateway
// does so for a Learner that has that method. It is safe for concurrent use.
type Running struct {
	mu     sync.Mutex
	bySlot map[scheduling.Slot]objectives
}

type objectives struct {
	generation uint32
	tpots      []time.Duration // ascending
}

// NewRunning returns one that knows of no requests.
func NewRunning() *Running { return &Running{bySlot: map[scheduling.Slot]objectives{}} }

// Produce implements scheduling.Producer, so that Running can be in a profile.
func (r *Running) Produce(*scheduling.Cycle) {}

// Commit implements scheduling.Committer.
func (r *Running) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	tpot := c.Request.TPOT
	if tpot <= 0 || !c.Prediction(chosen).Known() {
		return // Ended would not be told of it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.bySlot[chosen]
	if generation := c.Snapshot.Generation(chosen); o.generation != generation {
		o = objectives{generation, o.tpots[:0]}
	}
	at, _ := slices.BinarySearch(o.tpots, tpot)
	o.tpots = slices.Insert(o.tpots, at, tpot)
	r.bySlot[chosen] = o
}

// Ended tells that a request is no longer in flight where p was predicted for it.
func (r *Running) Ended(request *scheduling.Request, p *scheduling.Prediction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.bySlot[p.Basis.Slot]
	if !ok || o.generation != p.Basis.Generation {
		return
	}
	if at, found := slices.BinarySearch(o.tpots, request.TPOT); found {
		o.tpots = slices.Delete(o.tpots, at, at+1)
		r.bySlot[p.Basis.Slot] = o
	}
}

// strictest returns the least objective in flight on a slot; 0 where there is none.
func (r *Running) strictest(slot scheduling.Slot, generation uint32) time.Duration {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.bySlot[slot]; o.generation == generation && len(o.tpots) > 0 {
		return o.tpots[0]
	}
	return 0
}

// SLO is how headroom is measured. The zero value works.
type SLO struct {
	// BufferFactor is what TPOT objectives are multiplied with; 0 means 1.
	BufferFactor float64 `json:"sloBufferFactor,omitempty"`
	// Running bounds TPOT objectives by those of the requests in flight; nil means that they are not.
	Running *Running `json:"-"`
}

// headroom is how far below the objectives the predictions are, in milliseconds.
type headroom struct {
	ttft, tpot           float64
	ttftValid, tpotValid bool // the objective is met
}

// of returns an endpoint's headroom; false where nothing is predicted.
func (s SLO) of(c *scheduling.Cycle, slot scheduling.Slot) (headroom, bool) {
	p := c.Prediction(slot)
	if !p.Known() {
		return headroom{}, false
	}
	ms := func(seconds float64) float64 { return 1000 * seconds }
	objective := ms(c.Request.TTFT.Seconds())
	h := headroom{ttft: objective - ms(p.TTFT), ttftValid: ms(p.TTFT) < objective}
	if p.TPOT == 0 || c.Endpoint(slot).Role == scheduling.Prefill {
		h.tpotValid = true // nobody sees it decode
		return h, true
	}
	factor := s.BufferFactor
	if factor == 0 {
		factor = 1
	}
	buffered := factor * ms(c.Request.TPOT.Seconds())
	if least := s.Running.strictest(slot, c.Snapshot.Generation(slot)); least > 0 {
		buffered = min(buffered, factor*ms(least.Seconds()))
	}
	h.tpot, h.tpotValid = buffered-ms(p.TPOT), ms(p.TPOT) < buffered
	return h, true
}
