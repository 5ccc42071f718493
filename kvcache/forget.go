package kvcache

// reserve makes room for some blocks. Runs give way that have been neither matched nor stored since this last looked at them.
func (x *Index) reserve(blocks int) {
	blocks = min(blocks, x.longest())
	runs := blocks/runBlocks + 8
	segments := blocks/segmentBlocks + runs + 4
	for x.freeRuns.left() < runs || x.freeSegments.left() < segments || !x.sets.room() ||
		x.names.first != nil && x.names.free.left() < segments || x.leases.free.left() < 4*runs {
		if !x.forgetOne() {
			return
		}
	}
}

// longest is the longest chain that the index can take in at once, whatever else it has to forget for it.
func (x *Index) longest() int { return len(x.runs) / 4 * segmentBlocks }

// forgetOne forgets the next run that has not been used lately.
func (x *Index) forgetOne() bool {
	for range 2 * int(x.freeRuns.next) {
		if x.hand++; x.hand >= x.freeRuns.next {
			x.hand = 0
		}
		r := &x.runs[x.hand]
		if r.flags&runLive == 0 {
			continue
		}
		if used := peek32(&r.used); used&1 != 0 {
			poke32(&r.used, used&^1)
			continue
		}
		x.stats.Forgotten += uint64(r.length)
		x.forget(x.hand)
		return true
	}
	return false
}

// forget ends a run, whoever holds it.
func (x *Index) forget(id uint32) {
	x.scattered = true
	r := &x.runs[id]
	var list spanList
	x.load(r, &list)
	start := 0
	for _, s := range list.s[:list.n] {
		x.sets.each(s.set(), func(p int, pod uint32) {
			if p == int(Guessed) {
				x.settle(&x.pods[pod], id, start, s.end())
				x.pods[pod].guesses -= s.end() - start
			} else if x.sets.planesOf(s.set(), pod)&exactPlanes&(1<<p-1) == 0 { // once for all planes
				x.pods[pod].blocks -= s.end() - start
			}
			if r.flags&runCopies != 0 {
				for pos := start; pos < s.end(); pos++ {
					delete(x.copies, x.copyKey(r, pos, pod, p))
				}
			}
		})
		start = s.end()
	}
	r.version.Add(1)
	x.drop(&list)
	list.n = 1
	list.s[0] = newSpan(int(r.length), 0)
	x.save(r, &list)
	r.version.Add(1)
	x.trim(id)
}
