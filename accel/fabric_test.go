package accel_test

import (
	"math/bits"
	"testing"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSlices(t *testing.T) {
	for _, row := range []struct {
		system, topology string
		wrap             [3]bool
		ok               bool
	}{
		{"tpu-v5e", "1x1", [3]bool{}, true},
		{"tpu-v5e", "2x4", [3]bool{}, true},
		{"tpu-v5e", "8x16", [3]bool{false, true}, true},
		{"tpu-v6e", "16x16", [3]bool{true, true}, true},
		{"tpu-v6e", "16x32", [3]bool{}, false},
		{"tpu-v6e", "3x3", [3]bool{}, false},
		{"tpu-v6e", "4x4x4", [3]bool{}, false},
		{"tpu-v5p", "2x2x4", [3]bool{}, true},
		{"tpu-v5p", "4x4x4", [3]bool{true, true, true}, true},
		{"tpu-v5p", "4x4x12", [3]bool{true, true, true}, true},
		{"tpu-v5p", "16x16x24", [3]bool{true, true, true}, true},
		{"tpu-v5p", "16x16x28", [3]bool{}, false},
		{"tpu-v5p", "8x4x4", [3]bool{}, false},
		{"tpu-v5p", "4x4", [3]bool{}, false},
		{"tpu7x", "16x24x24", [3]bool{true, true, true}, true},
		{"tpu7x", "4x8x8", [3]bool{true, true, true}, true},
		{"tpu7x", "4x0x8", [3]bool{}, false},
		{"tpu7x", "", [3]bool{}, false},
		{"tpu7x", "2x2x-1", [3]bool{}, false},
		{"tpu7x", "2x2x1x1", [3]bool{}, false},
		{"h200-sxm", "2x4", [3]bool{}, false},
	} {
		s, err := system(t, row.system).Slice(row.topology)
		if !row.ok {
			assert.Error(t, err, row.topology)
			continue
		}
		require.NoError(t, err, row.topology)
		assert.Equal(t, row.topology, s.ScaleUp.Shape.String())
		assert.Equal(t, row.wrap, s.ScaleUp.Shape.Wrap, row.topology)
		assert.Equal(t, s.ScaleUp.Shape.Size(), s.ScaleUp.Domain)
	}
	_, err := system(t, "tpu-v5p").Slice("4x4x6")
	assert.ErrorContains(t, err, "topology is 4x4x6: is no slice of tpu-v5p; it has 2x2x1")
}

func TestSliceFor(t *testing.T) {
	for _, row := range []struct {
		system string
		n      int
		want   string
	}{
		{"tpu-v5e", 1, "1x1"}, {"tpu-v5e", 5, "2x4"}, {"tpu-v5e", 200, "16x16"},
		{"tpu-v5p", 1, "2x2x1"}, {"tpu-v5p", 33, "4x4x4"}, {"tpu-v5p", 200, "4x8x8"}, {"tpu-v5p", 500, "8x8x8"},
		{"tpu7x", 9216, "16x24x24"},
	} {
		shape, ok := system(t, row.system).SliceFor(row.n)
		require.True(t, ok)
		assert.Equal(t, row.want, shape.String(), "%s %d", row.system, row.n)
	}
	_, ok := system(t, "tpu-v5e").SliceFor(257)
	assert.False(t, ok)
	_, ok = system(t, "h200-sxm").SliceFor(8)
	assert.False(t, ok)
}

// neighbours by definition: one step along one axis, around the end where the axis closes.
func neighbours(s accel.Shape) [][]int {
	at := func(i int) (c [3]int) {
		for axis := 2; axis >= 0; axis-- {
			d := max(s.Dims[axis], 1)
			c[axis], i = i%d, i/d
		}
		return c
	}
	out := make([][]int, s.Size())
	for a := range out {
		for b := range out {
			steps, far := 0, false
			for axis := range 3 {
				d, w := max(s.Dims[axis], 1), 0
				if w = at(a)[axis] - at(b)[axis]; w < 0 {
					w = -w
				}
				if s.Wrap[axis] {
					w = min(w, d-w)
				}
				steps += w
				far = far || w > 1
			}
			if steps == 1 && !far {
				out[a] = append(out[a], b)
			}
		}
	}
	return out
}

func drawShape(t *rapid.T, most int) accel.Shape {
	s := accel.Shape{}
	for axis := range rapid.IntRange(2, 3).Draw(t, "axes") {
		s.Dims[axis] = rapid.IntRange(1, most).Draw(t, "extent")
		// An axis that closes has at least three, or the link around would double another.
		s.Wrap[axis] = s.Dims[axis] > 2 && rapid.Bool().Draw(t, "wrap")
	}
	return s
}

func TestHopsAreShortestPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 5)
		next := neighbours(s)
		from := rapid.IntRange(0, s.Size()-1).Draw(t, "from")
		dist := map[int]int{from: 0}
		far := 0
		for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
			for _, b := range next[queue[0]] {
				if _, seen := dist[b]; !seen {
					dist[b] = dist[queue[0]] + 1
					queue = append(queue, b)
				}
			}
		}
		for b, d := range dist {
			require.Equal(t, d, s.Hops(from, b))
			far = max(far, d)
		}
		require.Len(t, dist, s.Size())
		require.GreaterOrEqual(t, s.Diameter(), far)
	})
}

