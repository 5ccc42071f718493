package memory

import "sync/atomic"

// ring notes which slots were used, for the policy to learn of later. When it is full the oldest are overwritten: of many uses in
// a short time, those that are lost matter least.
type ring struct {
	slots [ringSlots]atomic.Uint32
	next  atomic.Uint64
	read  atomic.Uint64 // changed by drain alone
}

const ringSlots = 1024

// add reports whether it is time to drain.
func (r *ring) add(n uint32) bool {
	i := r.next.Add(1) - 1
	r.slots[i%ringSlots].Store(n)
	return i-r.read.Load() > ringSlots/2
}

// drain calls f for what was noted. It is for one goroutine at a time.
func (r *ring) drain(f func(n uint32)) {
	next := r.next.Load()
	i := r.read.Load()
	if next-i > ringSlots {
		i = next - ringSlots
	}
	for ; i < next; i++ {
		if n := r.slots[i%ringSlots].Swap(0); n != 0 {
			f(n)
		}
	}
	r.read.Store(next)
}
