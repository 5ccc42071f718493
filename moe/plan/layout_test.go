package plan

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// Whatever cut a search calls legal, its groups are where the fabric carries them.
func TestGroupsStayWhereTheyShould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"h100-sxm", "gb200-nvl72", "l40s", "mi300x", "tpu-v5e", "tpu-v5p", "tpu7x"}).Draw(t, "system")
		p := Problem{
			Model: modelOf(t, rapid.SampledFrom([]string{"deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-30B-A3B"}).Draw(t, "model")), System: systemOf(t, name),
			Accelerators: rapid.SampledFrom([]int{1, 2, 3, 4, 7, 8, 12, 16, 24, 32, 48, 72}).Draw(t, "accelerators"),
			Engine:       rapid.SampledFrom([]accel.Engine{accel.VLLM, accel.SGLang}).Draw(t, "engine"), Input: 10, Output: 10,
		}
		s := newSearch(accel.Calibrated(), &p)
		seenLayout := map[accel.Parallelism]bool{}
		s.cuts(func(c *cut) {
			if s.legal(c) != nil {
				return
			}
			l := c.layout
			if seenLayout[c.Parallelism] {
				return // in another precision, or with another kernel
			}
			seenLayout[c.Parallelism] = true
			require.Equal(t, c.Ranks(), l.Nodes*l.PerNode)
			attention, experts := map[[2]int]map[int]bool{}, map[[2]int]map[int]bool{}
			hosts := map[int]map[int]bool{}
			seen := map[[4]int]bool{}
			add := func(m map[[2]int]map[int]bool, key [2]int, v int) {
				if m[key] == nil {
					m[key] = map[int]bool{}
				}
				m[key][v] = true
			}
			for rank := range l.Ranks {
				at := l.Place(rank)
				if at.Node >= l.Nodes || at.Slot >= l.PerNode || at.Domain >= l.Domains {
					t.Fatalf("%v: rank %d is at %+v of %+v", c, rank, at, l)
				}
				add(attention, [2]int{at.PP, at.DP}, at.Domain)
				add(experts, [2]int{at.PP, at.EP}, at.Domain)
				if hosts[at.PP] == nil {
					hosts[at.PP] = map[int]bool{}
				}
				hosts[at.PP][at.Node] = true
				seen[[4]int{at.TP, at.DP, at.PP, at.EP}] = true
				for i, n := range l.Shape.Dims {
					if at.Coordinates[i] >= max(n, 1) {
						t.Fatalf("%v: rank %d is at %v of %v", c, rank, at.Coordinates, l.Shape)
					}
				}
			}
			require.Len(t, seen, l.Ranks, "each rank does something else")
			for _, domains := range attention {
				require.Len(t, domains, 1, "%v on %s", c, name)
			}
			for _, domains := range experts {
				require.Len(t, domains, 1, "parts of an expert of %v on %s", c, name)
			}
			if c.EP > 1 && p.System.ScaleUp.Kind == accel.PCIe {
				for _, h := range hosts {
					require.Len(t, h, 1, "%v", c)
				}
			}
		})
	})
}

func TestTorusAxes(t *testing.T) {
	p := Problem{
		Model: modelOf(t, "Qwen/Qwen3-30B-A3B"), System: systemOf(t, "tpu-v6e"), Accelerators: 32, Input: 100, Output: 100,
		Fixed: accel.Parallelism{TP: 4, DP: 8, EP: 32},
	}
	r, err := Search(accel.Calibrated(), p)
	require.NoError(t, err)
	l := r.Plans[0].Layout
	require.Equal(t, 32, l.Shape.Size())
	// Ranks of an attention group are neighbours: they differ in the last coordinate only.
	for rank := range 32 {
		require.Equal(t, l.Place(rank / 4 * 4).Coordinates[0], l.Place(rank).Coordinates[0])
	}
}

func TestSurvivors(t *testing.T) {
	p := Problem{
		Model: modelOf(t, "deepseek-ai/DeepSeek-R1"), System: systemOf(t, "h200-sxm"), Accelerators: 16, Role: Decode,
		Input: 1000, Output: 1000, Fixed: accel.Parallelism{TP: 1, EP: 16, Redundant: 16},
	}
	r, err := Search(accel.Calibrated(), p)
	require.NoError(t, err)
	best := r.Plans[0]
	cluster := best.Cluster()
	require.Equal(t, moe.Cluster{Nodes: 2, GPUs: 16, SlotsPerGPU: 17}, cluster)

	tokens := make([]float64, 256)
	for i := range tokens {
		tokens[i] = float64(1 + i%7)
	}
	loads, err := moe.LoadsOf(tokens)
	require.NoError(t, err)
	var placement moe.Placement
	_, err = (&moe.Placer{FillSlots: true}).Plan(&placement, loads, cluster)
	require.NoError(t, err)

	ranks, err := best.Survivors(&placement, loads, moe.AnyGPU)
	require.NoError(t, err)
	require.Len(t, ranks, 16)
	for _, s := range ranks {
		require.Equal(t, []int{s.Lost}, s.Ranks)
		require.False(t, s.Refits, "15 x 17 slots do not hold 256 experts")
		exposed := 0
		for _, e := range placement.Exposed(nil, 0, moe.AnyGPU) {
			if cluster.GPU(int(placement.Slots(0, int(e))[0])) == s.Lost {
				exposed++
			}
		}
		require.Equal(t, exposed, s.Orphans)
	}

	p.Survive, p.Fixed.Redundant = moe.AnyGPU, 0
	r, err = Search(accel.Calibrated(), p)
	require.NoError(t, err)
	best = r.Plans[0]
	require.GreaterOrEqual(t, best.Deployment.Parallelism.Redundant, 256)
	_, err = (&moe.Placer{FillSlots: true, Survive: moe.AnyGPU}).Plan(&placement, loads, best.Cluster())
	require.NoError(t, err)
	ranks, err = best.Survivors(&placement, loads, moe.AnyGPU)
	require.NoError(t, err)
	for _, s := range ranks {
		require.Zero(t, s.Orphans)
		require.True(t, s.Refits)
		require.Positive(t, s.Balance)
	}

	_, err = best.Survivors(&moe.Placement{Cluster: moe.Cluster{GPUs: 3}}, loads, moe.AnyGPU)
	require.ErrorContains(t, err, "Placement.Cluster is 3 GPUs")
}
