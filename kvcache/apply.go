package kvcache

import (
	"math/bits"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
)

// ApplyBatch applies the events of a publisher's message, each message once and in order of their sequence numbers.
func (x *Index) ApplyBatch(p Pod, sequence uint64, b *events.Batch) Verdict {
	contents := x.hashContents(b.Events)
	defer x.contents.Put(contents)
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.pod(p)
	if s == nil {
		x.stats.Late++
		return Closed
	}
	verdict := Applied
	if s.follows && sequence <= s.sequence {
		x.stats.Duplicates++
		return Duplicate
	}
	if s.follows && sequence != s.sequence+1 {
		x.stats.Gaps++
		x.empty(s)
		verdict = AppliedAfterGap
	}
	s.follows, s.sequence = true, sequence
	rest := *contents
	for i := range b.Events {
		if i%warmAhead == 0 {
			x.warmRemovals(b.Events[i:min(i+warmAhead, len(b.Events))])
		}
		rest = x.apply(s, &b.Events[i], rest)
	}
	x.expire()
	return verdict
}

// warmAhead is how many events' names are looked at ahead of time. Engines tell of each block that they evict in an event of its own.
const warmAhead = 32

func (x *Index) warmRemovals(list []events.Event) {
	if len(list) == 1 {
		return
	}
	for pass := range 2 {
		for i := range list {
			if e := &list[i]; e.Kind != events.Removed || len(e.Hashes) != 1 {
				continue
			} else if pass == 0 {
				x.names.warm(e.Hashes)
			} else {
				x.names.warmPlaces(e.Hashes)
			}
		}
	}
}

// Apply applies one event, where there are no sequence numbers.
func (x *Index) Apply(p Pod, e *events.Event) {
	contents := x.hashContent(e)
	defer x.contents.Put(contents)
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.pod(p)
	if s == nil {
		x.stats.Late++
		return
	}
	x.apply(s, e, *contents)
	x.expire()
}

// hashContents hashes the blocks of events while no lock is held.
func (x *Index) hashContents(list []events.Event) *[]uint64 {
	c := x.contents.Get().(*[]uint64)
	*c = (*c)[:0]
	for i := range list {
		if e := &list[i]; e.Kind == events.Stored && e.Dense() {
			*c = appendContents(*c, e)
		}
	}
	return c
}

func (x *Index) hashContent(e *events.Event) *[]uint64 {
	c := x.contents.Get().(*[]uint64)
	*c = (*c)[:0]
	if e.Kind == events.Stored && e.Dense() {
		*c = appendContents(*c, e)
	}
	return c
}

// appendContents hashes the blocks of a dense event as Space.Append does those of a prompt. A block with extra keys that
// no prompt can have stays apart from all others.
func appendContents(dst []uint64, e *events.Event) []uint64 {
	from := len(dst)
	dst = blockhash.AppendContents(dst, e.Tokens, e.BlockTokens)
	dst = dst[:from+len(e.Hashes)]
	for i := range e.Extras {
		x := &e.Extras[i]
		if x.Block < 0 || x.Block >= len(e.Hashes) {
			continue
		}
		switch at := from + x.Block; x.Kind {
		case events.Item:
			dst[at] = foldItem(dst[at], x.Value, x.Offset)
		case events.Text, events.Embeddings:
			dst[at] = foldItem(dst[at]^1, x.Value, int64(x.Kind))
		}
	}
	return dst
}

// apply applies an event, and returns the contents that are of the events behind it.
func (x *Index) apply(s *pod, e *events.Event, contents []uint64) (rest []uint64) {
	switch e.Kind {
	case events.Cleared:
		x.stats.Cleared++
		x.empty(s)
	case events.Removed:
		x.remove(s, e)
	case events.Stored:
		if e.Dense() {
			contents, rest = contents[:len(e.Hashes)], contents[len(e.Hashes):]
			x.store(s, e, contents)
			x.settlePending()
			return rest
		}
		x.store(s, e, nil)
	}
	return contents
}

// store applies a BlockStored. Contents is nil if the event does not tell the tokens of its blocks.
func (x *Index) store(s *pod, e *events.Event, contents []uint64) {
	tier, ok := tierOf(e.Tier)
	if !ok || e.Locality == events.OtherLocality || contents == nil && len(e.Tokens) > 0 && full(e.Attention) {
		x.stats.Skipped += uint64(len(e.Hashes))
		return
	}
	number, ok := x.group(s, e)
	if !ok {
		x.stats.Skipped += uint64(len(e.Hashes))
		return
	}
	x.reserve(len(e.Hashes))
	h := hold{pod: s, plane: plane(number, tier)}
	if contents == nil {
		x.storeNamed(h, e.Hashes)
		return
	}
	at := place{run: none}
	parent := uint64(0)
	if !e.HasParent {
		parent = x.start(s, e)
	} else if run, pos, ok := x.parent(s, e.Parent); ok {
		r := &x.runs[run]
		parent = x.hash(r, pos)
		at = place{run, pos + 1}
		h.waiting = r.flags&runWaiting != 0
	} else {
		parent = provisional(e.Parent)
		h.waiting = true
	}
	h.parent, h.from = e.Parent, parent
	x.names.warm(e.Hashes)
	blockhash.Chain(contents, parent)
	x.put(h, at, contents, e.Hashes)
}

