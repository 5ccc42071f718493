package moe

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

type golden struct {
	Name                       string
	NumReplicas                int `json:"num_replicas"`
	NumGroups                  int `json:"num_groups"`
	NumNodes                   int `json:"num_nodes"`
	NumGPUs                    int `json:"num_gpus"`
	Weight                     [][]float64
	BalancednessMeanOverLayers float64 `json:"balancedness_mean_over_layers"`
	Want                       struct {
		PhysicalToLogical [][]int32   `json:"physical_to_logical"`
		LogicalToPhysical [][][]int32 `json:"logical_to_physical"`
		LogicalCount      [][]int     `json:"logical_count"`
	}
}

func TestEPLBIsBitExact(t *testing.T) {
	raw, err := os.ReadFile("testdata/eplb_golden.json")
	require.NoError(t, err)
	var file struct{ Cases []golden }
	require.NoError(t, json.Unmarshal(raw, &file))
	require.NotEmpty(t, file.Cases)
	var weight [][]float64
	for _, c := range file.Cases {
		if c.Weight != nil { // else the previous case's
			weight = c.Weight
		}
		loads, err := LoadsOf(weight...)
		require.NoError(t, err)
		t.Run(c.Name, func(t *testing.T) {
			var p Placement
			require.NoError(t, (&EPLB{Groups: c.NumGroups}).Plan(&p, loads,
				Cluster{Nodes: c.NumNodes, GPUs: c.NumGPUs, SlotsPerGPU: c.NumReplicas / c.NumGPUs}))
			for l, want := range c.Want.PhysicalToLogical {
				require.Equal(t, want, p.Row(l), "layer %d", l)
			}
			for l, experts := range c.Want.LogicalToPhysical {
				for e, slots := range experts {
					n := c.Want.LogicalCount[l][e]
					require.Equal(t, slots[:n], p.Slots(l, e), "layer %d expert %d", l, e)
				}
			}
			require.InDelta(t, c.BalancednessMeanOverLayers, p.Balance(loads), 1e-6)
			for l := range p.Layers {
				checkIndex(t, &p, l)
			}
		})
	}
}

// checkIndex checks that a layer's two maps agree.
func checkIndex(t require.TestingT, p *Placement, layer int) {
	n := 0
	for e := range p.Experts {
		for _, s := range p.Slots(layer, e) {
			require.EqualValues(t, e, p.Row(layer)[s])
			n++
		}
	}
	for _, e := range p.Row(layer) {
		if e == Empty {
			n++
		}
	}
	require.Equal(t, p.Cluster.Slots(), n)
}

// zipf makes loads in which the expert of rank r gets 1/r^alpha, shuffled in each layer.
func zipf(layers, experts int, alpha float64, seed uint64) Loads {
	r := rand.New(rand.NewPCG(seed, 1))
	l := Loads{Layers: layers, Experts: experts, Tokens: make([]float64, layers*experts)}
	for layer := range layers {
		for rank, e := range r.Perm(experts) {
			l.Tokens[layer*experts+e] = float64(int(1e6 * math.Pow(float64(rank+1), -alpha)))
		}
	}
	return l
}

func TestEPLBReplanDoesNotAllocate(t *testing.T) {
	for _, nodes := range []int{1, 4} {
		loads := zipf(4, 256, .8, 1)
		b, p := EPLB{Groups: 8}, Placement{}
		cluster := Cluster{Nodes: nodes, GPUs: 32, SlotsPerGPU: 9}
		require.NoError(t, b.Plan(&p, loads, cluster))
		require.Zero(t, testing.AllocsPerRun(20, func() { _ = b.Plan(&p, loads, cluster) }))
	}
}

func TestEPLBLeavesDeadGPUsEmpty(t *testing.T) {
	loads := zipf(3, 12, .8, 1)
	var p Placement
	require.NoError(t, (&EPLB{Groups: 4}).Plan(&p, loads, Cluster{Nodes: 2, GPUs: 8, SlotsPerGPU: 2, Dead: []int{0, 5}}))
	for l := range p.Layers {
		checkIndex(t, &p, l)
		for s, e := range p.Row(l) {
			require.Equal(t, s/2 == 0 || s/2 == 5, e == Empty, "slot %d", s)
		}
	}
}

func BenchmarkEPLB(b *testing.B) {
	loads := zipf(58, 256, 1.1, 1)
	for _, c := range []struct {
		gpus, slots, nodes, groups int
	}{{32, 9, 1, 1}, {32, 9, 4, 8}, {72, 4, 1, 1}, {144, 2, 1, 1}} {
		name := fmt.Sprintf("layers=58/experts=256/replicas=%d/gpus=%d", c.gpus*c.slots, c.gpus)
		if c.nodes > 1 {
			name += fmt.Sprintf("/nodes=%d", c.nodes)
		}
		b.Run(name, func(b *testing.B) {
			planner, p := EPLB{Groups: c.groups}, Placement{}
			cluster := Cluster{Nodes: c.nodes, GPUs: c.gpus, SlotsPerGPU: c.slots}
			b.ReportAllocs()
			for b.Loop() {
				if err := planner.Plan(&p, loads, cluster); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/58/float64(c.gpus*c.slots), "ns/slot")
		})
	}
}
