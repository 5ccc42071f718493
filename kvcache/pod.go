package kvcache

import (
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Pod names a publisher of events: an engine, one data-parallel rank of it, or a store. The caller gives out IDs below
// Options.MaxPods; the scheduler's slots and generations will do. An ID that gets a new generation is another pod.
type Pod struct {
	ID, Generation uint32
}

// PodOptions say what a pod is. The zero value works for Speculate; Apply needs Model.
type PodOptions struct {
	// Name identifies the pod in snapshots, for other processes and after restarts.
	Name string
	// Model is the model that the pod's events are about, as prompts' Spaces name it. An event that names its model itself wins.
	Model string
	// Revision of adapters, as prompts' Spaces have it.
	Revision string
	// Capacity is how many blocks Speculate may believe that the pod holds.
	Capacity int
}

// Group is a group of a model's layers that has blocks of its own.
type Group struct {
	ID          int // as events number them
	BlockTokens int
	Attention   events.Attention
	Window      int // tokens of a sliding window or chunk
}

// Verdict is what became of a batch.
type Verdict uint8

const (
	// Applied in its turn.
	Applied Verdict = iota
	// AppliedAfterGap: batches before it are missing, so what was known of the pod was forgotten first.
	AppliedAfterGap
	// Duplicate of a batch that was applied, or one that a later batch has overtaken; nothing changed.
	Duplicate
	// Closed: the pod is not open under that generation; nothing changed.
	Closed
)

func (v Verdict) String() string {
	return [...]string{"applied", "applied after a gap", "duplicate", "closed"}[min(v, Closed)]
}

// pod is what the index keeps of a pod.
type pod struct {
	Pod
	open            bool
	options         PodOptions
	groups          []group
	sequence        uint64 // of the last batch applied
	follows         bool   // the next one must follow it
	blocks, guesses int

	links, linked, compactAt uint32 // the runs that it may be in
	oldest, newest           uint32 // leases
}

// link is an entry of the list of runs that a pod has come into. It may have left some since, and some may be in it twice. Names
// that only the pod has used are in no others.
type link struct{ run, next uint32 }

const linkBytes = 8

// group is a group of layers with the number that it has in planes.
type group struct {
	Group
	number int
}

// maxGroups is how many groups of one block size a pod can have.
const maxGroups = 7

// plane is where the holders of a group in a tier are in sets. Guesses are of all groups.
func plane(group int, t Tier) int {
	if group == 0 {
		return int(t)
	}
	return Tiers + (Tiers-1)*(group-1) + int(t)
}

// pod returns an open pod.
func (x *Index) pod(p Pod) *pod {
	if int(p.ID) >= len(x.pods) {
		return nil
	}
	if s := &x.pods[p.ID]; s.open && s.Generation == p.Generation {
		return s
	}
	return nil
}

// Open begins a pod, or changes the options of one that is open. A new generation of an ID ends the one before.
func (x *Index) Open(p Pod, o PodOptions) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(p.ID) >= len(x.pods) {
		return fmt.Errorf("kvcache: pod ID %d: want less than %d", p.ID, len(x.pods))
	}
	s := &x.pods[p.ID]
	if !s.open || s.Generation != p.Generation {
		x.shut(s)
		*s = pod{Pod: p, open: true, links: none, oldest: none, newest: none}
		x.opened++
	}
	s.options = o
	x.fit(s)
	return nil
}

// Close forgets a pod. Events for it that come later do nothing.
func (x *Index) Close(p Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.pod(p); s != nil {
		x.shut(s)
	}
}

func (x *Index) shut(s *pod) {
	if !s.open {
		return
	}
	x.empty(s)
	s.open = false
	x.opened--
	if len(s.groups) > 0 {
		s.groups = nil
		x.publishGroups()
	}
	if stores := x.stores.Load(); stores != nil {
		kept := slices.DeleteFunc(slices.Clone(*stores), func(st store) bool { return st.pod == s.ID })
		x.stores.Store(&kept)
	}
}

