package moe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drifted multiplies each load by exp(sigma x) with x normal.
func drifted(l Loads, sigma float64, seed uint64) Loads {
	r := rand.New(rand.NewPCG(seed, 9))
	d := Loads{Layers: l.Layers, Experts: l.Experts, Tokens: make([]float64, len(l.Tokens))}
	for i, v := range l.Tokens {
		d.Tokens[i] = v * math.Exp(sigma*r.NormFloat64())
	}
	return d
}

// replay makes a migration's copies one step at a time and checks that each is possible and keeps every expert that was
// alive alive.
func replay(t require.TestingT, m Migration, old, into *Placement) {
	c := into.Cluster
	step := int32(0)
	for l := range into.Layers {
		now := make([]int32, c.Slots())
		for s := range now {
			now[s] = Empty
			if g := c.GPU(s); g < old.Cluster.GPUs && !c.isDead(g) && s%c.SlotsPerGPU < old.Cluster.SlotsPerGPU {
				now[s] = old.Row(l)[g*old.Cluster.SlotsPerGPU+s%c.SlotsPerGPU]
			}
		}
		alive := map[int32]bool{}
		for _, e := range now {
			alive[e] = true
		}
		for i := 0; i < len(m.Copies); {
			if m.Copies[i].Layer != int32(l) {
				i++
				continue
			}
			require.Equal(t, step, m.Copies[i].Step)
			before := slices.Clone(now)
			for ; i < len(m.Copies) && m.Copies[i].Step == step; i++ {
				k := m.Copies[i]
				require.False(t, c.isDead(c.GPU(int(k.To))))
				if k.Expert == Empty {
				} else if k.From == Storage {
					require.False(t, alive[k.Expert], "what is alive comes from a GPU")
				} else {
					require.Equal(t, before[k.From], k.Expert, "the source holds the expert")
				}
				now[k.To] = k.Expert
				alive[k.Expert] = true
			}
			for e := range alive {
				require.True(t, e == Empty || slices.Contains(now, e), "layer %d step %d: expert %d has no replica", l, step, e)
			}
			step++
		}
		require.Equal(t, into.Row(l), now)
	}
}

// balances are floors, for tokens split evenly and exactly.
type balances struct{ even, exact float64 }

func (b balances) of(split bool) float64 {
	if split {
		return b.exact
	}
	return b.even
}

func TestRebalancingAfterDrift(t *testing.T) {
	if racing {
		t.Skip("a long search without concurrency")
	}
	const layers = 2
	for _, c := range []struct {
		gpus, slots int
		alpha       float64
		effort      int
		ofEPLB      balances // of the balance of a full plan
		ofOurs      balances
	}{
		{16, 16, .6, 0, balances{.97, .97}, balances{.97, .97}},
		{16, 18, 1.1, 0, balances{.97, .97}, balances{.97, .97}},
		{32, 9, .6, 0, balances{.97, .97}, balances{.97, .97}},
		{32, 9, 1.1, 0, balances{.97, .97}, balances{.97, .97}},
		{64, 5, .9, 4000, balances{.97, .97}, balances{.955, .97}},
		{72, 4, .6, 4000, balances{.94, .97}, balances{.92, .95}},
		{72, 4, 1.1, 4000, balances{.97, .97}, balances{.965, .97}},
	} {
		loads := zipf(layers, 256, c.alpha, 3)
		now := drifted(loads, .3, 4)
		cluster := Cluster{GPUs: c.gpus, SlotsPerGPU: c.slots}
		var old, fresh, eplb, p Placement
		_, err := (&Placer{}).Plan(&old, loads, cluster)
		require.NoError(t, err)
		full, err := (&Placer{}).Plan(&fresh, now, cluster)
		require.NoError(t, err)
		require.NoError(t, (&EPLB{}).Plan(&eplb, now, cluster))
		moves := min(fresh.Copies(&old), eplb.Copies(&old)) / layers
		for _, split := range []bool{false, true} {
			effort := c.effort
			if split {
				effort = 0
			}
			ours, theirs := full.Balance, eplb.Balance(now)
			if split {
				ours, err = (&Splitter{}).Balance(&fresh, now)
				require.NoError(t, err)
				theirs, err = (&Splitter{}).Balance(&eplb, now)
				require.NoError(t, err)
			}
			m, err := (&Rebalancer{Copies: moves / 10, Split: split, Effort: effort}).Plan(&p, &old, now, cluster)
			require.NoError(t, err)
			checkLegal(t, &p)
			replay(t, m, &old, &p)
			require.Equal(t, p.Copies(&old), m.Transfers)
			t.Logf("%d GPUs, zipf %.1f, split %5v: stale %.4f, EPLB %.4f and placer %.4f with %d copies a layer; rebalanced %.4f with %.1f: %.1f %% and %.1f %%",
				c.gpus, c.alpha, split, m.Before, theirs, ours, moves, m.Balance, float64(m.Transfers)/layers, 100*m.Balance/theirs, 100*m.Balance/ours)
			require.LessOrEqual(t, m.Transfers*10, moves*layers)
			require.GreaterOrEqual(t, m.Balance, c.ofEPLB.of(split)*theirs)
			require.GreaterOrEqual(t, m.Balance, c.ofOurs.of(split)*ours)
		}
	}
}

