package moe

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCover(t *testing.T) {
	for _, c := range []struct {
		name    string
		cluster Cluster
		experts int
		survive Survive
		want    Cover
	}{
		{"enough", Cluster{GPUs: 4, SlotsPerGPU: 4}, 8, AnyGPU, Cover{true, true, 8, 0}},
		{"half", Cluster{GPUs: 4, SlotsPerGPU: 3}, 8, AnyGPU, Cover{false, true, 4, 4}},
		{"refit impossible", Cluster{GPUs: 2, SlotsPerGPU: 4}, 8, AnyGPU, Cover{false, false, 0, 8}},
		{"a GPU has more slots than experts", Cluster{GPUs: 2, SlotsPerGPU: 9}, 8, AnyGPU, Cover{true, true, 8, 0}},
		{"one node", Cluster{GPUs: 4, SlotsPerGPU: 4}, 8, AnyNode, Cover{false, false, 0, 8}},
		{"uneven nodes", Cluster{Nodes: 2, GPUs: 3, SlotsPerGPU: 4}, 6, AnyNode, Cover{false, false, 4, 2}},
		{"dead", Cluster{Nodes: 2, GPUs: 4, SlotsPerGPU: 4, Dead: []int{0}}, 8, AnyNode, Cover{false, false, 4, 4}},
		{"no GPU", Cluster{}, 8, AnyGPU, Cover{}},
	} {
		require.Equal(t, c.want, c.cluster.Cover(c.experts, c.survive), c.name)
	}
}

func TestPlannersCoverWhatCanBe(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for i := range 400 {
		loads, c, groups := randomCase(r, true)
		survive := AnyGPU + Survive(r.IntN(2))
		rule := GroupRule(r.IntN(2)) // Anywhere or Homed
		if c.Cover(loads.Experts, survive).Replicated && rule == Homed && loads.Experts/groups > c.SlotsPerGPU {
			rule = Anywhere // may not fit
		}
		var p, q Placement
		report, err := (&Placer{Groups: groups, Rule: rule, Survive: survive, Effort: 5}).Plan(&p, loads, c)
		require.NoError(t, err)
		checkLegal(t, &p)
		if len(report.Unmet) == 0 {
			checkGroups(t, &p, groups, rule)
		}
		if cover := c.Cover(loads.Experts, survive); rule == Anywhere {
			exposed := p.Exposed(nil, 0, survive)
			if cover.Replicated {
				require.Empty(t, exposed, "case %d: %d experts on %+v, %v: %v %v", i, loads.Experts, c, survive, report.Unmet, p.Row(0))
				require.Empty(t, report.Unmet)
			} else {
				require.NotEmpty(t, report.Unmet)
			}
			// A rebalancer that has no rule before gets there too.
			_, err := (&Placer{Effort: -1}).Plan(&q, loads, c)
			require.NoError(t, err)
			var into Placement
			m, err := (&Rebalancer{Survive: survive, Effort: 2}).Plan(&into, &q, drifted(loads, .3, uint64(i)), c)
			require.NoError(t, err)
			checkLegal(t, &into)
			replay(t, m, &q, &into)
			if len(m.Unmet) == 0 {
				require.Empty(t, into.Exposed(nil, 0, survive))
			}
		}
	}
}
