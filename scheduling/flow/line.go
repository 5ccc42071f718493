package flow

import (
	"github.com/google/btree"
)

// line is the requests of one tenant that wait in one lane, in order: a list where that is the order of arrival, else a tree.
type line struct {
	first, last *waiter
	n           int
	sorted      *btree.BTreeG[*waiter]
}

func (w *waiter) before(o *waiter) bool {
	if w.order != o.order {
		return w.order < o.order
	}
	return w.serial < o.serial
}

func (l *line) len() int {
	if l.sorted != nil {
		return l.sorted.Len()
	}
	return l.n
}

// head is the next one; there must be one.
func (l *line) head() *waiter {
	if l.sorted != nil {
		w, _ := l.sorted.Min()
		return w
	}
	return l.first
}

// tail is the last one; there must be one.
func (l *line) tail() *waiter {
	if l.sorted != nil {
		w, _ := l.sorted.Max()
		return w
	}
	return l.last
}

// add puts a waiter where its order says. In a list it is looked for from the end, where new ones belong.
func (l *line) add(w *waiter) {
	if l.sorted != nil {
		l.sorted.ReplaceOrInsert(w)
		return
	}
	l.n++
	after := l.last
	for after != nil && w.before(after) {
		after = after.prev
	}
	w.prev = after
	if after != nil {
		w.next, after.next = after.next, w
	} else {
		w.next, l.first = l.first, w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		l.last = w
	}
}

func (l *line) remove(w *waiter) {
	if l.sorted != nil {
		l.sorted.Delete(w)
		return
	}
	l.n--
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.prev, w.next = nil, nil
}