// The smallest cut of all those that halve a small torus is the plane across its longest axis.
func TestBisection(t *testing.T) {
	for _, s := range []accel.Shape{
		{Dims: [3]int{2, 2}}, {Dims: [3]int{2, 4}}, {Dims: [3]int{4, 4}}, {Dims: [3]int{4, 4}, Wrap: [3]bool{true, true}},
		{Dims: [3]int{2, 8}, Wrap: [3]bool{false, true}}, {Dims: [3]int{2, 2, 4}}, {Dims: [3]int{2, 2, 4}, Wrap: [3]bool{false, false, true}},
	} {
		next := neighbours(s)
		n := s.Size()
		best := n * n
		for half := range uint32(1) << n {
			if bits.OnesCount32(half) != n/2 {
				continue
			}
			cut := 0
			for a := range n {
				for _, b := range next[a] {
					if half>>a&1 == 1 && half>>b&1 == 0 {
						cut++
					}
				}
			}
			best = min(best, cut)
		}
		assert.Equal(t, best, s.BisectionLinks(), "%v", s)
	}
	assert.Zero(t, accel.Shape{Dims: [3]int{1, 1}}.BisectionLinks())
}

func TestLink(t *testing.T) {
	h200 := system(t, "h200-sxm")
	assert.Equal(t, accel.Local, h200.Link(3, 3).Tier)
	assert.Equal(t, accel.Link{Tier: accel.Up, Bandwidth: 450e9, Latency: 2 * time.Microsecond, Hops: 1}, h200.Link(0, 7))
	assert.Equal(t, accel.Link{Tier: accel.Out, Bandwidth: 50e9, Latency: 5 * time.Microsecond, Hops: 1}, h200.Link(7, 8))
	h200.ScaleOut.RailOnly = true
	assert.Equal(t, accel.Out, h200.Link(1, 9).Tier, "same rail")
	assert.Equal(t, accel.Blocked, h200.Link(1, 10).Tier)

	nvl72 := system(t, "gb200-nvl72")
	assert.Equal(t, accel.Up, nvl72.Link(0, 71).Tier, "another tray of the rack")
	assert.Equal(t, accel.Out, nvl72.Link(71, 72).Tier)

	assert.InEpsilon(t, 64e9, system(t, "mi300x").Link(0, 1).Bandwidth, 1e-9, "one of seven links")

	v5p, err := system(t, "tpu-v5p").Slice("4x4x4")
	require.NoError(t, err)
	l := v5p.Link(0, 2+2*4+2*16)
	assert.Equal(t, 6, l.Hops)
	assert.Equal(t, 6*time.Microsecond, l.Latency)
	assert.InEpsilon(t, 100e9, l.Bandwidth, 1e-9)
	assert.Equal(t, 1, v5p.Link(0, 3).Hops, "around the end")

	chip := system(t, "tpu7x").PerDevice()
	assert.Equal(t, accel.Local, chip.Link(0, 1).Tier, "two devices of one chip")
	assert.Equal(t, 8, chip.PerNode)
	assert.InEpsilon(t, 2307e12/2, peak(chip.Accelerator, accel.BF16), 1e-9)
	assert.Equal(t, chip, chip.PerDevice())
}