// start returns the hash that chains of a root event begin at. The last one is remembered.
func (x *Index) start(s *pod, e *events.Event) uint64 {
	space := Space{Model: s.options.Model, Adapter: e.Adapter, Salt: e.Salt, BlockTokens: e.BlockTokens}
	if e.Model != "" {
		space.Model = e.Model
	}
	if e.Adapter != "" {
		space.Revision = s.options.Revision
	}
	return space.Start()
}

func full(a events.Attention) bool {
	return a == events.UnspecifiedAttention || a == events.FullAttention || a == events.MLAAttention || a == events.SinkFull
}

// parent finds a block by the name that a pod's event has for it: if several blocks have that name, the only one of them that
// the pod holds.
func (x *Index) parent(s *pod, name uint64) (run uint32, pos int, ok bool) {
	known, held := 0, 0
	for from := -1; ; {
		place, at, more := x.names.find(name, from)
		if !more {
			return run, pos, known == 1 || held == 1
		}
		from = at
		id, p, _ := x.names.where(place)
		if x.runs[id].flags&runBag != 0 {
			continue
		}
		holds := x.sets.planesOf(x.at(&x.runs[id], p), s.ID)&exactPlanes != 0
		if known == 0 || holds && held == 0 {
			run, pos = id, p
		}
		known++
		if holds {
			held++
		}
	}
}

// hold is who comes to hold blocks, and what they follow if that is not known.
type hold struct {
	pod   *pod
	plane int

	waiting bool
	parent  uint64 // name of what the first block follows
	from    uint64 // provisional hash of it
}

// place is a position in a run.
type place struct {
	run uint32
	pos int
}

// put makes a pod hold the blocks of a chain, which belong at a place, or anywhere if its run is none. It stops early where
// there is no room.
func (x *Index) put(h hold, at place, chain, engine []uint64) {
	for done := 0; done < len(chain); {
		n := x.reach(h, &at, chain, engine, done)
		named := x.name(at.run, at.pos, engine[done:done+n], h.pod.ID)
		if named > 0 {
			at.run, at.pos = x.hold(at.run, at.pos, at.pos+named, h.pod, h.plane)
			x.stats.Stored += uint64(named)
		} else if n > 0 {
			x.trim(at.run)
		}
		if done += named; named < n || n == 0 || at.run == none {
			x.stats.Skipped += uint64(len(chain) - done)
			return
		}
	}
}

// reach moves a place to where the rest of a chain is or belongs, makes the blocks if there are none, and returns how many of
// them lie together there.
func (x *Index) reach(h hold, at *place, chain, engine []uint64, done int) (n int) {
	rest := chain[done:]
	if at.run != none && at.pos < int(x.runs[at.run].length) {
		if n = x.common(&x.runs[at.run], at.pos, rest); n > 0 {
			return n
		}
	}
	if id, ok := x.byFirst.get(rest[0]); ok {
		*at = place{id, 0}
		return x.common(&x.runs[id], 0, rest)
	}
	n = min(len(rest), runBlocks)
	if x.scattered {
		for i, h := range rest[1:n] {
			if _, ok := x.byFirst.get(h); ok {
				n = i + 1
				break
			}
		}
	}
	if at.run != none {
		r := &x.runs[at.run]
		if at.pos < int(r.length) {
			poke32(&r.used, 1|uint32(at.pos)<<16)
		}
		if at.pos == int(r.length) && at.pos < runBlocks && r.flags&runBag == 0 {
			return x.grow(at.run, rest[:n])
		}
	}
	if !h.waiting {
		at.pos = 0
		at.run, n = x.create(rest[:n], 0)
		return n
	}
	at.pos = 0
	if at.run, n = x.create(rest[:n], runWaiting); n > 0 {
		parent, from := h.parent, h.from
		if done > 0 {
			parent, from = engine[done-1], chain[done-1]
		}
		x.await(at.run, parent, from)
	}
	return n
}

// hold makes a pod hold blocks in a plane, once more if it does so already, and returns where their end is.
func (x *Index) hold(id uint32, from, to int, s *pod, plane int) (at uint32, end int) {
	r := &x.runs[id]
	if s.oldest != none {
		x.settle(s, id, from, to)
	}
	linked := false
	start := 0
	var list spanList
	x.load(r, &list)
	for _, sp := range list.s[:list.n] {
		planes := x.sets.planesOf(sp.set(), s.ID)
		linked = linked || planes&exactPlanes != 0
		if planes>>plane&1 != 0 {
			for pos := max(start, from); pos < min(sp.end(), to); pos++ {
				x.copy(r, pos, s.ID, plane, 1)
			}
		}
		start = sp.end()
	}
	if !linked && !x.enter(id, s) {
		x.forget(id)
		return none, 0
	}
	return x.paint(id, from, to, stroke{pod: s.ID, set: 1 << plane, clear: guessPlane})
}

