package moe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// lognormal makes loads exp(sigma x) with x normal.
func lognormal(layers, experts int, sigma float64, r *rand.Rand) Loads {
	l := Loads{Layers: layers, Experts: experts, Tokens: make([]float64, layers*experts)}
	for i := range l.Tokens {
		l.Tokens[i] = 1000 * math.Exp(sigma*r.NormFloat64())
	}
	return l
}

// checkLegal checks what every plan of Placer and Rebalancer guarantees.
func checkLegal(t require.TestingT, p *Placement) {
	for l := range p.Layers {
		checkIndex(t, p, l)
		for e := range p.Experts {
			require.Positive(t, p.Replicas(l, e), "layer %d: expert %d is alive", l, e)
			on := map[int]bool{}
			for _, s := range p.Slots(l, e) {
				g := p.Cluster.GPU(int(s))
				require.False(t, on[g], "layer %d: expert %d is twice on GPU %d", l, e, g)
				require.False(t, p.Cluster.isDead(g), "layer %d: expert %d is on dead GPU %d", l, e, g)
				on[g] = true
			}
		}
	}
}

// randomCase has a cluster with a slot for each expert, and GPUs that hold at most half of the experts unless cramped.
func randomCase(r *rand.Rand, cramped bool) (Loads, Cluster, int) {
	for {
		nodes := 1 + r.IntN(4)
		c := Cluster{Nodes: nodes, GPUs: nodes * (1 + r.IntN(4)), SlotsPerGPU: 1 + r.IntN(8)}
		groups := 1 + r.IntN(4)
		experts := groups * (1 + r.IntN(max(c.Slots()/groups, 1)))
		if experts > c.Slots() || c.SlotsPerGPU > experts || !cramped && 2*c.SlotsPerGPU > experts {
			continue
		}
		if r.IntN(2) == 0 {
			return zipf(1, experts, r.Float64()*1.5, r.Uint64()), c, groups
		}
		return lognormal(1, experts, .2+r.Float64(), r), c, groups
	}
}

func TestPlacerIsNeverWorseThanEPLB(t *testing.T) {
	if racing {
		t.Skip("a long search without concurrency")
	}
	r := rand.New(rand.NewPCG(1, 2))
	placer := Placer{}
	var p, q Placement
	better, ours, theirs, bound := 0, 0.0, 0.0, 0.0
	const cases = 1000
	for i := range cases {
		loads, c, groups := randomCase(r, false)
		report, err := placer.Plan(&p, loads, c)
		require.NoError(t, err)
		checkLegal(t, &p)
		require.InDelta(t, p.Balance(loads), report.Balance, 1e-9)
		require.GreaterOrEqual(t, report.Bound, report.Balance)
		require.NoError(t, (&EPLB{}).Plan(&q, loads, c))
		yardstick := q.Balance(loads)
		require.NoError(t, (&EPLB{Groups: groups}).Plan(&q, loads, c))
		yardstick = max(yardstick, q.Balance(loads))
		require.GreaterOrEqual(t, report.Balance, yardstick-1e-6, "case %d: %d experts, %+v: %v", i, loads.Experts, c, loads.Tokens)
		if report.Balance > yardstick+1e-6 {
			better++
		}
		ours += report.Balance / cases
		theirs += yardstick / cases
		bound += report.Bound / cases
	}
	t.Logf("mean balance %.4f, bound %.4f, the better of EPLB's modes %.4f; better in %d of %d", ours, bound, theirs, better, cases)
}

// optimum tries every placement of one layer, also those that leave slots empty.
func optimum(weight []float64, c Cluster) float64 {
	var sets [][]int32
	var choose func(set []int32, from int32)
	choose = func(set []int32, from int32) {
		sets = append(sets, slices.Clone(set))
		for e := from; len(set) < c.SlotsPerGPU && int(e) < len(weight); e++ {
			choose(append(set, e), e+1)
		}
	}
	choose(nil, 0)
	best := math.Inf(1)
	count, share := make([]int, len(weight)), make([]float64, len(weight))
	gpus := make([]int, c.GPUs)
	var fill func(g, from int)
	fill = func(g, from int) {
		if g == c.GPUs {
			for e, n := range count {
				if n == 0 {
					return
				}
				share[e] = weight[e] / float64(n)
			}
			top := 0.0
			for _, s := range gpus {
				load := 0.0
				for _, e := range sets[s] {
					load += share[e]
				}
				top = max(top, load)
			}
			best = min(best, top)
			return
		}
		for s := from; s < len(sets); s++ {
			for _, e := range sets[s] {
				count[e]++
			}
			gpus[g] = s
			fill(g+1, s)
			for _, e := range sets[s] {
				count[e]--
			}
		}
	}
	fill(0, 0)
	return best
}

