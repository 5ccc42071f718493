package engine

// adapters are the LoRA slots: a running sequence needs its adapter in one. An adapter that nobody
// runs stays until its slot is wanted; the one idle for longest goes first.
type adapters struct {
	slots    int
	byName   map[string]int
	known    []adapterState
	resident []int // positions in known, least recently used first
}

type adapterState struct {
	name     string
	running  int
	waiting  int
	resident bool
}

const noAdapter = -1

func newAdapters(slots int) adapters {
	return adapters{slots: slots, byName: map[string]int{}}
}

func (a *adapters) intern(name string) int {
	if name == "" {
		return noAdapter
	}
	i, ok := a.byName[name]
	if !ok {
		i = len(a.known)
		a.byName[name] = i
		a.known = append(a.known, adapterState{name: name})
	}
	return i
}

// canRun reports whether acquire would find a slot.
func (a *adapters) canRun(i int) bool {
	return i == noAdapter || a.known[i].resident || len(a.resident) < a.slots || a.idle() >= 0
}

// acquire puts a sequence's adapter into a slot and reports whether it had to be loaded.
func (a *adapters) acquire(i int) (loaded bool) {
	if i == noAdapter {
		return false
	}
	if a.known[i].resident {
		a.leave(i)
	} else {
		loaded = true
		if len(a.resident) == a.slots {
			victim := a.resident[a.idle()]
			a.known[victim].resident = false
			a.leave(victim)
		}
	}
	a.known[i].resident = true
	a.known[i].running++
	a.resident = append(a.resident, i)
	return loaded
}

func (a *adapters) release(i int) {
	if i != noAdapter {
		a.known[i].running--
	}
}

func (a *adapters) wait(i, delta int) {
	if i != noAdapter {
		a.known[i].waiting += delta
	}
}

// unload empties all slots; nothing may be running.
func (a *adapters) unload() {
	for _, i := range a.resident {
		a.known[i].resident = false
	}
	a.resident = a.resident[:0]
}

// idle returns the place in resident of the adapter to evict, or -1.
func (a *adapters) idle() int {
	for place, i := range a.resident {
		if a.known[i].running == 0 {
			return place
		}
	}
	return -1
}

func (a *adapters) leave(i int) {
	for place, r := range a.resident {
		if r == i {
			a.resident = append(a.resident[:place], a.resident[place+1:]...)
			return
		}
	}
}
