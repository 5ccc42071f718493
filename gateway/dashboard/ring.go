package dashboard

// ring keeps the last values that were pushed, and numbers them from 1.
type ring[T any] struct {
	values []T
	pushed uint64
}

func newRing[T any](size int) ring[T] { return ring[T]{values: make([]T, size)} }

func (r *ring[T]) push(v T) {
	r.values[r.pushed%uint64(len(r.values))] = v
	r.pushed++
}

// numbered is a value and which one it was.
type numbered[T any] struct {
	number uint64
	value  T
}

// after returns the values that came after the one with the number, as far as they are kept, newest first.
func (r *ring[T]) after(number uint64) []numbered[T] {
	var last []numbered[T]
	size := uint64(len(r.values))
	for n := r.pushed; n > number && n+size > r.pushed; n-- {
		last = append(last, numbered[T]{n, r.values[(n-1)%size]})
	}
	return last
}
