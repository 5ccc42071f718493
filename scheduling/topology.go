package scheduling

import (
	"cmp"
	"fmt"
)

// Topology names the labels that say where an endpoint is. Empty names mean the usual ones of Kubernetes:
// kubernetes.io/hostname and topology.kubernetes.io/rack, /zone and /region.
type Topology struct {
	Host   string `json:"hostLabel,omitempty"`
	Rack   string `json:"rackLabel,omitempty"`
	Zone   string `json:"zoneLabel,omitempty"`
	Region string `json:"regionLabel,omitempty"`
}

// Proximity is how close two endpoints are.
type Proximity uint8

// From nothing in common that is known to the same host.
const (
	Anywhere Proximity = iota
	SameRegion
	SameZone
	SameRack
	SameHost
)

var proximities = [...]string{Anywhere: "anywhere", SameRegion: "region", SameZone: "zone", SameRack: "rack", SameHost: "host"}

// Places is where the endpoints of one layout are. It does not change.
type Places struct {
	topology Topology
	ids      [SameHost]map[string]int32 // of the names of hosts, racks, zones and regions, from 1
	bySlot   []location
}

// location is the ids of an endpoint's host, rack, zone and region, in this order.
type location [SameHost]int32

func (t Topology) names(e *Endpoint) [SameHost]string {
	return [...]string{
		e.Labels[cmp.Or(t.Host, "kubernetes.io/hostname")],
		e.Labels[cmp.Or(t.Rack, "topology.kubernetes.io/rack")],
		e.Labels[cmp.Or(t.Zone, "topology.kubernetes.io/zone")],
		e.Labels[cmp.Or(t.Region, "topology.kubernetes.io/region")],
	}
}

// Places returns where the endpoints of the snapshot are; PerLayout keeps it.
func (t Topology) Places(s *Snapshot) *Places {
	p := &Places{topology: t}
	for i := range p.ids {
		p.ids[i] = map[string]int32{}
	}
	p.bySlot = BySlot(s, func(e *Endpoint) (at location) {
		for i, name := range t.names(e) {
			if name == "" {
				continue
			}
			if p.ids[i][name] == 0 {
				p.ids[i][name] = int32(len(p.ids[i]) + 1)
			}
			at[i] = p.ids[i][name]
		}
		return at
	})
	return p
}

// Around returns how close the endpoints are to one, which need not be among them.
func (p *Places) Around(e *Endpoint) Surroundings {
	around := Surroundings{bySlot: p.bySlot}
	for i, name := range p.topology.names(e) {
		around.centre[i] = -1 // unlike what others do not know
		if id := p.ids[i][name]; id != 0 {
			around.centre[i] = id
		}
	}
	return around
}

// Surroundings is how close endpoints are to one of them.
type Surroundings struct {
	bySlot []location
	centre location
}

// At returns the narrowest thing that the endpoint in a slot has in common with the centre.
func (a Surroundings) At(slot Slot) Proximity {
	at := &a.bySlot[slot]
	switch {
	case at[0] == a.centre[0]:
		return SameHost
	case at[1] == a.centre[1]:
		return SameRack
	case at[2] == a.centre[2]:
		return SameZone
	case at[3] == a.centre[3]:
		return SameRegion
	}
	return Anywhere
}

func (p Proximity) String() string {
	if int(p) < len(proximities) {
		return proximities[p]
	}
	return fmt.Sprintf("proximity(%d)", uint8(p))
}

// MarshalText implements encoding.TextMarshaler.
func (p Proximity) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Proximity) UnmarshalText(text []byte) error {
	for i, name := range proximities {
		if string(text) == name {
			*p = Proximity(i)
			return nil
		}
	}
	return fmt.Errorf("proximity %q: want one of %q", text, proximities)
}
