package flow

// heap is a 4-ary heap of items by key, the least first, in which every item knows its place, so that it can be moved or
// removed. Keys are compared by their difference: they may wrap around, as long as those in the heap are within 2⁶³ of each
// other. Entries hold the key, so a comparison touches no item.
type heap[T interface{ moved(to int) }] []entry[T]

type entry[T any] struct {
	key  int64
	item T
}

const arity = 4

func (h heap[T]) before(i, j int) bool { return h[i].key-h[j].key < 0 }

func (h heap[T]) put(i int, e entry[T]) {
	h[i] = e
	e.item.moved(i)
}

func (h *heap[T]) push(key int64, item T) {
	*h = append(*h, entry[T]{key, item})
	h.up(len(*h) - 1)
}

// remove takes the item at i out. It is told that it moved to -1.
func (h *heap[T]) remove(i int) {
	old := *h
	gone, last := old[i].item, len(old)-1
	moved := old[last]
	old[last] = entry[T]{}
	*h = old[:last]
	if i < last {
		old[i] = moved
		h.settle(i)
	}
	gone.moved(-1)
}

// set gives the item at i another key.
func (h heap[T]) set(i int, key int64) {
	h[i].key = key
	h.settle(i)
}

func (h heap[T]) settle(i int) {
	if i > 0 && h.before(i, (i-1)/arity) {
		h.up(i)
	} else {
		h.down(i)
	}
}

func (h heap[T]) up(i int) {
	e := h[i]
	for i > 0 {
		parent := (i - 1) / arity
		if e.key-h[parent].key >= 0 {
			break
		}
		h.put(i, h[parent])
		i = parent
	}
	h.put(i, e)
}

func (h heap[T]) down(i int) {
	e := h[i]
	for {
		first := arity*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for j := first + 1; j < min(first+arity, len(h)); j++ {
			if h.before(j, least) {
				least = j
			}
		}
		if h[least].key-e.key >= 0 {
			break
		}
		h.put(i, h[least])
		i = least
	}
	h.put(i, e)
}
