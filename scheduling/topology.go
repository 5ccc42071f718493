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

// Place is where an endpoint is; what is not known is empty.
type Place struct{ Host, Rack, Zone, Region string }

// Place returns where an endpoint is.
func (t Topology) Place(e *Endpoint) Place {
	return Place{
		e.Labels[cmp.Or(t.Host, "kubernetes.io/hostname")],
		e.Labels[cmp.Or(t.Rack, "topology.kubernetes.io/rack")],
		e.Labels[cmp.Or(t.Zone, "topology.kubernetes.io/zone")],
		e.Labels[cmp.Or(t.Region, "topology.kubernetes.io/region")],
	}
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

// To returns the narrowest thing that two places have in common.
func (p Place) To(q Place) Proximity {
	switch {
	case p.Host != "" && p.Host == q.Host:
		return SameHost
	case p.Rack != "" && p.Rack == q.Rack:
		return SameRack
	case p.Zone != "" && p.Zone == q.Zone:
		return SameZone
	case p.Region != "" && p.Region == q.Region:
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
