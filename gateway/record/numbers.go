package record

// numbers gives keys numbers in order of first appearance, and remembers those of the latest: at least limit keys, and at
// most twice as many. A key that was forgotten gets a new number.
type numbers struct {
	limit       int
	now, before map[uint64]uint64
	next        uint64
}

func newNumbers(limit int, first uint64) *numbers {
	return &numbers{limit: limit, now: map[uint64]uint64{}, next: first}
}

func (n *numbers) of(key uint64) uint64 {
	number, ok := n.now[key]
	if ok {
		return number
	}
	if number, ok = n.before[key]; !ok {
		number = n.next
		n.next++
	}
	if len(n.now) >= n.limit {
		n.now, n.before = make(map[uint64]uint64), n.now
	}
	n.now[key] = number
	return number
}

// appendRuns appends the numbers of keys as runs.
func (n *numbers) appendRuns(runs []Run, keys []uint64) []Run {
	for _, key := range keys {
		number := n.of(key)
		if last := len(runs) - 1; last >= 0 && runs[last].First+uint64(runs[last].Count) == number {
			runs[last].Count++
		} else {
			runs = append(runs, Run{number, 1})
		}
	}
	return runs
}
