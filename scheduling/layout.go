package scheduling

import "sync/atomic"

// PerLayout is what a plugin derives from the pool's layout, labels above all: it is made once a layout, so that a pick
// indexes a slice instead of searching maps. The zero value is ready. It is safe for concurrent use and for several pools,
// though it remembers one layout only.
type PerLayout[T any] struct {
	current atomic.Pointer[derived[T]]
}

type derived[T any] struct {
	layout <-chan struct{} // closed when the layout is replaced; no other layout of any pool has this channel
	value  T
}

// Of returns what derive makes of the snapshot's layout. It must not be changed.
func (p *PerLayout[T]) Of(s *Snapshot, derive func(*Snapshot) T) T {
	if d := p.current.Load(); d != nil && d.layout == s.Changed() {
		return d.value
	}
	d := &derived[T]{s.Changed(), derive(s)}
	select {
	case <-d.layout: // replaced already; what others derived from the next one stays
	default:
		p.current.Store(d)
	}
	return d.value
}

// BySlot returns what of says of each endpoint, by slot.
func BySlot[T any](s *Snapshot, of func(*Endpoint) T) []T {
	values := make([]T, s.Len())
	for _, slot := range s.live {
		values[slot] = of(s.endpoints[slot])
	}
	return values
}
