package accel

// Shape is the extent of a torus along up to three axes; 0 is no axis. Wrap says which axes close to a ring.
type Shape struct {
	X, Y, Z int
	Wrap    [3]bool
}

// Size is how many accelerators the shape has.
func (s Shape) Size() int {
	n := 1
	for _, d := range [3]int{s.X, s.Y, s.Z} {
		n *= max(d, 1)
	}
	return n
}
