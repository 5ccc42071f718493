package flow

import (
	"fmt"
	"math"
	"time"
)

// Discipline decides whose turn it is among tenants (or groups of them) that wait for the same endpoints: the one with the
// least Share.Tag. It sets tags, and is called under the controller's lock: it must not block. One discipline serves one
// controller.
type Discipline interface {
	// Join prepares the tag of a share that begins to wait. level is where those are that it will wait with: the tag of the
	// last one served, or the least tag of those that wait, if that is less.
	Join(s *Share, level int64)
	// Head says that a share's first request is another one, and where that is in Options.Order.
	Head(s *Share, order int64)
	// Turn is asked when a share has the least tag and its first request would cost so much. Whoever answers false has put the
	// tag back, and is asked again when it is the least.
	Turn(s *Share, cost int64) bool
	// Charge accounts for service: a request's cost when it is dispatched, later the difference to what it turns out to be,
	// which may be negative.
	Charge(s *Share, cost int64, dispatched bool, now time.Time)
	// Prepaid says whether output is charged ahead, as an estimate, or as it is produced.
	Prepaid() bool
}

// Share is what a discipline knows of a tenant, or of a group of tenants. There is one for each priority band.
type Share struct {
	// Tag orders shares. Tags are compared by their difference and may wrap around.
	Tag int64
	// Credit is a discipline's own.
	Credit int64

	perWeight float64 // 1/weight
}

// Scaled is a cost divided by the share's weight.
func (s *Share) Scaled(cost int64) int64 { return int64(float64(cost) * s.perWeight) }

// FairShare is start-time fair queueing (Goyal, Vin, Cheng 1996) on cost: tenants that wait get service in proportion to
// their weights, whatever the sizes of their requests and however fast the endpoints are. It is the default.
//
// A share's tag is the virtual time at which its next request starts. A dispatch moves it on by cost/weight; one that begins
// to wait starts at the virtual time of the others, so nobody saves up service by not asking for it. While two tenants f and g
// both wait in one lane, what they are charged at dispatch satisfies |W_f/w_f − W_g/w_g| ≤ c_f/w_f + c_g/w_g in every
// interval, with c the largest cost of a request of theirs: the one that is served has the least tag, so no tag is ever
// ahead of another by more than its own last step.
type FairShare struct{}

// Join implements Discipline.
func (FairShare) Join(s *Share, level int64) { s.Tag = later(s.Tag, level) }

// Head implements Discipline.
func (FairShare) Head(*Share, int64) {}

// Turn implements Discipline.
func (FairShare) Turn(*Share, int64) bool { return true }

// Charge implements Discipline.
func (FairShare) Charge(s *Share, cost int64, _ bool, _ time.Time) { s.Tag += s.Scaled(cost) }

// Prepaid implements Discipline.
func (FairShare) Prepaid() bool { return true }

// VTC is the virtual token counter (Sheng et al. 2024): FairShare that charges the prompt at dispatch and output as it is
// produced. It needs no estimate, and lets a tenant with long answers get ahead by what it has in flight.
type VTC struct{ FairShare }

// Prepaid implements Discipline.
func (VTC) Prepaid() bool { return false }

// RoundRobin gives tenants turns, as many as their weight says, whatever the requests cost.
type RoundRobin struct{ FairShare }

// Charge implements Discipline.
func (RoundRobin) Charge(s *Share, _ int64, dispatched bool, _ time.Time) {
	if dispatched {
		s.Tag += s.Scaled(tokenCost)
	}
}

// DRR is deficit round robin (Shreedhar, Varghese 1995): each round a tenant may spend its quantum times its weight, and
// what it does not spend it keeps while it waits.
type DRR struct {
	// Quantum is in tokens of cost; 0 means 4096.
	Quantum int `json:"quantum,omitempty"`
}

// Validate reports a parameter that makes no sense.
func (d DRR) Validate() error {
	if d.Quantum < 0 {
		return fmt.Errorf("quantum %d: negative", d.Quantum)
	}
	return nil
}

// Join implements Discipline. The tag is the number of the round.
func (d DRR) Join(s *Share, level int64) { s.Tag, s.Credit = later(s.Tag, level), min(s.Credit, 0) }