func TestGroup(t *testing.T) {
	group := func(s accel.System, n int) accel.Group {
		t.Helper()
		g, err := s.Group(n)
		require.NoError(t, err)
		return g
	}
	g := group(system(t, "h200-sxm"), 32)
	assert.Equal(t, 4, g.Domains)
	assert.Equal(t, 8, g.PerDomain)
	assert.InEpsilon(t, 24./31, g.OutShare, 1e-12)
	assert.Equal(t, 450e9, g.Up.AllToAll)
	assert.Equal(t, 50e9, g.Out.AllToAll)
	g = group(system(t, "h200-sxm"), 12)
	assert.InEpsilon(t, 8./11, g.OutShare, 1e-12, "those on the node with 4 send most of theirs out")
	g = group(system(t, "gb200-nvl72"), 64)
	assert.Equal(t, 1, g.Domains)
	assert.Zero(t, g.Out)
	assert.Zero(t, group(system(t, "l4"), 1).Up)

	rail := system(t, "h200-sxm")
	rail.ScaleOut.RailOnly = true
	g = group(rail, 16)
	assert.Zero(t, g.Out.AllToAll, "not any to any")
	assert.Positive(t, g.Out.Ring)

	mi := system(t, "mi300x")
	assert.InEpsilon(t, 448e9, group(mi, 8).Up.AllToAll, 1e-9)
	assert.InEpsilon(t, 64e9, group(mi, 2).Up.AllToAll, 1e-9, "two of a mesh have one link")
	assert.InEpsilon(t, 192e9, group(mi, 4).Up.Ring, 1e-9)
	assert.Zero(t, group(system(t, "max-1550"), 4).Up.AllToAll, "what nobody has verified is not known")

	// 256 chips, 32 links of 50 GB/s across the middle each way: half of each chip's bytes cross it.
	g = group(system(t, "tpu-v5e"), 256)
	assert.InEpsilon(t, 32*50e9/(128*128./255), g.Up.AllToAll, 1e-9)
	assert.InEpsilon(t, 200e9, g.Up.Ring, 1e-9)
	assert.Equal(t, 16*time.Microsecond, g.Up.Latency)
	four := group(system(t, "tpu-v5e"), 4)
	assert.Equal(t, 100e9, four.Up.Ring, "2x2 does not close")

	_, err := system(t, "l4").Group(0)
	assert.ErrorContains(t, err, "group is 0")
}

// No layout promises more than its links carry, and more accelerators never get a larger rate each across a switch or torus.
func TestGroupProperties(t *testing.T) {
	systems := accel.Builtin().Systems()
	rapid.Check(t, func(t *rapid.T) {
		s := systems[rapid.IntRange(0, len(systems)-1).Draw(t, "system")]
		if rapid.Bool().Draw(t, "devices") {
			s = s.PerDevice()
		}
		n := rapid.IntRange(1, 300).Draw(t, "n")
		g, err := s.Group(n)
		require.NoError(t, err)
		require.LessOrEqual(t, g.Up.AllToAll, s.ScaleUp.Bandwidth.Value*(1+1e-9))
		require.LessOrEqual(t, g.Up.Ring, s.ScaleUp.Bandwidth.Value*(1+1e-9))
		require.GreaterOrEqual(t, g.OutShare, 0.)
		require.LessOrEqual(t, g.OutShare, 1.)
		require.GreaterOrEqual(t, g.Domains*max(g.PerDomain, 1), n)
		require.Equal(t, g.Domains > 1, g.OutShare > 0)
	})
}
