package accel

import (
	"fmt"
	"strconv"
	"strings"
)

// Shape is the extent of a torus along up to three axes; 0 is no axis. Wrap says which axes close to a ring.
type Shape struct {
	Dims [3]int
	Wrap [3]bool
}

// ParseShape reads "4x8" or "2x2x4". No axis wraps: see [System.Slice].
func ParseShape(s string) (Shape, error) {
	bad := &FieldError{Field: "topology", Value: s, Want: "must be two or three axes, such as 4x8 or 2x2x4"}
	var shape Shape
	words := strings.Split(s, "x")
	if len(words) < 2 || len(words) > 3 {
		return Shape{}, bad
	}
	for i, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > 1<<12 || w[0] == '+' {
			return Shape{}, bad
		}
		shape.Dims[i] = n
	}
	return shape, nil
}

func (s Shape) String() string {
	text := fmt.Sprintf("%dx%d", s.Dims[0], s.Dims[1])
	if s.Dims[2] > 0 {
		text += fmt.Sprintf("x%d", s.Dims[2])
	}
	return text
}

// Size is how many accelerators the shape has.
func (s Shape) Size() int {
	n := 1
	for _, d := range s.Dims {
		n *= max(d, 1)
	}
	return n
}

// Hops is the fewest links between two accelerators, numbered along the last axis first.
func (s Shape) Hops(a, b int) int {
	hops := 0
	for axis := 2; axis >= 0; axis-- {
		d := max(s.Dims[axis], 1)
		step := a%d - b%d
		if step < 0 {
			step = -step
		}
		if s.Wrap[axis] {
			step = min(step, d-step)
		}
		hops, a, b = hops+step, a/d, b/d
	}
	return hops
}

// Diameter is the most hops between any two.
func (s Shape) Diameter() int {
	hops := 0
	for axis, d := range s.Dims {
		switch {
		case d > 1 && s.Wrap[axis]:
			hops += d / 2
		case d > 1:
			hops += d - 1
		}
	}
	return hops
}

// BisectionLinks is the fewest links, each used one way, between two halves of the shape that a plane across one axis
// separates. It is 0 for a single accelerator.
func (s Shape) BisectionLinks() int {
	least := 0
	for axis, d := range s.Dims {
		if d < 2 {
			continue
		}
		if n := s.cut(axis); least == 0 || n < least {
			least = n
		}
	}
	return least
}

// cut is the links that cross a plane in the middle of an axis.
func (s Shape) cut(axis int) int {
	n := s.Size() / s.Dims[axis]
	if s.Wrap[axis] {
		return 2 * n
	}
	return n
}

// allToAll is the rate, in links, at which each accelerator can send to all others equally: what crosses the middle of an
// axis must fit through the links there.
func (s Shape) allToAll() float64 {
	size := float64(s.Size())
	least := 0.
	for axis, d := range s.Dims {
		if d < 2 {
			continue
		}
		half := float64(d/2) * size / float64(d)
		// Each of the half sends to the other half this share of its bytes.
		share := (size - half) / (size - 1)
		if rate := float64(s.cut(axis)) / (half * share); least == 0 || rate < least {
			least = rate
		}
	}
	return least
}

// ringLinks is how many links of an accelerator ring collectives can send on at once: both ways round each axis that closes,
// and one way, there and back, on each that does not.
func (s Shape) ringLinks() int {
	n := 0
	for axis, d := range s.Dims {
		switch {
		case d > 1 && s.Wrap[axis]:
			n += 2
		case d > 1:
			n++
		}
	}
	return n
}

// Torus is which slices a torus can be cut into.
type Torus struct {
	Slices  []Shape // that can be had besides cubes
	Cube    int     // an axis of a slice of whole cubes is a multiple of this, and all its axes close; 0 is no cubes
	Ring    int     // an axis of exactly this length closes; 0 is none
	Largest Shape
}

// slice returns a shape with its wraps, and whether it can be had. Axes of cubes must ascend.
func (t *Torus) slice(s Shape) (Shape, bool) {
	axes := 2
	if t.Largest.Dims[2] > 0 {
		axes = 3
	}
	cubes := t.Cube > 0
	for i, d := range s.Dims {
		if (d > 0) != (i < axes) {
			return Shape{}, false
		}
		if i < axes {
			cubes = cubes && d%t.Cube == 0 && d <= t.Largest.Dims[i] && (i == 0 || s.Dims[i-1] <= d)
			s.Wrap[i] = t.Ring > 0 && d == t.Ring
		}
	}
	if cubes {
		for i := range axes {
			s.Wrap[i] = true
		}
		return s, true
	}
	for _, known := range t.Slices {
		if known.Dims == s.Dims {
			return s, true
		}
	}
	return Shape{}, false
}

// Slice returns the system with a slice of the given topology, such as "4x8", as its scale-up domain. Axes close where the
// fabric closes them. A topology that the fabric does not have is an error.
func (s System) Slice(topology string) (System, error) {
	if s.ScaleUp.Kind != TorusKind || s.ScaleUp.Torus == nil {
		return System{}, &FieldError{Field: "topology", Value: topology, Want: "is for a torus, and " + s.Name + " is none"}
	}
	shape, err := ParseShape(topology)
	if err != nil {
		return System{}, err
	}
	shape, ok := s.ScaleUp.Torus.slice(shape)
	if !ok {
		return System{}, &FieldError{Field: "topology", Value: topology, Want: "is no slice of " + s.Name + s.ScaleUp.Torus.describe()}
	}
	s.ScaleUp.Shape = shape
	s.ScaleUp.Domain = shape.Size()
	return s, nil
}

func (t *Torus) describe() string {
	var names []string
	for _, s := range t.Slices {
		names = append(names, s.String())
	}
	text := "; it has " + strings.Join(names, ", ")
	if t.Cube > 0 {
		text += fmt.Sprintf(" and ascending multiples of %d up to %s", t.Cube, t.Largest)
	}
	return text
}

// SliceFor is the smallest slice with at least n accelerators, and of those the one with the most links across its middle.
func (s System) SliceFor(n int) (Shape, bool) {
	t := s.ScaleUp.Torus
	if s.ScaleUp.Kind != TorusKind || t == nil {
		return Shape{}, false
	}
	var best Shape
	consider := func(dims [3]int) {
		shape, ok := t.slice(Shape{Dims: dims})
		if !ok || shape.Size() < n {
			return
		}
		if best == (Shape{}) || shape.Size() < best.Size() ||
			shape.Size() == best.Size() && shape.BisectionLinks() > best.BisectionLinks() {
			best = shape
		}
	}
	for _, known := range t.Slices {
		consider(known.Dims)
	}
	if c := t.Cube; c > 0 {
		for x := c; x <= t.Largest.Dims[0]; x += c {
			for y := x; y <= t.Largest.Dims[1]; y += c {
				for z := y; z <= t.Largest.Dims[2]; z += c {
					consider([3]int{x, y, z})
				}
			}
		}
	}
	return best, best != (Shape{})
}