// Head implements Discipline.
func (DRR) Head(*Share, int64) {}

// Turn implements Discipline.
func (d DRR) Turn(s *Share, cost int64) bool {
	if s.Credit >= cost {
		return true
	}
	quantum := int64(d.Quantum)
	if quantum == 0 {
		quantum = 4096
	}
	allowance := max(1, int64(float64(quantum*tokenCost)/s.perWeight))
	rounds := (cost - s.Credit + allowance - 1) / allowance
	s.Credit += rounds * allowance
	s.Tag += rounds
	return false
}

// Charge implements Discipline.
func (DRR) Charge(s *Share, cost int64, _ bool, _ time.Time) { s.Credit -= cost }

// Prepaid implements Discipline.
func (DRR) Prepaid() bool { return true }

// LeastAttained serves the tenant that has received the least service for its weight, of late: service counts half after
// each HalfLife. Tenants that were idle come first until they have caught up.
type LeastAttained struct {
	// HalfLife 0 means a minute.
	HalfLife time.Duration `json:"halfLife,omitempty"`
	// epoch is when service counted once; what came later counts for more, which orders shares like decay of what came
	// before.
	epoch time.Time
}

// Join implements Discipline.
func (*LeastAttained) Join(*Share, int64) {}

// Head implements Discipline.
func (*LeastAttained) Head(*Share, int64) {}

// Turn implements Discipline.
func (*LeastAttained) Turn(*Share, int64) bool { return true }

// Charge implements Discipline.
func (l *LeastAttained) Charge(s *Share, cost int64, _ bool, now time.Time) {
	if l.epoch.IsZero() {
		l.epoch = now
	}
	half := l.HalfLife
	if half == 0 {
		half = time.Minute
	}
	// log₂ of the sum of 2^Tag' and cost·2^(t/half): tags are logarithms, in units of 2⁻³², so that they never overflow.
	const unit = 1 << 32
	age := float64(now.Sub(l.epoch)) / float64(half)
	held := float64(s.Tag)/unit - age
	sum := math.Exp2(min(held, 1000)) + float64(s.Scaled(cost))
	if s.Tag == 0 {
		sum-- // nothing was held
	}
	s.Tag = int64((math.Log2(max(sum, 1)) + age) * unit)
}

// Prepaid implements Discipline.
func (*LeastAttained) Prepaid() bool { return true }

// Strict serves the request that is first in Options.Order, whoever sent it: with FirstCome one queue for all.
type Strict struct{}

// Join implements Discipline.
func (Strict) Join(*Share, int64) {}

// Head implements Discipline.
func (Strict) Head(s *Share, order int64) { s.Tag = order }

// Turn implements Discipline.
func (Strict) Turn(*Share, int64) bool { return true }

// Charge implements Discipline.
func (Strict) Charge(*Share, int64, bool, time.Time) {}

// Prepaid implements Discipline.
func (Strict) Prepaid() bool { return true }

func later(a, b int64) int64 {
	if a-b < 0 {
		return b
	}
	return a
}

// Order is how the requests of one tenant follow each other.
type Order uint8

// The orders of a tenant's requests.
const (
	// FirstCome is the order of arrival.
	FirstCome Order = iota
	// EarliestDeadline puts first what expires first: by the caller's deadline or the TTL.
	EarliestDeadline
	// ObjectiveDeadline puts first whose TTFT objective is due first; what has none comes last.
	ObjectiveDeadline
	// ShortestFirst puts first what costs least.
	ShortestFirst
)

var orderNames = [...]string{"firstCome", "earliestDeadline", "objectiveDeadline", "shortestFirst"}

func (o Order) String() string {
	if int(o) < len(orderNames) {
		return orderNames[o]
	}
	return fmt.Sprintf("order(%d)", uint8(o))
}

// MarshalText implements encoding.TextMarshaler.
func (o Order) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Order) UnmarshalText(text []byte) error {
	for i, name := range orderNames {
		if string(text) == name {
			*o = Order(i)
			return nil
		}
	}
	return fmt.Errorf("order %q: want one of %q", text, orderNames)
}
