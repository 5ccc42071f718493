package scheduling

import (
	"cmp"
	"slices"
	"time"
)

// Snapshot is an immutable picture of a pool: who is in it and what was last observed of them, in columns by slot. It is
// safe for concurrent use and costs one atomic load to get.
type Snapshot struct {
	endpoints   []*Endpoint // nil where a slot is empty
	generations []uint32
	live        []Slot
	served      map[service][]Slot
	base        map[string]string // an adapter's base model
	layout      uint64
	changed     chan struct{} // closed when a newer layout is published

	values   [metrics]column
	baseline []uint16 // requests on the ledger when the slot's load was last reported

	lora *residency
}

// service is what a request asks for; adapter is empty for the model itself.
type service struct{ model, adapter string }

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
	var names []string
	for what := range s.served {
		if name := cmp.Or(what.adapter, what.model); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve tells what the model name of a client's request means: a base model, or an adapter on one.
func (s *Snapshot) Resolve(name string) (model, adapter string, ok bool) {
	if _, ok := s.served[service{name, ""}]; ok {
		return name, "", true
	}
	if base, ok := s.base[name]; ok {
		return base, name, true
	}
	return name, "", len(s.served[service{}]) > 0
}

// candidates returns the slots that serve a model and adapter, and whether anything of that name is known. An endpoint
// that serves any model is listed under the empty one.
func (s *Snapshot) candidates(model, adapter string) (slots []Slot, known bool) {
	if model == "" && adapter == "" {
		return s.live, true
	}
	slots, known = s.served[service{model, adapter}]
	if !known && adapter == "" {
		slots = s.served[service{}]
		known = len(slots) > 0
	}
	return slots, known
}

// Observed returns a metric's last value and when it was read; ok is false if it never was.
func (s *Snapshot) Observed(slot Slot, m Metric) (value float64, at time.Time, ok bool) {
	if int(m) >= len(s.values) || int(slot) >= len(s.values[m].at) || s.values[m].at[slot] == 0 {
		return 0, time.Time{}, false
	}
	return s.values[m].values[slot], time.Unix(0, s.values[m].at[slot]), true
}

// ObservedAdapters returns what an engine last said of its LoRA adapters, and when; ok is false if it never did. The state must
// not be changed.
func (s *Snapshot) ObservedAdapters(slot Slot) (state *AdapterState, at time.Time, ok bool) {
	if int(slot) >= len(s.lora.states) || s.lora.states[slot] == nil {
		return nil, time.Time{}, false
	}
	return s.lora.states[slot], time.Unix(0, s.lora.at[slot]), true
}

// residency is which adapters run where.
type residency struct {
	at      []int64 // when the slot's state was observed
	states  []*AdapterState
	active  map[string]bitset
	waiting map[string]bitset
	free    bitset // the slot can take one more adapter
	nobody  bitset
}

func newResidency(states []*AdapterState, at []int64) *residency {
	r := &residency{
		at: at, states: states, active: map[string]bitset{}, waiting: map[string]bitset{},
		free: newBitset(len(states)), nobody: newBitset(len(states)),
	}
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

// slots returns who is marked with a name.
func (r *residency) slots(marks map[string]bitset, name string) bitset {
	if b := marks[name]; b != nil {
		return b
	}
	return r.nobody
}

// bitset is a set of slots of a fixed size.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(slot Slot) { b[slot/64] |= 1 << (slot % 64) }

// bit returns 1 for a slot in the set and 0 for others.
func (b bitset) bit(slot Slot) uint64 { return b[slot/64] >> (slot % 64) & 1 }
