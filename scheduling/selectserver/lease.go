package selectserver

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// lease is a reservation that a host holds.
type lease struct {
	id string

	mu       sync.Mutex // held while the decision is used
	ended    bool
	request  scheduling.Request
	decision scheduling.Decision

	// Guarded by the table.
	length   time.Duration
	deadline time.Time
	place    int // in the heap
}

// end ends the reservation; a second time does nothing.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		l.decision.Done()
	}
}

// leases is the table of the reservations that hosts hold. A lease leaves it before it ends, or in the same step: whoever finds one
// here, and waits for its lock, finds it ended only if it has left meanwhile. The table's lock may be taken while a lease's is held,
// never the other way round.
type leases struct {
	max     int
	earlier chan struct{} // the first deadline has moved forward

	mu    sync.Mutex
	byID  map[string]*lease
	queue queue
}

func (t *leases) init(max int) {
	t.max, t.byID, t.earlier = max, map[string]*lease{}, make(chan struct{}, 1)
}

func (t *leases) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// hold takes a lease into the table. If ok is false it did not: the table is full, or has a lease of the same id.
func (t *leases) hold(l *lease) (ok, full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[l.id] != nil {
		return false, false
	}
	if len(t.byID) >= t.max {
		return false, true
	}
	t.byID[l.id] = l
	l.deadline = time.Now().Add(l.length)
	heap.Push(&t.queue, l)
	t.wake(l)
	return true, false
}

// find returns a lease, renewed, and how long it is now: length where that is not 0.
func (t *leases) find(id string, length time.Duration) (*lease, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byID[id]
	if l == nil {
		return nil, 0
	}
	t.extend(l, length)
	return l, l.length
}

func (t *leases) extend(l *lease, length time.Duration) {
	if length != 0 {
		l.length = length
	}
	l.deadline = time.Now().Add(l.length)
	heap.Fix(&t.queue, l.place)
	t.wake(l)
}

// wake tells run of a lease that is now the first to end.
func (t *leases) wake(l *lease) {
	if l.place == 0 {
		select {
		case t.earlier <- struct{}{}:
		default:
		}
	}
}

// take removes the lease of an id from the table.
func (t *leases) take(id string) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byID[id]
	if l != nil {
		t.remove(l)
	}
	return l
}

// drop removes a lease from the table, unless it has left already, and another one may have its id.
func (t *leases) drop(l *lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[l.id] == l {
		t.remove(l)
	}
}

func (t *leases) remove(l *lease) {
	delete(t.byID, l.id)
	heap.Remove(&t.queue, l.place)
}

// due removes and returns a lease that has run out, or how long the next one has.
func (t *leases) due() (l *lease, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return nil, -1
	}
	if wait := time.Until(t.queue[0].deadline); wait > 0 {
		return nil, wait
	}
	l = t.queue[0]
	t.remove(l)
	return l, 0
}

// run ends leases as they run out, and all when the context ends. It sleeps until the first deadline.
func (t *leases) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			t.clear()
			return
		case <-t.earlier:
		case <-timer.C:
		}
		for {
			l, wait := t.due()
			if l != nil {
				l.end()
				continue
			}
			if wait > 0 {
				timer.Reset(wait)
			}
			break
		}
	}
}

func (t *leases) clear() {
	t.mu.Lock()
	all := t.queue
	t.queue = nil
	clear(t.byID)
	t.mu.Unlock()
	for _, l := range all {
		l.end()
	}
}

// queue is a heap of leases by their deadlines.
type queue []*lease

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].deadline.Before(q[j].deadline) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	l := x.(*lease)
	l.place = len(*q)
	*q = append(*q, l)
}
func (q *queue) Pop() any {
	old := *q
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return l
}
