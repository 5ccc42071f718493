package scheduling

import (
	"slices"
	"time"
)

// Snapshot is an immutable picture of a pool: who is in it and what was last observed of them, in columns by slot. It is
// safe for concurrent use and costs one atomic load to get.
type Snapshot struct {
	endpoints   []*Endpoint // nil where a slot is empty
	generations []uint32
	live        []Slot
	models      map[string][]Slot
	adapters    map[string][]Slot // which endpoints can serve the adapter
	base        map[string]string // an adapter's base model
	layout      uint64
	changed     chan struct{} // closed when a newer layout is published

	values   [metrics]column
	baseline []uint16 // requests on the ledger when the slot's load was last reported

	lora *residency
}

// column is one metric by slot, and when each value was observed, in Unix nanoseconds; 0 means never.
type column struct {
	values []float64
	at     []int64
}

// Len is one more than the highest slot in use: what a slice indexed by slot must hold.
func (s *Snapshot) Len() int { return len(s.endpoints) }

// Live returns the slots in use, ascending. It must not be changed.
func (s *Snapshot) Live() []Slot { return s.live }

// Endpoint returns the endpoint in a slot, or nil.
func (s *Snapshot) Endpoint(slot Slot) *Endpoint {
	if int(slot) >= len(s.endpoints) {
		return nil
	}
	return s.endpoints[slot]
}

// Generation tells one endpoint in a slot from the next.
func (s *Snapshot) Generation(slot Slot) uint32 { return s.generations[slot] }

// Layout changes whenever an endpoint comes, goes or changes, its cache geometry included, but not with its metrics.
func (s *Snapshot) Layout() uint64 { return s.layout }

// Changed is closed once there is a snapshot with another layout.
func (s *Snapshot) Changed() <-chan struct{} { return s.changed }

// Find returns the slot of the endpoint with the ID.
func (s *Snapshot) Find(id string) (Slot, bool) {
	for _, slot := range s.live {
		if s.endpoints[slot].ID == id {
			return slot, true
		}
	}
	return 0, false
}

// Models returns the known base models and adapters, sorted.
func (s *Snapshot) Models() []string {
	names := make([]string, 0, len(s.models)+len(s.adapters))
	for name := range s.models {
		names = append(names, name)
	}
	for name := range s.adapters {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve tells what the model name of a client's request means: a base model, or an adapter on one.
func (s *Snapshot) Resolve(name string) (model, adapter string, ok bool) {
	if _, ok := s.models[name]; ok {
		return name, "", true
	}
	if base, ok := s.base[name]; ok {
		return base, name, true
	}
	_, any := s.models[""]
	return name, "", any && name != ""
}

// Observed returns a metric's last value and when it was read; ok is false if it never was.
func (s *Snapshot) Observed(slot Slot, m Metric) (value float64, at time.Time, ok bool) {
	if int(m) >= len(s.values) || int(slot) >= len(s.values[m].at) || s.values[m].at[slot] == 0 {
		return 0, time.Time{}, false
	}
	return s.values[m].values[slot], time.Unix(0, s.values[m].at[slot]), true
}

// candidates appends the slots that serve a model and adapter. ok is false if nothing of that name is known.
func (s *Snapshot) candidates(dst []Slot, model, adapter string) (slots []Slot, ok bool) {
	if model == "" && adapter == "" {
		return append(dst, s.live...), true
	}
	if adapter != "" {
		able, known := s.adapters[adapter]
		for _, slot := range able {
			if m := s.endpoints[slot].Model; m == model || m == "" || model == "" {
				dst = append(dst, slot)
			}
		}
		return dst, known
	}
	exact, known := s.models[model]
	wild, any := s.models[""]
	return append(append(dst, exact...), wild...), known || any
}

// residency is which adapters run where.
type residency struct {
	at      []int64 // when the slot's state was observed
	states  []*AdapterState
	active  map[string]bitset
	waiting map[string]bitset
	free    bitset // the slot can take one more adapter
}

func newResidency(states []*AdapterState, at []int64) *residency {
	r := &residency{at: at, states: states, active: map[string]bitset{}, waiting: map[string]bitset{}, free: newBitset(len(states))}
	mark := func(into map[string]bitset, name string, slot Slot) {
		if into[name] == nil {
			into[name] = newBitset(len(states))
		}
		into[name].set(slot)
	}
	for i, st := range states {
		if st == nil {
			continue
		}
		slot, used := Slot(i), len(st.Active)
		for _, name := range st.Active {
			mark(r.active, name, slot)
		}
		for _, name := range st.Waiting {
			mark(r.waiting, name, slot)
			if !slices.Contains(st.Active, name) {
				used++
			}
		}
		if used < st.Max {
			r.free.set(slot)
		}
	}
	return r
}

type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(slot Slot) { b[slot/64] |= 1 << (slot % 64) }

func (b bitset) has(slot Slot) bool {
	return int(slot/64) < len(b) && b[slot/64]&(1<<(slot%64)) != 0
}