// remove applies a BlockRemoved.
func (x *Index) remove(s *pod, e *events.Event) {
	tier, ok := tierOf(e.Tier)
	if !ok {
		x.stats.Unknown += uint64(len(e.Hashes))
		return
	}
	planes := uint32(0)
	for _, g := range s.groups {
		if e.Group < 0 || g.ID == e.Group {
			planes |= 1 << plane(g.number, tier)
		}
	}
	x.reserve(0)
	if len(e.Hashes) > 1 {
		x.names.warm(e.Hashes)
		x.names.warmPlaces(e.Hashes)
	}
	for _, h := range e.Hashes {
		x.removeName(s, h, planes)
	}
}

// removeName takes a pod out of all blocks that have a name.
func (x *Index) removeName(s *pod, name uint64, planes uint32) {
	var few [4]uint32
	places := few[:0]
	for from := -1; ; {
		place, at, ok := x.names.find(name, from)
		if !ok {
			break
		}
		places, from = append(places, place), at
	}
	known := false
	for _, place := range places {
		id, pos, c := x.names.where(place)
		if c.used>>(place%segmentBlocks)&1 == 0 || x.names.hashes[place] != name {
			continue // gone with what was removed before
		}
		r := &x.runs[id]
		held := x.sets.planesOf(x.at(r, pos), s.ID)
		if held&guessPlane != 0 {
			x.settle(s, id, pos, pos+1)
		}
		drop := held & planes
		known = known || drop != 0
		if r.flags&runCopies != 0 {
			for left := drop; left != 0; left &= left - 1 {
				if x.uncopy(r, pos, s.ID, bits.TrailingZeros32(left)) {
					drop &^= left & -left
				}
			}
		}
		if drop|held&guessPlane != 0 {
			x.paint(id, pos, pos+1, stroke{pod: s.ID, clear: drop | guessPlane})
		}
	}
	if known {
		x.stats.Removed++
	} else {
		x.stats.Unknown++
	}
}

// group returns the number of an event's group for a pod.
func (x *Index) group(s *pod, e *events.Event) (number int, ok bool) {
	switch e.Attention {
	case events.EncoderOnly, events.CrossAttention, events.OtherAttention:
		return 0, false
	}
	id := max(e.Group, 0)
	for i := range s.groups {
		if g := &s.groups[i]; g.ID == id && (g.BlockTokens == e.BlockTokens || g.BlockTokens == 0 || e.BlockTokens == 0) {
			if g.BlockTokens == 0 && e.BlockTokens > 0 {
				g.BlockTokens = e.BlockTokens
				x.publishGroups()
			}
			return g.number, true
		}
	}
	taken := 0
	for _, g := range s.groups {
		if g.BlockTokens == e.BlockTokens || g.BlockTokens == 0 || e.BlockTokens == 0 {
			taken |= 1 << g.number
		}
	}
	if !full(e.Attention) {
		taken |= 1 // number 0 is for full attention
	}
	if number = bits.TrailingZeros(^uint(taken)); number >= maxGroups {
		return 0, false
	}
	s.groups = append(s.groups, group{Group{ID: id, BlockTokens: e.BlockTokens, Attention: e.Attention, Window: e.Window}, number})
	x.publishGroups()
	return number, true
}

// copyKey names a holder of a block.
func (x *Index) copyKey(r *run, pos int, pod uint32, plane int) uint64 {
	block := uint64(r.segments[pos/segmentBlocks])*segmentBlocks + uint64(pos%segmentBlocks)
	return block<<24 | uint64(pod)<<5 | uint64(plane)
}

// copy notes that a pod has further copies of a block that it holds. If there is no room for that, the first removal will count.
func (x *Index) copy(r *run, pos int, pod uint32, plane int, more uint32) {
	if more > 0 && len(x.copies) < x.maxCopies {
		x.copies[x.copyKey(r, pos, pod, plane)] += more
		r.flags |= runCopies
	}
}

// uncopy ends what copy noted, and reports whether there was anything.
func (x *Index) uncopy(r *run, pos int, pod uint32, plane int) bool {
	key := x.copyKey(r, pos, pod, plane)
	n := x.copies[key]
	switch {
	case n == 0:
		return false
	case n == 1:
		delete(x.copies, key)
	default:
		x.copies[key] = n - 1
	}
	return true
}

// forgetCopies ends all that copy noted of a run's blocks for a pod.
func (x *Index) forgetCopies(r *run, pod uint32) {
	for pos := range int(r.length) {
		for planes := x.sets.planesOf(x.at(r, pos), pod); planes != 0; planes &= planes - 1 {
			delete(x.copies, x.copyKey(r, pos, pod, bits.TrailingZeros32(planes)))
		}
	}
}
