package kvcache

import (
	"math/bits"
)

// walk is the scratch memory of one match.
type walk struct {
	alive  []uint64        // pods that hold all blocks so far
	within [Tiers][]uint64 // and do so in one tier
	rows   []uint64        // of the sets of the run that is looked at
	spans  []seenSpan
	mixed  []mixedPod

	matches Matches // of Cached
}

// seenSpan is a span as a reader has copied it.
type seenSpan struct {
	to    int // block of the run behind its last
	shape shape
	rows  int // where its rows are in walk.rows
}

// end is where the rows of a span end, if there are no more than n words of rows in all.
func (s *seenSpan) end(n int) int {
	return min(n, s.rows+bits.OnesCount32(s.shape.planes())*s.shape.words())
}

func newWalk(words int) *walk {
	w := &walk{alive: make([]uint64, words)}
	for t := range w.within {
		w.within[t] = make([]uint64, words)
	}
	return w
}

// Match finds how much of a prompt pods hold. Among is a set of bits by Pod.ID: those that are asked for.
func (x *Index) Match(chain []uint64, blockTokens int, among []uint64, m *Matches) {
	among = among[:min(len(among), (len(x.pods)+63)/64)]
	m.reset(64 * len(among))
	if len(chain) == 0 {
		return
	}
	if _, found, settled := x.byFirst.find(chain[0]); !found && settled {
		return
	}
	w := x.walks.Get().(*walk)
	defer x.walks.Put(w)
	w.begin(among)
	m.dirty, m.seen = true, 0
	groups := x.groups.Load()
	if groups != nil {
		w.setApart(groups, blockTokens)
	}
	stores := x.stores.Load()
	pos := 0
	for pos < len(chain) {
		n := x.look(w, chain[pos:])
		if n == 0 {
			break
		}
		start := 0
		for i := range w.spans {
			s := &w.spans[i]
			end := min(s.to, n)
			w.pass(s, stores, pos+start, end-start, m)
			if len(w.mixed) > 0 {
				w.passMixed(s, pos+start, pos+end)
			}
			start = end
		}
		pos += n
		if !w.more() {
			break
		}
	}
	w.finish(pos, m)
}

// Cached is Match for those who want to know one number: for each pod in among that can use the prompt's first block it sets
// cached[ID] to the tokens of the longest prefix that the pod can use. Other elements stay as they are.
func (x *Index) Cached(chain []uint64, blockTokens int, among []uint64, cached []int32) {
	if len(chain) == 0 {
		return
	}
	w := x.walks.Get().(*walk)
	defer x.walks.Put(w)
	if x.groups.Load() != nil || x.stores.Load() != nil {
		x.Match(chain, blockTokens, among, &w.matches)
		for id, blocks := range w.matches.Blocks {
			if blocks > 0 && id < len(cached) {
				cached[id] = blocks * int32(blockTokens)
			}
		}
		return
	}
	among = among[:min(len(among), cap(w.alive))]
	w.alive = append(w.alive[:0], among...)
	pos := 0
	for pos < len(chain) {
		n := x.look(w, chain[pos:])
		if n == 0 {
			break
		}
		start := 0
		for i := range w.spans {
			s := &w.spans[i]
			left := uint64(0)
			for i := range w.alive {
				held := uint64(0)
				if k := i - s.shape.low(); k >= 0 && k < s.shape.words() {
					for at := s.rows + k; at < s.end(len(w.rows)); at += s.shape.words() {
						held |= w.rows[at]
					}
				}
				if gone := w.alive[i] &^ held; gone != 0 {
					recordTokens(cached, i, gone, (pos+start)*blockTokens)
				}
				w.alive[i] &= held
				left |= w.alive[i]
			}
			if left == 0 {
				return
			}
			start = min(s.to, n)
		}
		pos += n
	}
	for i, pods := range w.alive {
		recordTokens(cached, i, pods, pos*blockTokens)
	}
}

func recordTokens(cached []int32, i int, pods uint64, tokens int) {
	if tokens == 0 {
		return
	}
	for ; pods != 0; pods &= pods - 1 {
		if id := 64*i + bits.TrailingZeros64(pods); id < len(cached) {
			cached[id] = int32(tokens)
		}
	}
}

func (w *walk) begin(among []uint64) {
	w.alive = w.alive[:len(among)]
	copy(w.alive, among)
	for t := range w.within {
		w.within[t] = w.within[t][:len(among)]
		copy(w.within[t], among)
	}
	w.mixed = w.mixed[:0]
}

// more tells whether anybody may hold more.
func (w *walk) more() bool {
	for _, word := range w.alive {
		if word != 0 {
			return true
		}
	}
	for i := range w.mixed {
		if !w.mixed[i].done {
			return true
		}
	}
	return false
}