func TestRebalancerRepairsAndResizes(t *testing.T) {
	loads := zipf(3, 64, .9, 1)
	base := Cluster{Nodes: 4, GPUs: 16, SlotsPerGPU: 5}
	for _, c := range []struct {
		name string
		then Cluster
	}{
		{"nothing", base},
		{"a GPU is lost", Cluster{Nodes: 4, GPUs: 16, SlotsPerGPU: 5, Dead: []int{3}}},
		{"three GPUs are lost", Cluster{Nodes: 4, GPUs: 16, SlotsPerGPU: 5, Dead: []int{3, 7, 15}}},
		{"GPUs go", Cluster{Nodes: 4, GPUs: 14, SlotsPerGPU: 5}},
		{"GPUs come", Cluster{Nodes: 5, GPUs: 20, SlotsPerGPU: 5}},
		{"slots come", Cluster{Nodes: 4, GPUs: 16, SlotsPerGPU: 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var old, p, fresh Placement
			_, err := (&Placer{}).Plan(&old, loads, base)
			require.NoError(t, err)
			lost := 0
			for l := range 3 {
				for e := range 64 {
					if !slices.ContainsFunc(old.Slots(l, e), func(s int32) bool {
						g := base.GPU(int(s))
						return g < c.then.GPUs && !c.then.isDead(g)
					}) {
						lost++
					}
				}
			}
			m, err := (&Rebalancer{Copies: -1}).Plan(&p, &old, loads, c.then)
			require.NoError(t, err)
			checkLegal(t, &p)
			replay(t, m, &old, &p)
			require.Equal(t, lost, m.Repairs, "repairs copy what was lost")
			require.Equal(t, lost, m.Transfers, "and nothing else")

			m, err = (&Rebalancer{Split: true, Copies: 12}).Plan(&p, &old, loads, c.then)
			require.NoError(t, err)
			checkLegal(t, &p)
			replay(t, m, &old, &p)
			require.Empty(t, m.Unmet)
			_, err = (&Placer{}).Plan(&fresh, loads, c.then)
			require.NoError(t, err)
			best, err := (&Splitter{}).Balance(&fresh, loads)
			require.NoError(t, err)
			require.Greater(t, m.Balance, .97*best)
			require.GreaterOrEqual(t, m.Balance, m.Before)
		})
	}
}

func TestRebalancerStopsWhereItDoesNotPay(t *testing.T) {
	loads := zipf(4, 64, .9, 1)
	cluster := Cluster{GPUs: 16, SlotsPerGPU: 5}
	var old, p Placement
	_, err := (&Placer{}).Plan(&old, loads, cluster)
	require.NoError(t, err)
	now := drifted(loads, .3, 2)
	plan := func(horizon time.Duration) Migration {
		m, err := (&Rebalancer{Effort: 20, Cost: Cost{ExpertBytes: 44 << 20, LinkBytesPerSecond: 50e9, Horizon: horizon, Share: .4}}).Plan(&p, &old, now, cluster)
		require.NoError(t, err)
		replay(t, m, &old, &p)
		require.GreaterOrEqual(t, m.Saves, m.Takes)
		return m
	}
	long, short, none := plan(time.Hour), plan(50*time.Millisecond), plan(time.Millisecond)
	require.Greater(t, long.Transfers, short.Transfers)
	require.Greater(t, short.Transfers, none.Transfers)
	require.Zero(t, none.Transfers)
	require.Equal(t, none.Before, none.Balance)
}

func TestMigrationsAreOrdered(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		loads, c, _ := randomCase(r, true)
		if c.GPUs > 2 && r.IntN(2) == 0 && (c.GPUs-1)*c.SlotsPerGPU >= loads.Experts {
			c.Dead = []int{r.IntN(c.GPUs)}
		}
		at := make([]int32, c.Slots())
		for s := range at {
			at[s] = int32(s % loads.Experts)
		}
		healthy := c
		healthy.Dead = nil
		old, err := NewPlacement(1, loads.Experts, healthy, at)
		require.NoError(t, err)
		var p Placement
		for _, single := range []bool{false, true} {
			m, err := (&Rebalancer{Copies: 1 + r.IntN(40), Effort: 5, SingleCopies: single, Split: r.IntN(2) == 0}).Plan(&p, old, loads, c)
			require.NoError(t, err)
			checkLegal(t, &p)
			replay(t, m, old, &p)
			if single && len(m.Unmet) == 0 {
				for i := 1; i < len(m.Copies); i++ {
					require.NotEqual(t, m.Copies[i-1].Step, m.Copies[i].Step)
				}
			}
		}
	}
}

func TestRebalancerReplanDoesNotAllocate(t *testing.T) {
	loads := zipf(2, 64, .9, 1)
	cluster := Cluster{GPUs: 16, SlotsPerGPU: 5}
	var old, p Placement
	_, err := (&Placer{}).Plan(&old, loads, cluster)
	require.NoError(t, err)
	now := drifted(loads, .3, 2)
	for _, split := range []bool{false, true} {
		b := Rebalancer{Split: split, Effort: 20}
		_, err = b.Plan(&p, &old, now, cluster)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(5, func() { _, _ = b.Plan(&p, &old, now, cluster) }))
	}
}
