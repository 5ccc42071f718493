package scheduling

import (
	"math"
	"slices"
	"sync/atomic"
)

// Follower is told what becomes of a reservation, after the ledger shows it, on the goroutine that made the call. Calls for one
// reservation do not overlap, and must not use it. Flow control accounts for tenants by them.
type Follower interface {
	// FirstToken says that the prefill is over, on the endpoint in slot. It may come more than once.
	FirstToken(slot Slot)
	// Tokens says that n more output tokens came.
	Tokens(n int)
	// Done says that the reservation has ended; it comes once, and last.
	Done()
}

// Follow makes f the follower of the reservation. A reservation has one at most: that of the last call.
func (r Reservation) Follow(f Follower) {
	if a := r.open(); a != nil {
		a.follower = f
		a.mu.Unlock()
	}
}

// AnySlot stands for all of a pool's slots.
const AnySlot Slot = math.MaxUint32

// listeners are who wants to know about room. The list is replaced, never changed.
type listeners struct{ list atomic.Pointer[[]*func(Slot)] }

// Notify has f called whenever there can be more room for requests than before: with the slot once a reservation, or the
// prefill of one, has ended; with AnySlot once endpoints came, went or changed, or metrics were reported. Calls come on the
// goroutine that made the change, outside of all locks, and may come at the same time. stop ends that.
func (p *Pool) Notify(f func(Slot)) (stop func()) {
	mine := &f
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners.set(func(l []*func(Slot)) []*func(Slot) { return append(slices.Clone(l), mine) })
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.listeners.set(func(l []*func(Slot)) []*func(Slot) {
			return slices.DeleteFunc(slices.Clone(l), func(f *func(Slot)) bool { return f == mine })
		})
	}
}

func (l *listeners) set(edit func([]*func(Slot)) []*func(Slot)) {
	var list []*func(Slot)
	if now := l.list.Load(); now != nil {
		list = *now
	}
	list = edit(list)
	l.list.Store(&list)
}

func (l *listeners) tell(slot Slot) {
	if list := l.list.Load(); list != nil {
		for _, f := range *list {
			(*f)(slot)
		}
	}
}
