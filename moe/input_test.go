package moe

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBadInputNamesFieldAndValue(t *testing.T) {
	good := zipf(1, 8, 1, 1)
	bad := func(v ...float64) Loads {
		return Loads{Layers: 1, Experts: len(v), Tokens: v}
	}
	fits := Cluster{GPUs: 4, SlotsPerGPU: 3}
	for _, c := range []struct {
		name    string
		loads   Loads
		cluster Cluster
		want    []string
	}{
		{"nothing", Loads{}, Cluster{}, []string{"Loads.Layers is 0", "Loads.Experts is 0", "Cluster.GPUs is 0", "Cluster.SlotsPerGPU is 0"}},
		{"NaN, negative and infinite", bad(1, math.NaN(), -3, math.Inf(1)), fits,
			[]string{"Loads.Tokens[0][1] is NaN", "Loads.Tokens[0][2] is -3", "Loads.Tokens[0][3] is +Inf"}},
		{"more experts than slots", good, Cluster{GPUs: 2, SlotsPerGPU: 3}, []string{"Loads.Experts is 8, must not exceed the slots of live GPUs: 2 x 3 = 6"}},
		{"more experts than live slots", good, Cluster{GPUs: 4, SlotsPerGPU: 3, Dead: []int{0, 1}}, []string{"Loads.Experts is 8", "2 x 3 = 6"}},
		{"dead twice and out of range", good, Cluster{GPUs: 4, SlotsPerGPU: 3, Dead: []int{1, 1, 7, -1}},
			[]string{"Cluster.Dead[1] is 1", "Cluster.Dead[2] is 7", "Cluster.Dead[3] is -1"}},
		{"more nodes than GPUs", good, Cluster{Nodes: 5, GPUs: 4, SlotsPerGPU: 3}, []string{"Cluster.Nodes is 5"}},
		{"rows missing", Loads{Layers: 2, Experts: 4, Tokens: good.Tokens[:7]}, fits, []string{"len(Loads.Tokens) is 7", "8"}},
		{"presence missing", Loads{Layers: 2, Experts: 4, Tokens: good.Tokens, Absent: make([]bool, 3)}, fits, []string{"len(Loads.Absent) is 3"}},
		{"overflow", Loads{Layers: math.MaxInt, Experts: math.MaxInt}, Cluster{GPUs: math.MaxInt, SlotsPerGPU: math.MaxInt},
			[]string{"Loads.Layers is", "Cluster.GPUs is"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Placement
			_, placer := (&Placer{}).Plan(&p, c.loads, c.cluster)
			_, rebalancer := (&Rebalancer{}).Plan(&p, nil, c.loads, c.cluster)
			for _, err := range []error{(&EPLB{}).Plan(&p, c.loads, c.cluster), placer, rebalancer} {
				for _, want := range c.want {
					require.ErrorContains(t, err, want)
				}
				var field *FieldError
				require.True(t, errors.As(err, &field))
			}
		})
	}
	_, err := (&Placer{Groups: 3, Rule: 9, Survive: -1, Tolerance: math.NaN()}).Plan(&Placement{}, good, fits)
	for _, want := range []string{"Placer.Groups: 3", "Placer.Rule is 9", "Placer.Survive is -1", "Placer.Tolerance is NaN"} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, (&EPLB{Groups: 2}).Plan(&Placement{}, good, Cluster{Nodes: 2, GPUs: 3, SlotsPerGPU: 3}), "Cluster.GPUs is 3, must be a multiple of Cluster.Nodes: 2")
	_, err = NewPlacement(1, 3, Cluster{GPUs: 2, SlotsPerGPU: 2}, []int32{0, 1, 1, 3})
	require.ErrorContains(t, err, "physicalToLogical[3] is 3")
	_, err = NewPlacement(1, 3, Cluster{GPUs: 2, SlotsPerGPU: 2}, []int32{0, 1, 1, 0})
	require.ErrorContains(t, err, "2, an expert without a slot")
	_, err = LoadsOf([]float64{1, 2}, []float64{1})
	require.ErrorContains(t, err, "row 1 is 1")
	_, err = NewTracker(TrackerOptions{HalfLife: -1})
	require.ErrorContains(t, err, "TrackerOptions.Layers is 0")
	require.ErrorContains(t, err, "TrackerOptions.HalfLife is -1ns")
	_, err = (&Rebalancer{Cost: Cost{ExpertBytes: 1}}).Plan(&Placement{}, nil, good, fits)
	for _, want := range []string{"Cost.LinkBytesPerSecond", "Cost.Horizon", "Cost.Share", "old is"} {
		require.ErrorContains(t, err, want)
	}
	long := Loads{Layers: 1, Experts: 100, Tokens: make([]float64, 100)}
	for i := range long.Tokens {
		long.Tokens[i] = -1
	}
	_, err = (&Placer{}).Plan(&Placement{}, long, Cluster{GPUs: 50, SlotsPerGPU: 2})
	require.ErrorContains(t, err, "and 80 more")
}

