package resp

import (
	"container/heap"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// expiry knows the times to live, and calls expire once one is over. One timer runs, for the next.
type expiry struct {
	now    func() time.Time
	expire func(store.Key)

	mu     sync.Mutex
	due    map[store.Key]*deadline
	queue  deadlines
	timer  *time.Timer
	closed bool
	calls  sync.WaitGroup
}

type deadline struct {
	key store.Key
	at  time.Time
	pos int
}

// set says when a key ends; the zero time is never.
func (e *expiry) set(key store.Key, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(key)
	if !at.IsZero() && !e.closed {
		d := &deadline{key: key, at: at}
		e.due[key] = d
		heap.Push(&e.queue, d)
	}
	e.arm()
}

// of returns when a key ends; the zero time is never.
func (e *expiry) of(key store.Key) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.due[key]; d != nil {
		return d.at
	}
	return time.Time{}
}

func (e *expiry) len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.due)
}

// over reports whether a key has ended, though it may not have been expired yet.
func (e *expiry) over(key store.Key) bool {
	at := e.of(key)
	return !at.IsZero() && !e.now().Before(at)
}

// arm sets the timer for the next deadline.
func (e *expiry) arm() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if len(e.queue) > 0 && !e.closed {
		e.timer = time.AfterFunc(max(0, e.queue[0].at.Sub(e.now())), e.run)
	}
}

// run expires what is due.
func (e *expiry) run() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.calls.Add(1)
	defer e.calls.Done()
	var ended []store.Key
	for len(e.queue) > 0 && !e.now().Before(e.queue[0].at) {
		ended = append(ended, e.queue[0].key)
		heap.Pop(&e.queue)
	}
	e.arm()
	e.mu.Unlock()
	for _, key := range ended {
		e.expire(key)
	}
}

// forget removes a deadline that has been carried out, unless there is a later one by now. It reports whether it did.
func (e *expiry) forget(key store.Key) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.due[key]
	if d == nil || e.now().Before(d.at) {
		return false
	}
	e.drop(key)
	return true
}

func (e *expiry) drop(key store.Key) {
	if d := e.due[key]; d != nil {
		if d.pos >= 0 {
			heap.Remove(&e.queue, d.pos)
		}
		delete(e.due, key)
	}
}

// stop ends the timer and waits for what it has begun.
func (e *expiry) stop() {
	e.mu.Lock()
	e.closed = true
	e.arm()
	e.mu.Unlock()
	e.calls.Wait()
}

// deadlines is a heap, the next one first.
type deadlines []*deadline

func (q deadlines) Len() int           { return len(q) }
func (q deadlines) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q deadlines) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = i, j
}

func (q *deadlines) Push(d any) {
	d.(*deadline).pos = len(*q)
	*q = append(*q, d.(*deadline))
}

func (q *deadlines) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	d.pos = -1
	(*q)[last] = nil
	*q = (*q)[:last]
	return d
}
