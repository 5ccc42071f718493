package sim

import "time"

// timers is a heap of what happens at known times, in the order in which it was planned where times are equal.
type timers struct {
	heap    []timer
	planned uint64
}

type timer struct {
	at    time.Duration
	order uint64
	do    func()
}

func (a *timer) before(b *timer) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (t *timers) add(at time.Duration, do func()) {
	t.planned++
	t.heap = append(t.heap, timer{at, t.planned, do})
	h := t.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (t *timers) pop() func() {
	h := t.heap
	do, last := h[0].do, len(h)-1
	h[0], h[last] = h[last], timer{}
	t.heap = h[:last]
	h = t.heap
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(h) {
			break
		}
		if right := least + 1; right < len(h) && h[right].before(&h[least]) {
			least = right
		}
		if !h[least].before(&h[i]) {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	return do
}

// wakes is a heap of the nodes whose engines have something to do, by when; equal times go by serial number.
type wakes []*node

func (w wakes) before(i, j int) bool {
	a, b := w[i], w[j]
	return a.wakeAt < b.wakeAt || a.wakeAt == b.wakeAt && a.serial < b.serial
}

func (w wakes) swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

// set puts a node to where its time belongs; idle ones are taken out.
func (w *wakes) set(n *node, at time.Duration, busy bool) {
	switch {
	case busy && n.place >= 0:
		n.wakeAt = at
	case busy:
		n.wakeAt, n.place = at, len(*w)
		*w = append(*w, n)
	case n.place >= 0:
		i, last := n.place, len(*w)-1
		w.swap(i, last)
		(*w)[last] = nil
		*w = (*w)[:last]
		n.place = -1
		if i < last {
			w.fix(i)
		}
		return
	default:
		return
	}
	w.fix(n.place)
}

func (w wakes) fix(i int) {
	for i > 0 && w.before(i, (i-1)/2) {
		w.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := 2*i + 1
		if least >= len(w) {
			return
		}
		if right := least + 1; right < len(w) && w.before(right, least) {
			least = right
		}
		if !w.before(least, i) {
			return
		}
		w.swap(i, least)
		i = least
	}
}
