package accel

import (
	"fmt"
	"math"
	"time"
)

// FabricKind is how the accelerators of a scale-up domain are connected. Its text form is lower case.
type FabricKind uint8

const (
	PCIe      FabricKind = iota // through the host: no fabric of their own
	Switch                      // any to any at full bandwidth: NVLink with NVSwitch
	Mesh                        // a link between each pair: xGMI, Gaudi, Xe Link
	TorusKind                   // neighbours only, in 2 or 3 dimensions: TPU ICI
)

var fabricKinds = [...]string{"pcie", "switch", "mesh", "torus"}

func (k FabricKind) String() string {
	if int(k) >= len(fabricKinds) {
		return fmt.Sprintf("fabric(%d)", uint8(k))
	}
	return fabricKinds[k]
}

// MarshalText writes the text form.
func (k FabricKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the text form.
func (k *FabricKind) UnmarshalText(text []byte) error {
	for i, name := range fabricKinds {
		if name == string(text) {
			*k = FabricKind(i)
			return nil
		}
	}
	return &FieldError{Field: "kind", Value: string(text), Want: "must be pcie, switch, mesh or torus"}
}

// Tier is the part of a system that a message goes through.
type Tier uint8

const (
	Local   Tier = iota // the same accelerator
	Up                  // the scale-up fabric
	Out                 // the network
	Blocked             // there is no direct way: other rails of a rail-only network
)

// Link is the way from one accelerator to another.
type Link struct {
	Tier      Tier
	Bandwidth float64 // bytes a second, one way, with no other traffic; 0 where nobody has published it
	Latency   time.Duration
	Hops      int // of a torus; otherwise 1
}

// Link is the way from accelerator a to b, numbered domain by domain and node by node. Of a mesh it is the one link
// between the two; of a torus a path along as few links as can be. A torus needs a slice: see [System.Slice].
func (s System) Link(a, b int) Link {
	if a/s.chip() == b/s.chip() {
		return Link{Tier: Local, Bandwidth: s.Accelerator.Bandwidth.Value}
	}
	size := s.domain()
	if a/size != b/size {
		if s.ScaleOut.RailOnly && a%s.PerNode != b%s.PerNode {
			return Link{Tier: Blocked}
		}
		return Link{Tier: Out, Bandwidth: s.ScaleOut.Bandwidth.Value, Latency: s.ScaleOut.Latency, Hops: 1}
	}
	l := Link{Tier: Up, Bandwidth: s.ScaleUp.Bandwidth.Value, Latency: s.ScaleUp.Latency, Hops: 1}
	switch s.ScaleUp.Kind {
	case Mesh:
		l.Bandwidth /= float64(max(s.ScaleUp.Links, 1))
	case TorusKind:
		l.Bandwidth /= float64(max(s.ScaleUp.Links, 1))
		l.Hops = s.ScaleUp.Shape.Hops(a%size/s.chip(), b%size/s.chip())
		l.Latency *= time.Duration(l.Hops)
	}
	return l
}

// domain is the accelerators of a scale-up domain, at least 1.
func (s System) domain() int {
	if s.ScaleUp.Kind == TorusKind && s.ScaleUp.Shape != (Shape{}) {
		return s.ScaleUp.Shape.Size() * s.chip()
	}
	return max(s.ScaleUp.Domain, 1)
}

// chip is how many of what the system counts as accelerators are one board: see [System.PerDevice].
func (s System) chip() int { return max(s.perChip, 1) }

// Rate is what each of a group of accelerators gets when all of them communicate at once, one way.
type Rate struct {
	AllToAll float64       // bytes a second, each with all others equally; 0 where it is not known
	Ring     float64       // bytes a second of a ring or bucket collective
	Latency  time.Duration // to the farthest of the group
}

// Group is how n accelerators that are numbered in a row, the first of them the first of a domain, can communicate.
type Group struct {
	Ranks     int
	Domains   int // scale-up domains that they are in
	PerDomain int // the most in one of them
	Up        Rate
	Out       Rate // between domains; all 0 where there is only one
	// OutShare is the share of an all-to-all's bytes that leaves a domain, for the rank for which it is the most.
	OutShare float64
}

// Group describes a group of n accelerators. Without a slice a group on a torus is laid out in the smallest that holds it.
func (s System) Group(n int) (Group, error) {
	if n < 1 {
		return Group{}, &FieldError{Field: "group", Value: n, Want: "must have at least 1 accelerator"}
	}
	if s.ScaleUp.Kind == TorusKind && s.ScaleUp.Shape == (Shape{}) {
		shape, ok := s.SliceFor((min(n, s.domain()) + s.chip() - 1) / s.chip())
		if !ok {
			return Group{}, &FieldError{Field: "group", Value: n, Want: "has no slice of " + s.Name + " that holds it"}
		}
		s.ScaleUp.Shape = shape
	}
	size := s.domain()
	g := Group{Ranks: n, Domains: (n + size - 1) / size, PerDomain: min(n, size)}
	g.Up = s.up(g.PerDomain)
	if g.Domains > 1 {
		last := n - (g.Domains-1)*size
		g.OutShare = float64(n-min(last, size)) / float64(n-1)
		g.Out = Rate{AllToAll: s.ScaleOut.Bandwidth.Value, Ring: s.ScaleOut.Bandwidth.Value, Latency: s.ScaleOut.Latency}
		if s.ScaleOut.RailOnly {
			g.Out.AllToAll = 0
		}
	}
	return g, nil
}

// up is the rate of n accelerators of one domain.
func (s System) up(n int) Rate {
	full := s.ScaleUp.Bandwidth.Value
	r := Rate{AllToAll: full, Ring: full, Latency: s.ScaleUp.Latency}
	if n == 1 {
		return Rate{}
	}
	switch s.ScaleUp.Kind {
	case Mesh:
		// Only the links to the others of the group carry anything; as many rings run as there are such links.
		links, boards := float64(max(s.ScaleUp.Links, 1)), (n+s.chip()-1)/s.chip()
		r.AllToAll = full * math.Min(float64(max(boards-1, 1))/links, 1)
		r.Ring = r.AllToAll
	case TorusKind:
		shape := s.ScaleUp.Shape
		link := full / float64(max(s.ScaleUp.Links, 1))
		r.AllToAll = math.Min(shape.allToAll()*link, full)
		r.Ring = float64(shape.ringLinks()) * link
		r.Latency *= time.Duration(shape.Diameter())
	}
	return r
}

// PerDevice is the system with each device an accelerator of its own, which is what engines and ranks see: bandwidths,
// peaks and memory are divided, a node and a domain have as many more. It is s itself where a board is one device.
func (s System) PerDevice() System {
	n := s.Accelerator.Devices
	if n <= 1 {
		return s
	}
	part := func(f Figure) Figure {
		f.Value, f.Low, f.High = f.Value/float64(n), f.Low/float64(n), f.High/float64(n)
		return f
	}
	a := &s.Accelerator
	a.Memory, a.Bandwidth, a.Power, a.Devices = part(a.Memory), part(a.Bandwidth), part(a.Power), 1
	for d := range a.peaks {
		a.peaks[d] = part(a.peaks[d])
	}
	s.PerNode *= n
	s.ScaleUp.Bandwidth, s.ScaleOut.Bandwidth = part(s.ScaleUp.Bandwidth), part(s.ScaleOut.Bandwidth)
	s.ScaleUp.Domain *= n
	s.perChip = n
	return s
}
