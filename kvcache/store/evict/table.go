package evict

// nobody ends a list.
const nobody = -1

// table holds the nodes of a policy's lists by ID.
type table struct {
	index map[ID]int32
	nodes []node
	free  int32
}

type node struct {
	id         ID
	bytes      int64
	prev, next int32
	list       uint8 // which of the policy's lists it is on
	mark       uint8 // what the policy notes of it
}

// list is a doubly linked list of a table's nodes. New ones come in at the head.
type list struct {
	head, tail int32
	len        int
	bytes      int64
}

func newTable() table { return table{index: map[ID]int32{}, free: nobody} }

func newList() list { return list{head: nobody, tail: nobody} }

// add makes a node that is on no list yet.
func (t *table) add(id ID, bytes int64) int32 {
	n := t.free
	if n == nobody {
		n = int32(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	} else {
		t.free = t.nodes[n].next
	}
	t.nodes[n] = node{id: id, bytes: bytes, prev: nobody, next: nobody}
	t.index[id] = n
	return n
}

// drop forgets a node that is on no list.
func (t *table) drop(n int32) {
	delete(t.index, t.nodes[n].id)
	t.nodes[n].next, t.free = t.free, n
}

// pushFront puts a node that is on no list at the head of one, whose number it notes.
func (t *table) pushFront(l *list, which uint8, n int32) {
	x := &t.nodes[n]
	x.prev, x.next, x.list = nobody, l.head, which
	if l.head == nobody {
		l.tail = n
	} else {
		t.nodes[l.head].prev = n
	}
	l.head = n
	l.len++
	l.bytes += x.bytes
}

func (t *table) unlink(l *list, n int32) {
	x := &t.nodes[n]
	if x.prev == nobody {
		l.head = x.next
	} else {
		t.nodes[x.prev].next = x.next
	}
	if x.next == nobody {
		l.tail = x.prev
	} else {
		t.nodes[x.next].prev = x.prev
	}
	x.prev, x.next = nobody, nobody
	l.len--
	l.bytes -= x.bytes
}

// last returns the node nearest to the tail that may go.
func (t *table) last(l *list, skip func(ID) bool) int32 {
	n := l.tail
	for n != nobody && skip != nil && skip(t.nodes[n].id) {
		n = t.nodes[n].prev
	}
	return n
}
