package scheduling

// RemoteLoad is what other processes have in flight on an endpoint.
type RemoteLoad struct {
	Slot       Slot
	Generation uint32
	Load
}

// elsewhere is remote loads by slot. It is immutable; nil is none.
type elsewhere []RemoteLoad

// SetRemote makes plugins see what other processes have in flight, in place of what was set before: Cycle.Requests,
// PrefillTokens and KVTokens count it. Limits of the ledger, InFlight and Total do not. What is of an endpoint that has been
// replaced in its slot counts for nothing.
func (p *Pool) SetRemote(loads []RemoteLoad) {
	if len(loads) == 0 {
		p.elsewhere.Store(nil)
		return
	}
	var by elsewhere
	for _, l := range loads {
		if int(l.Slot) >= p.max {
			continue
		}
		for int(l.Slot) >= len(by) {
			by = append(by, RemoteLoad{})
		}
		l.Requests, l.PrefillTokens, l.KVTokens = max(l.Requests, 0), max(l.PrefillTokens, 0), max(l.KVTokens, 0)
		by[l.Slot] = l
	}
	p.elsewhere.Store(&by)
}

// Remote returns what SetRemote said of a slot.
func (p *Pool) Remote(slot Slot) Load {
	return p.elsewhere.Load().at(slot, p.Snapshot().generation(slot))
}

func (s *Snapshot) generation(slot Slot) uint32 {
	if int(slot) >= len(s.generations) {
		return 0
	}
	return s.generations[slot]
}

func (e *elsewhere) at(slot Slot, generation uint32) Load {
	if e == nil || int(slot) >= len(*e) || (*e)[slot].Generation != generation {
		return Load{}
	}
	return (*e)[slot].Load
}

// plus adds a remote load to what the ledger holds. Counters stay at their ends.
func (l load) plus(o Load) load {
	requests, prefill := min(l.requests()+o.Requests, maxRequest), min(l.prefill()+o.PrefillTokens, maxPrefill)
	return load(uint64(l.generation())<<(prefillBits+requestBits) | uint64(requests)<<prefillBits | uint64(prefill))
}

// see notes what is in flight on a slot, for an attempt.
func (c *Cycle) see(slot Slot, l load) {
	c.seen[slot], c.loads[slot] = l, l
	if c.elsewhere != nil {
		c.loads[slot] = l.plus(c.elsewhere.at(slot, c.Snapshot.generations[slot]))
	}
}
