package filter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/scheduling"
)

// Pinned keeps only the endpoint that the client asks to come back to (Request.Pinned), if it is a candidate; else all. It is
// the hard form of session affinity; scorer.Pinned is the soft one.
type Pinned struct{}

// Filter implements scheduling.Filter.
func (Pinned) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if id := c.Request.Pinned; id != "" {
		for _, slot := range slots {
			if c.Endpoint(slot).ID == id {
				return append(slots[:0], slot)
			}
		}
	}
	return slots
}

// Topology keeps the endpoints that are close to the request's peer; all where there is no peer, or nobody is that close.
// Use it by pointer.
type Topology struct {
	// Labels say where endpoints are.
	Labels scheduling.Topology `json:"labels,omitzero"`
	// Min is the least that an endpoint must have in common with the peer; zero means the host.
	Min scheduling.Proximity `json:"minAffinity,omitzero"`

	places scheduling.PerLayout[*scheduling.Places]
}

// Filter implements scheduling.Filter.
func (f *Topology) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Peer == nil {
		return slots
	}
	around := f.places.Of(c.Snapshot, f.Labels.Places).Around(c.Peer)
	least := f.Min
	if least == scheduling.Anywhere {
		least = scheduling.SameHost
	}
	return deleteUnlessAll(slots, func(slot scheduling.Slot) bool { return around.At(slot) < least })
}

// Validate implements scheduling.Validator.
func (f *Topology) Validate() error {
	if f.Min > scheduling.SameHost {
		return fmt.Errorf("minAffinity: %v is unknown", f.Min)
	}
	return nil
}

// AdapterSpread keeps a LoRA adapter on few endpoints, so that it is loaded seldom and others are not driven out: it keeps
// those where the adapter runs or waits already, and the adapter's homes, the first Replicas endpoints in an order that
// depends on the adapter and the endpoints' IDs alone (rendezvous hashing). Endpoints that Overload would remove do not
// count as either, so an adapter that is in demand spreads further. Requests without an adapter keep all.
type AdapterSpread struct {
	// Replicas is how many homes an adapter has, at most 16; 0 means 2.
	Replicas int `json:"replicas,omitempty"`
	// Overload says from when on an endpoint has too much to do to count.
	Overload Overload `json:"overload,omitzero"`
}

const maxHomes = 16

// Filter implements scheduling.Filter.
func (f AdapterSpread) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Request.Adapter == "" || len(slots) == 0 {
		return slots
	}
	bound := f.Overload.bound(c, slots)
	adapter := c.Adapter()
	key := xxh3.HashString(c.Request.Adapter)
	replicas := f.Replicas
	if replicas == 0 {
		replicas = 2
	}
	type home struct {
		hash uint64
		slot scheduling.Slot
	}
	var homes [maxHomes]home // highest hash first
	n := 0
	for _, slot := range slots {
		if float64(c.Requests(slot)) > bound {
			continue
		}
		h := home{xxh3.HashStringSeed(c.Endpoint(slot).ID, key), slot}
		if n == replicas {
			if h.hash <= homes[n-1].hash {
				continue
			}
			n--
		}
		at := n
		for ; at > 0 && homes[at-1].hash < h.hash; at-- {
			homes[at] = homes[at-1]
		}
		homes[at] = h
		n++
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
		if float64(c.Requests(slot)) > bound {
			return true
		}
		if at := adapter.At(slot); at == scheduling.AdapterActive || at == scheduling.AdapterWaiting {
			return false
		}
		return !slices.ContainsFunc(homes[:n], func(h home) bool { return h.slot == slot })
	})
}

// Validate implements scheduling.Validator.
func (f AdapterSpread) Validate() error {
	var replicas error
	if f.Replicas < 0 || f.Replicas > maxHomes {
		replicas = fmt.Errorf("replicas %d: want 1 to %d", f.Replicas, maxHomes)
	}
	return errors.Join(replicas, f.Overload.Validate())
}
