package flow

// evictFor gives up requests that run for more important ones that wait in vain: one for each of these, until what was given up
// has ended. Of those on endpoints that are waited for the least important goes, and among equals the one in which least was
// invested: the fewest output tokens, a prefill counting as one.
func (c *Controller) evictFor() {
	if c.o.EvictFor == nil || len(c.sheddable) == 0 {
		return
	}
	for _, l := range c.lanes {
		for _, root := range l.roots {
			priority := root.node.band.priority
			if priority < *c.o.EvictFor || priority > l.blocked || root.members.len() == 0 {
				continue // nobody there waits in vain
			}
			for c.evicting < root.waiting {
				victim := c.leastSunk(l, priority)
				if victim == nil {
					break
				}
				victim.evicted = true
				c.evicting++
				c.evictions.Add(1)
				c.owed = append(c.owed, eviction{victim.evict, &Evicted{Priority: priority}})
			}
		}
	}
}

// eviction is a call that is owed outside of the lock.
type eviction struct {
	call  func(error)
	cause error
}

func (c *Controller) leastSunk(l *lane, priority int) *ticket {
	var least *ticket
	for _, t := range c.sheddable {
		if t.evicted || !l.set.has(t.slot) || t.node.band.priority >= priority {
			continue
		}
		if least == nil || t.cheaper(least) {
			least = t
		}
	}
	return least
}

// cheaper reports whether less is lost with t than with o.
func (t *ticket) cheaper(o *ticket) bool {
	if p, q := t.node.band.priority, o.node.band.priority; p != q {
		return p < q
	}
	return t.sunk.Load() < o.sunk.Load()
}