// look finds the run that begins with the chain's first hash, and copies the spans of the blocks that they have in common, of
// which it returns the number. It retries where a writer got in between; a writer that does so eight times running is
// waited for.
func (x *Index) look(w *walk, chain []uint64) int {
	for range 8 {
		id, found, settled := x.byFirst.find(chain[0])
		if !found {
			if settled {
				return 0
			}
			continue
		}
		r := &x.runs[id]
		version := r.version.Load()
		if version&1 != 0 {
			continue
		}
		n := x.common(r, 0, chain)
		if n > 0 && x.copySpans(w, r, n) && r.version.Load() == version {
			x.touch(r)
			return n
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	id, found := x.byFirst.get(chain[0])
	if !found {
		return 0
	}
	n := x.common(&x.runs[id], 0, chain)
	x.copySpans(w, &x.runs[id], n)
	return n
}

// copySpans copies the spans of a run's first blocks with their sets. What it sees may be changing, so it believes nothing; it
// returns false where that shows.
func (x *Index) copySpans(w *walk, r *run, blocks int) bool {
	w.spans, w.rows = w.spans[:0], w.rows[:0]
	from := r.spans[:]
	count := int(peek32(&r.count))
	if count > inlineSpans {
		segment := int(peek32(&r.more))
		from = x.hashes[segment*segmentBlocks:][:segmentBlocks]
	}
	for i := range min(count, len(from)) {
		s := span(peek(&from[i]))
		seen := seenSpan{to: s.end(), rows: len(w.rows)}
		if set := int(s.set()) * setUnit; set > 0 {
			if set+setRows > len(x.sets.words) {
				return false
			}
			seen.shape = shape(peek(&x.sets.words[set+setShape]))
			n := bits.OnesCount32(seen.shape.planes()) * seen.shape.words()
			if set+setRows+n > len(x.sets.words) || seen.shape.low()+seen.shape.words() > cap(w.alive) {
				return false
			}
			for k := range n {
				w.rows = append(w.rows, peek(&x.sets.words[set+setRows+k]))
			}
		}
		w.spans = append(w.spans, seen)
		if seen.to >= blocks {
			return true
		}
	}
	return false
}

// row returns a plane's row of a span, and which word of all pods it begins with.
func (w *walk) row(s *seenSpan, plane int) (row []uint64, low int) {
	if at, ok := s.shape.row(plane); ok {
		at += s.rows - setRows
		row = w.rows[at : at+s.shape.words()]
	}
	return row, s.shape.low()
}

// word returns a word of a row that begins with the word low.
func word(row []uint64, low, i int) uint64 {
	if i -= low; i >= 0 && i < len(row) {
		return row[i]
	}
	return 0
}

// pass takes the walk over the blocks of a span.
func (w *walk) pass(s *seenSpan, stores *[]store, pos, blocks int, m *Matches) {
	var rows [Tiers][]uint64
	low := s.shape.low()
	for t := range rows {
		rows[t], low = w.row(s, t)
	}
	for i := range w.alive {
		alive := w.alive[i]
		if alive == 0 {
			continue
		}
		var tiers [Tiers]uint64
		held := uint64(0)
		for t := range rows {
			tiers[t] = word(rows[t], low, i)
			held |= tiers[t]
		}
		if stores != nil {
			readable := w.readable(s, *stores, i)
			tiers[Remote] |= readable
			held |= readable
		}
		if gone := alive &^ held; gone != 0 {
			record(m.Gap, i, gone, pos)
			alive &= held
			w.alive[i] = alive
		}
		for t := range tiers {
			if gone := w.within[t][i] &^ tiers[t]; gone != 0 {
				record(m.Depths[t], i, gone, pos)
				w.within[t][i] &= tiers[t]
			}
		}
		// Blocks are counted for the fastest tier. Those of the first one are what remains of all in the end.
		left := alive &^ tiers[GPU]
		for t := CPU; left != 0 && t < Tiers; t++ {
			if left&tiers[t] != 0 {
				m.seen |= 1 << t
			}
			for in := left & tiers[t]; in != 0; in &= in - 1 {
				m.Tiers[t][64*i+bits.TrailingZeros64(in)] += int32(blocks)
			}
			left &^= tiers[t]
		}
	}
}

// readable returns the i-th word of the pods that can read a span's blocks from a store.
func (w *walk) readable(s *seenSpan, stores []store, i int) (pods uint64) {
	for _, st := range stores {
		if i >= len(st.readers) || st.readers[i] == 0 {
			continue
		}
		for t := range Guessed {
			if row, low := w.row(s, int(t)); word(row, low, int(st.pod/64))>>(st.pod%64)&1 != 0 {
				pods |= st.readers[i]
				break
			}
		}
	}
	return pods
}

// finish records those that held all blocks up to pos.
func (w *walk) finish(pos int, m *Matches) {
	if pos > 0 {
		for i, left := range w.alive {
			record(m.Gap, i, left, pos)
			for t := range w.within {
				record(m.Depths[t], i, w.within[t][i], pos)
			}
		}
	}
	copy(m.Blocks, m.Gap)
	copy(m.Tiers[GPU], m.Gap)
	for t := CPU; t < Tiers; t++ {
		if m.seen>>t&1 != 0 {
			for i, n := range m.Tiers[t] {
				m.Tiers[GPU][i] -= n
			}
		}
	}
	for i := range w.mixed {
		w.mixed[i].finish(m)
	}
}

// record sets a number for the pods in the i-th word of a set.
func record(to []int32, i int, pods uint64, n int) {
	if n == 0 {
		return
	}
	for ; pods != 0; pods &= pods - 1 {
		to[64*i+bits.TrailingZeros64(pods)] = int32(n)
	}
}
