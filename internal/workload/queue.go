package workload

import "cmp"

// queue is a binary heap of requests by arrival; ties go by session and turn.
type queue []Request

func (q queue) before(i, j int) bool {
	a, b := &q[i], &q[j]
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Session, b.Session), cmp.Compare(a.Turn, b.Turn)) < 0
}

func (q *queue) push(r Request) {
	*q = append(*q, r)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (q *queue) pop() Request {
	h := *q
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], Request{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < len(h) && h.before(child+1, child) {
			child++
		}
		if child >= len(h) || !h.before(child, i) {
			return first
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
