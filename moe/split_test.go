package moe

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// leastTop is the least greatest GPU load over all splits, by Hall's condition: some set of GPUs is the bottleneck, and gets
// at least what experts with no replica outside of it have.
func leastTop(p *Placement, weight []float64) float64 {
	top := 0.0
	for set := 1; set < 1<<p.Cluster.GPUs; set++ {
		sum, n := 0.0, 0
		for g := range p.Cluster.GPUs {
			n += set >> g & 1
		}
		for e := range p.Experts {
			inside := true
			for _, s := range p.Slots(0, e) {
				inside = inside && set>>p.Cluster.GPU(int(s))&1 != 0
			}
			if inside {
				sum += weight[e]
			}
		}
		top = max(top, sum/float64(n))
	}
	return top
}

func TestSplitIsOptimal(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var splitter Splitter
	var tokens []float64
	for range 500 {
		loads, c, _ := randomCase(r, true)
		if c.GPUs > 9 {
			continue
		}
		at := make([]int32, c.Slots())
		for s := range at {
			at[s] = int32(s % loads.Experts)
		}
		r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		if r.IntN(3) == 0 {
			loads.Tokens[r.IntN(len(loads.Tokens))] = 0
		}
		p, err := NewPlacement(1, loads.Experts, c, at)
		require.NoError(t, err)
		tokens, err = splitter.Split(p, 0, loads, tokens)
		require.NoError(t, err)

		gpus, experts := make([]float64, c.GPUs), make([]float64, loads.Experts)
		for s, v := range tokens {
			require.GreaterOrEqual(t, v, 0.0)
			gpus[c.GPU(s)] += v
			experts[at[s]] += v
		}
		require.InDeltaSlice(t, loads.Tokens, experts, 1e-6*sum(loads.Tokens)/float64(len(experts)))
		top := 0.0
		for _, g := range gpus {
			top = max(top, g)
		}
		require.InEpsilon(t, leastTop(p, loads.Tokens)+1e-300, top+1e-300, 1e-9)
		// No two GPUs with an expert in common can be levelled further.
		for s, v := range tokens {
			for _, q := range p.Slots(0, int(at[s])) {
				if v > 1e-6*top {
					require.LessOrEqual(t, gpus[c.GPU(s)], gpus[c.GPU(int(q))]+1e-6*top)
				}
			}
		}
	}
}

func TestSplitDoesNotAllocate(t *testing.T) {
	loads := zipf(1, 256, 1.1, 1)
	var p Placement
	_, err := (&Placer{}).Plan(&p, loads, Cluster{GPUs: 32, SlotsPerGPU: 9})
	require.NoError(t, err)
	var s Splitter
	into, err := s.Split(&p, 0, drifted(loads, .3, 1), nil)
	require.NoError(t, err)
	now := drifted(loads, .3, 2)
	require.Zero(t, testing.AllocsPerRun(10, func() { into, _ = s.Split(&p, 0, now, into) }))
}

func BenchmarkSplit(b *testing.B) {
	for _, gpus := range []int{32, 72} {
		b.Run(fmt.Sprintf("experts=256/replicas=288/gpus=%d", gpus), func(b *testing.B) {
			loads := zipf(1, 256, .9, 1)
			var p Placement
			if _, err := (&Placer{}).Plan(&p, loads, Cluster{GPUs: gpus, SlotsPerGPU: 288 / gpus}); err != nil {
				b.Fatal(err)
			}
			now := drifted(loads, .3, 2)
			var s Splitter
			var into []float64
			b.ReportAllocs()
			for b.Loop() {
				into, _ = s.Split(&p, 0, now, into)
			}
		})
	}
}