func TestPlacerNearsTheOptimum(t *testing.T) {
	if racing {
		t.Skip("a long search without concurrency")
	}
	for _, c := range []struct{ experts, slots, gpus int }{{8, 12, 4}, {8, 12, 6}, {6, 12, 4}, {6, 9, 3}} {
		r := rand.New(rand.NewPCG(3, uint64(c.experts*c.gpus)))
		cluster := Cluster{GPUs: c.gpus, SlotsPerGPU: c.slots / c.gpus}
		var placer Placer
		var eplb EPLB
		gap, gapEPLB, worst, exact, n := 0.0, 0.0, 0.0, 0, 12
		for range n {
			loads := lognormal(1, c.experts, .8, r)
			var p, q Placement
			report, err := placer.Plan(&p, loads, cluster)
			require.NoError(t, err)
			require.NoError(t, eplb.Plan(&q, loads, cluster))
			best := sum(loads.Tokens) / float64(c.gpus) / optimum(loads.Tokens, cluster)
			d := best/report.Balance - 1
			require.GreaterOrEqual(t, d, -1e-9)
			require.GreaterOrEqual(t, report.Bound, best-1e-9)
			gap += d / float64(n)
			gapEPLB += (best/q.Balance(loads) - 1) / float64(n)
			worst = max(worst, d)
			if d < 1e-3 {
				exact++
			}
		}
		t.Logf("%d experts, %d slots, %d GPUs: mean gap %.3f %%, worst %.2f %%, optimal %d of %d; EPLB %.2f %%",
			c.experts, c.slots, c.gpus, 100*gap, 100*worst, exact, n, 100*gapEPLB)
		require.LessOrEqual(t, gap, .005)
	}
}

func TestPlacerAtScale(t *testing.T) {
	if racing {
		t.Skip("a long search without concurrency")
	}
	for _, c := range []struct {
		name         string
		cluster      Cluster
		groups       int
		rule         GroupRule
		alpha        float64
		least, ofTop float64 // balance, and its part of the bound
	}{
		{"32 GPUs, zipf .6", Cluster{GPUs: 32, SlotsPerGPU: 9}, 1, Anywhere, .6, .999, 0},
		{"32 GPUs, zipf 1.1", Cluster{GPUs: 32, SlotsPerGPU: 9}, 1, Anywhere, 1.1, .999, 0},
		{"72 GPUs, zipf .6", Cluster{GPUs: 72, SlotsPerGPU: 4}, 1, Anywhere, .6, .99, 0},
		{"72 GPUs, zipf 1.1", Cluster{GPUs: 72, SlotsPerGPU: 4}, 1, Anywhere, 1.1, .84, 0},
		{"144 GPUs, zipf 1.1", Cluster{GPUs: 144, SlotsPerGPU: 2}, 1, Anywhere, 1.1, .44, .95},
		{"320 GPUs, zipf 1.1", Cluster{GPUs: 320, SlotsPerGPU: 1}, 1, Anywhere, 1.1, .35, 1 - 1e-9},
		{"32 GPUs, homed, zipf .6", Cluster{Nodes: 4, GPUs: 32, SlotsPerGPU: 9}, 8, Homed, .6, .99, 0},
		{"32 GPUs, homed, zipf 1.1", Cluster{Nodes: 4, GPUs: 32, SlotsPerGPU: 9}, 8, Homed, 1.1, .99, 0},
		{"32 GPUs, confined, zipf .6", Cluster{Nodes: 4, GPUs: 32, SlotsPerGPU: 9}, 8, Confined, .6, 0, .999},
		{"32 GPUs, confined, zipf 1.1", Cluster{Nodes: 4, GPUs: 32, SlotsPerGPU: 9}, 8, Confined, 1.1, 0, .97},
	} {
		t.Run(c.name, func(t *testing.T) {
			loads := zipf(3, 256, c.alpha, 7)
			var p, q Placement
			require.NoError(t, (&EPLB{Groups: c.groups}).Plan(&q, loads, c.cluster))
			report, err := (&Placer{Groups: c.groups, Rule: c.rule}).Plan(&p, loads, c.cluster)
			require.NoError(t, err)
			checkLegal(t, &p)
			checkGroups(t, &p, c.groups, c.rule)
			t.Logf("balance %.4f, worst layer %.4f, bound %.4f; EPLB %.4f", report.Balance, report.Worst, report.Bound, q.Balance(loads))
			require.Empty(t, report.Unmet)
			require.NotContains(t, p.PhysicalToLogical, Empty, "engines want every slot filled")
			require.GreaterOrEqual(t, report.Balance, q.Balance(loads))
			require.GreaterOrEqual(t, report.Balance, max(c.least, c.ofTop*report.Bound))
		})
	}
}

// checkGroups checks that a group has a node that holds all its experts, or where confined everything of them.
func checkGroups(t require.TestingT, p *Placement, groups int, rule GroupRule) {
	if rule == Anywhere {
		return
	}
	per := p.Experts / groups
	for l := range p.Layers {
		for g := range groups {
			complete, touched := 0, 0
			for n := range p.Cluster.nodes() {
				here := 0
				for e := g * per; e < (g+1)*per; e++ {
					if slices.ContainsFunc(p.Slots(l, e), func(s int32) bool { return p.Cluster.Node(p.Cluster.GPU(int(s))) == n }) {
						here++
					}
				}
				if here == per {
					complete++
				}
				if here > 0 {
					touched++
				}
			}
			require.Positive(t, complete, "layer %d: group %d is complete on no node", l, g)
			if rule == Confined {
				require.Equal(t, 1, touched, "layer %d: group %d is on several nodes", l, g)
			}
		}
	}
}

func TestPlacerReplanDoesNotAllocate(t *testing.T) {
	for _, rule := range []GroupRule{Anywhere, Homed, Confined} {
		loads := zipf(2, 64, 1.1, 1)
		b, p := Placer{Groups: 8, Rule: rule}, Placement{}
		cluster := Cluster{Nodes: 4, GPUs: 16, SlotsPerGPU: 5}
		_, err := b.Plan(&p, loads, cluster)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(5, func() { _, _ = b.Plan(&p, loads, cluster) }), rule)
	}
}
