package flow

// heap is a 4-ary heap of items by key, the least first and among equals the lower tie. An item is known by an id while it is in
// the heap, so that it can be removed or given another key. Keys are compared by their difference: they may wrap around, as
// long as those in the heap are within 2⁶³ of each other.
//
// What a comparison or an exchange touches is packed into slices that stay small enough for a cache with 100,000 items; the
// items themselves are not touched.
type heap[T any] struct {
	entries []entry
	places  []int32 // by id
	ties    []uint64
	items   []T
	free    []int32 // ids
}

type entry struct {
	key int64
	id  int32
}

const arity = 4

func (h *heap[T]) len() int   { return len(h.entries) }
func (h *heap[T]) least() T   { return h.items[h.entries[0].id] }
func (h *heap[T]) key() int64 { return h.entries[0].key }

func (h *heap[T]) before(a, b entry) bool {
	if a.key != b.key {
		return a.key-b.key < 0
	}
	return h.ties[a.id] < h.ties[b.id]
}

func (h *heap[T]) put(i int, e entry) {
	h.entries[i] = e
	h.places[e.id] = int32(i)
}

// push adds an item and returns its id.
func (h *heap[T]) push(key int64, tie uint64, item T) (id int) {
	if k := len(h.free); k > 0 {
		id = int(h.free[k-1])
		h.free = h.free[:k-1]
	} else {
		id = len(h.items)
		var none T
		h.items, h.ties, h.places = append(h.items, none), append(h.ties, 0), append(h.places, 0)
	}
	h.items[id], h.ties[id] = item, tie
	h.entries = append(h.entries, entry{key, int32(id)})
	h.up(len(h.entries) - 1)
	return id
}

// remove takes the item with the id out.
func (h *heap[T]) remove(id int) {
	var none T
	h.items[id] = none
	h.free = append(h.free, int32(id))
	i, last := int(h.places[id]), len(h.entries)-1
	moved := h.entries[last]
	h.entries = h.entries[:last]
	if i < last {
		h.entries[i] = moved
		h.settle(i)
	}
}

// set gives the item with the id another key.
func (h *heap[T]) set(id int, key int64) {
	i := int(h.places[id])
	if h.entries[i].key != key {
		h.entries[i].key = key
		h.settle(i)
	}
}

func (h *heap[T]) settle(i int) {
	if i > 0 && h.before(h.entries[i], h.entries[(i-1)/arity]) {
		h.up(i)
	} else {
		h.down(i)
	}
}

func (h *heap[T]) up(i int) {
	e := h.entries[i]
	for i > 0 {
		parent := (i - 1) / arity
		if !h.before(e, h.entries[parent]) {
			break
		}
		h.put(i, h.entries[parent])
		i = parent
	}
	h.put(i, e)
}

func (h *heap[T]) down(i int) {
	e, n := h.entries[i], len(h.entries)
	for {
		first := arity*i + 1
		if first >= n {
			break
		}
		least := first
		for j := first + 1; j < min(first+arity, n); j++ {
			if h.before(h.entries[j], h.entries[least]) {
				least = j
			}
		}
		if !h.before(h.entries[least], e) {
			break
		}
		h.put(i, h.entries[least])
		i = least
	}
	h.put(i, e)
}
