package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Gate decides when a request may be placed: it is where flow control plugs in. The simulator calls it from one goroutine
// and never waits for it: a gate that holds a request back lets it go in a later call.
type Gate interface {
	// Acquire asks for a request to be placed. The gate calls grant exactly once, now or during a later call of any of its
	// methods: with nil when the request may go on, with an error to refuse it.
	Acquire(now time.Duration, r *scheduling.Request, grant func(error))
	// Release says that a request that went on has ended.
	Release(now time.Duration, r *scheduling.Request)
	// NextChange is when the gate wants to be advanced, as for the deadline of one that it holds; false if it does not.
	NextChange() (time.Duration, bool)
	// Advance does what is due.
	Advance(now time.Duration)
}

// ErrHeldTooLong is given by LimitGate to requests that it held for MaxWait.
var ErrHeldTooLong = errors.New("held back for too long")

// LimitGate is the simplest gate that holds back: at most Max requests are placed at a time, the others wait first come,
// first served, and are refused after MaxWait.
type LimitGate struct {
	max     int
	maxWait time.Duration // 0: no bound
	placed  int
	held    []heldRequest
}

type heldRequest struct {
	until time.Duration
	grant func(error)
}

// NewLimitGate makes a gate; maxWait 0 means that nobody is refused.
func NewLimitGate(max int, maxWait time.Duration) (*LimitGate, error) {
	if max < 1 || maxWait < 0 {
		return nil, fmt.Errorf("gate: max is %d and maxWait %v, want at least 1 and 0", max, maxWait)
	}
	return &LimitGate{max: max, maxWait: maxWait}, nil
}

// Acquire implements Gate.
func (g *LimitGate) Acquire(now time.Duration, _ *scheduling.Request, grant func(error)) {
	if g.placed == g.max {
		g.held = append(g.held, heldRequest{now + g.maxWait, grant})
		return
	}
	g.placed++
	grant(nil)
}

// Release implements Gate.
func (g *LimitGate) Release(time.Duration, *scheduling.Request) {
	if len(g.held) == 0 {
		g.placed--
		return
	}
	next := g.held[0]
	g.held = g.held[1:]
	next.grant(nil)
}

// NextChange implements Gate.
func (g *LimitGate) NextChange() (time.Duration, bool) {
	if g.maxWait == 0 || len(g.held) == 0 {
		return 0, false
	}
	return g.held[0].until, true
}

// Advance implements Gate.
func (g *LimitGate) Advance(now time.Duration) {
	for g.maxWait > 0 && len(g.held) > 0 && g.held[0].until <= now {
		next := g.held[0]
		g.held = g.held[1:]
		next.grant(ErrHeldTooLong)
	}
}