// Lost forgets what a pod holds, because events of it are missing or it began anew. The next batch may have any sequence number.
func (x *Index) Lost(p Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.pod(p); s != nil {
		x.empty(s)
		s.follows = false
	}
}

// Cursor returns the sequence number of the last batch applied.
func (x *Index) Cursor(p Pod) (sequence uint64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.pod(p); s != nil {
		return s.sequence, s.follows
	}
	return 0, false
}

// Groups returns the groups of layers that a pod's events have told of.
func (x *Index) Groups(p Pod) []Group {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []Group
	if s := x.pod(p); s != nil {
		for _, g := range s.groups {
			out = append(out, g.Group)
		}
	}
	return out
}

// store is a pod whose blocks others can read.
type store struct {
	pod     uint32
	readers []uint64
}

// Share says which pods can read a store: for them, what it holds is in the Remote tier. Readers is a set of bits by Pod.ID.
// Models of several attention groups are not matched with stores.
func (x *Index) Share(p Pod, readers []uint64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pod(p) == nil {
		return ErrClosed
	}
	var stores []store
	if old := x.stores.Load(); old != nil {
		stores = slices.DeleteFunc(slices.Clone(*old), func(st store) bool { return st.pod == p.ID })
	}
	stores = append(stores, store{p.ID, slices.Clone(readers)})
	x.stores.Store(&stores)
	return nil
}

// empty forgets what a pod holds, is believed to hold, and has given names that nobody else uses, in time proportional to the runs
// that it is in.
func (x *Index) empty(s *pod) {
	for s.oldest != none {
		x.endLease(s, s.oldest)
	}
	for s.links != none {
		l := x.links[s.links]
		x.freeLinks.give(s.links)
		s.links = l.next
		x.strip(l.run, s)
	}
	s.linked, s.compactAt = 0, 0
}

// strip takes a pod out of a run.
func (x *Index) strip(id uint32, s *pod) {
	r := &x.runs[id]
	if r.flags&runLive == 0 {
		return
	}
	x.disown(id, s.ID)
	if !x.within(r, s.ID, exactPlanes) {
		return
	}
	if r.flags&runCopies != 0 {
		x.forgetCopies(r, s.ID)
	}
	x.paint(id, 0, int(r.length), stroke{pod: s.ID, clear: ^uint32(0)})
}

// enter puts a run into a pod's list.
func (x *Index) enter(id uint32, s *pod) (ok bool) {
	r := &x.runs[id]
	r.flags |= runSeen // older entries of it may go, but not the names that it may have got already
	defer func() { r.flags &^= runSeen }()
	if s.linked >= s.compactAt && s.linked > 0 {
		x.compact(s)
		s.compactAt = 2*s.linked + 64
	}
	if !x.roomToEnter(1) {
		return false
	}
	x.push(id, s)
	return true
}

// push is enter where there is room.
func (x *Index) push(id uint32, s *pod) {
	l := x.freeLinks.take()
	x.links[l] = link{id, s.links}
	s.links = l
	s.linked++
}

// roomToEnter tells whether some entries more fit into pods' lists, after they are cleared of what is out of date if need be.
func (x *Index) roomToEnter(n int) bool {
	if x.freeLinks.left() < n {
		for i := range x.pods {
			x.compact(&x.pods[i])
		}
	}
	return x.freeLinks.left() >= n
}

// compact removes from a pod's list the runs that it has left, and repetitions.
func (x *Index) compact(s *pod) {
	if !s.open {
		return
	}
	s.linked = 0
	for at := &s.links; *at != none; {
		l := *at
		r := &x.runs[x.links[l].run]
		if r.flags&runLive != 0 && r.flags&runSeen == 0 && x.within(r, s.ID, exactPlanes) {
			r.flags |= runSeen
			s.linked++
			at = &x.links[l].next
			continue
		}
		if r.flags&runLive != 0 && r.flags&runSeen == 0 {
			x.disown(x.links[l].run, s.ID)
		}
		*at = x.links[l].next
		x.freeLinks.give(l)
	}
	for l := s.links; l != none; l = x.links[l].next {
		x.runs[x.links[l].run].flags &^= runSeen
	}
}
