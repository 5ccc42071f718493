package flow

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Adaptive finds for each endpoint how many requests it can take at once before they wait for each other, from the time to the
// first token alone. It compares each with the least that a prompt of about that many uncached tokens took on the endpoint of
// late: while the ratio stays small and the limit is used, the limit grows by one for each limit's worth of answers; when it
// does not, it shrinks by a tenth (additive increase, multiplicative decrease, Chiu and Jain 1989). The zero value needs no
// tuning.
type Adaptive struct {
	// Min and Max bound the limit, and Start is where it begins; 0 means 1, 1024 and 16.
	Min   int `json:"min,omitempty"`
	Max   int `json:"max,omitempty"`
	Start int `json:"start,omitempty"`
	// Tolerance is how many times the least TTFT is borne; 0 means 2.
	Tolerance float64 `json:"tolerance,omitempty"`

	table atomic.Pointer[[]*pace] // by slot
	mu    sync.Mutex              // held while the table is replaced
}

// pace is what was learned of one endpoint.
type pace struct {
	generation uint32
	limited    atomic.Int64 // the limit

	mu    sync.Mutex
	limit float64
	least [24]float64 // seconds, by the length of the uncached prompt in powers of two; 0 where none was seen
	ratio float64     // of late
	since float64     // answers since the limit last changed
}

func (a *Adaptive) validate(p *problems) {
	p.notNegative("adaptive.min", int64(a.Min))
	p.notNegative("adaptive.max", int64(a.Max))
	p.notNegative("adaptive.start", int64(a.Start))
	if a.Max > 0 && a.Min > a.Max {
		p.add("adaptive.min %d: above max, %d", a.Min, a.Max)
	}
	if a.Tolerance != 0 && !(a.Tolerance > 1) || math.IsInf(a.Tolerance, 0) {
		p.add("adaptive.tolerance %v: want more than 1", a.Tolerance)
	}
}

func or(v, otherwise int) float64 {
	if v == 0 {
		return float64(otherwise)
	}
	return float64(v)
}

func (a *Adaptive) bounded(limit float64) float64 {
	return min(max(limit, or(a.Min, 1)), or(a.Max, 1024))
}

// limit is how many requests an endpoint may have.
func (a *Adaptive) limit(slot scheduling.Slot, generation uint32) int {
	if t := a.table.Load(); t != nil && int(slot) < len(*t) {
		if p := (*t)[slot]; p != nil && p.generation == generation {
			return int(p.limited.Load())
		}
	}
	return int(a.bounded(or(a.Start, 16)))
}

// observe takes in the time to the first token of a request with so many uncached prompt tokens, which shared the endpoint
// with others when it came. It reports whether the limit grew.
func (a *Adaptive) observe(slot scheduling.Slot, generation uint32, uncached, inFlight int, ttft time.Duration) bool {
	p := a.pace(slot, generation)
	p.mu.Lock()
	defer p.mu.Unlock()
	took := max(ttft.Seconds(), 1e-6)
	least := &p.least[min(bits.Len(uint(max(uncached, 1))), len(p.least)-1)]
	// The least is forgotten at a rate that a change of the endpoint is noticed within some hundred answers.
	if *least == 0 || took < *least {
		*least = took
	} else {
		*least *= 1 + 1.0/1024
	}
	p.ratio += (took / *least - p.ratio) / min(p.since+2, 16)
	p.since++
	tolerance := a.Tolerance
	if tolerance == 0 {
		tolerance = 2
	}
	was := int64(p.limit)
	switch {
	case p.since < min(p.limit, 16):
	case p.ratio > tolerance:
		p.limit = a.bounded(0.9 * p.limit)
		p.since, p.ratio = 0, 1
	case p.since >= p.limit && float64(inFlight) >= p.limit/2:
		p.limit = a.bounded(p.limit + 1)
		p.since = 0
	}
	p.limited.Store(int64(p.limit))
	return int64(p.limit) > was
}

func (a *Adaptive) pace(slot scheduling.Slot, generation uint32) *pace {
	if t := a.table.Load(); t != nil && int(slot) < len(*t) {
		if p := (*t)[slot]; p != nil && p.generation == generation {
			return p
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var table []*pace
	if t := a.table.Load(); t != nil {
		table = append(table, *t...)
	}
	for int(slot) >= len(table) {
		table = append(table, nil)
	}
	if p := table[slot]; p != nil && p.generation == generation {
		return p
	}
	p := &pace{generation: generation, limit: a.bounded(or(a.Start, 16)), ratio: 1}
	p.limited.Store(int64(p.limit))
	table[slot] = p
	a.table.Store(&table)
	return p
}