func TestOddInputIsPlanned(t *testing.T) {
	var p Placement
	for _, c := range []struct {
		name    string
		loads   []float64
		cluster Cluster
		balance float64
	}{
		{"zero loads", []float64{0, 0, 0}, Cluster{GPUs: 2, SlotsPerGPU: 2}, 1},
		{"one expert", []float64{5}, Cluster{GPUs: 3, SlotsPerGPU: 2}, 1},
		{"GPUs do not divide by nodes", []float64{1, 1, 1, 1, 1}, Cluster{Nodes: 2, GPUs: 5, SlotsPerGPU: 1}, 1},
		{"one is hot", []float64{6, 0, 0, 0}, Cluster{GPUs: 3, SlotsPerGPU: 2}, 1},
		{"a GPU is dead", []float64{2, 2, 2, 2}, Cluster{GPUs: 3, SlotsPerGPU: 2, Dead: []int{1}}, 1},
	} {
		loads, err := LoadsOf(c.loads)
		require.NoError(t, err)
		report, err := (&Placer{}).Plan(&p, loads, c.cluster)
		require.NoError(t, err, c.name)
		checkLegal(t, &p)
		require.InDelta(t, c.balance, report.Balance, 1e-4, c.name)
		require.Empty(t, report.Unmet)
	}
	loads := Loads{Layers: 1, Experts: 3, Tokens: []float64{1, math.NaN(), 3}, Absent: []bool{false, true, false}}
	_, err := (&Placer{}).Plan(&p, loads, Cluster{GPUs: 3, SlotsPerGPU: 1})
	require.NoError(t, err)
	require.InDelta(t, 2./3, p.Balance(loads), 1e-9, "what is absent is average")
}

func TestRulesThatCannotBeMetAreReported(t *testing.T) {
	loads := zipf(1, 12, 1, 1)
	var p Placement
	report, err := (&Placer{Groups: 2, Rule: Homed}).Plan(&p, loads, Cluster{Nodes: 4, GPUs: 4, SlotsPerGPU: 4})
	require.NoError(t, err)
	checkLegal(t, &p)
	require.Equal(t, []string{"layer 0: groups of 6 experts do not fit the nodes and are not kept homed"}, report.Unmet)
	report, err = (&Placer{Survive: AnyGPU}).Plan(&p, loads, Cluster{GPUs: 4, SlotsPerGPU: 4})
	require.NoError(t, err)
	require.Equal(t, []string{"layer 0: 8 of 12 experts have one replica: 8 slots more would let all survive the loss of any GPU"}, report.Unmet)
	require.Len(t, p.Exposed(nil, 0, AnyGPU), 8)
}

func FuzzPlan(f *testing.F) {
	f.Add(uint8(8), uint8(2), uint8(4), uint8(3), uint8(0), uint8(1), []byte{1, 2, 3, 4})
	f.Add(uint8(6), uint8(3), uint8(5), uint8(2), uint8(255), uint8(0x11), []byte{}) // cover does not fit confined groups
	f.Fuzz(func(t *testing.T, experts, nodes, gpus, slots, dead, how uint8, raw []byte) {
		loads := Loads{Layers: 1, Experts: int(experts % 24), Tokens: make([]float64, experts%24)}
		for e := range loads.Tokens {
			if len(raw) >= 8*(e+1) {
				loads.Tokens[e] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*e:]))
			} else if e < len(raw) {
				loads.Tokens[e] = float64(raw[e])
			}
		}
		c := Cluster{Nodes: int(nodes % 5), GPUs: int(gpus % 10), SlotsPerGPU: int(slots % 6)}
		if dead%16 < 10 {
			c.Dead = []int{int(dead % 16)}
		}
		var p, q Placement
		groups := 1 + int(how>>4&3)
		if (&EPLB{Groups: groups}).Plan(&q, loads, c) == nil {
			checkIndex(t, &q, 0)
		}
		report, err := (&Placer{Groups: groups, Rule: GroupRule(how % 3), Survive: Survive(how >> 2 % 3), Effort: 1}).Plan(&p, loads, c)
		if err != nil {
			return
		}
		checkLegal(t, &p)
		require.True(t, report.Balance >= 0 && report.Balance <= 1 && report.Bound >= report.Balance && report.Bound <= 1, "%+v", report)
		if len(report.Unmet) == 0 {
			checkGroups(t, &p, groups, GroupRule(how%3))
		}
		if c.Dead = nil; c.GPUs > 1 && how&128 != 0 {
			c.GPUs--
			c.Nodes = min(c.Nodes, c.GPUs)
		}
		m, err := (&Rebalancer{Groups: groups, Rule: GroupRule(how % 3), Survive: Survive(how >> 2 % 3), Effort: 1, Split: how&64 != 0}).Plan(&q, &p, loads, c)
		if err != nil {
			return
		}
		checkLegal(t, &q)
		replay(t, m, &p, &q)
		require.True(t, m.Balance >= 0 && m.Balance <= 1)
	})
}
