package moe_test

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/moe"
)

// Two layers of 12 experts on 8 GPUs with 2 slots each.
func Example() {
	loads, err := moe.LoadsOf(
		[]float64{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
		[]float64{20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27})
	if err != nil {
		panic(err)
	}
	cluster := moe.Cluster{Nodes: 2, GPUs: 8, SlotsPerGPU: 2}
	var eplb, ours moe.Placement
	if err := (&moe.EPLB{Groups: 4}).Plan(&eplb, loads, cluster); err != nil {
		panic(err)
	}
	report, err := (&moe.Placer{}).Plan(&ours, loads, cluster)
	if err != nil {
		panic(err)
	}
	fmt.Println(eplb.Row(0))
	fmt.Printf("EPLB %.3f, placer %.3f of at most %.3f\n", eplb.Balance(loads), report.Balance, report.Bound)
	// Output:
	// [5 6 5 7 8 4 3 4 10 9 10 2 0 1 11 1]
	// EPLB 0.816, placer 0.895 of at most 1.000
}

// A GPU was lost, and expert 5 with it. It comes from storage (-1) into the slot of an expert that is copied first.
func ExampleRebalancer() {
	cluster := moe.Cluster{GPUs: 3, SlotsPerGPU: 3}
	old, err := moe.NewPlacement(1, 6, cluster, []int32{0, 1, 2, 0, 3, 4, 1, 4, 5})
	if err != nil {
		panic(err)
	}
	loads, err := moe.LoadsOf([]float64{10, 30, 20, 20, 30, 40})
	if err != nil {
		panic(err)
	}
	cluster.Dead = []int{2}
	var now moe.Placement
	m, err := (&moe.Rebalancer{
		Split: true,
		Cost:  moe.Cost{ExpertBytes: 44 << 20, LinkBytesPerSecond: 50e9, Horizon: 5 * time.Minute, Share: .4},
	}).Plan(&now, old, loads, cluster)
	if err != nil {
		panic(err)
	}
	for _, c := range m.Copies {
		fmt.Printf("step %d: expert %d from slot %d to slot %d\n", c.Step, c.Expert, c.From, c.To)
	}
	fmt.Printf("%v, balance %.2f\n", now.Row(0), m.Balance)
	// Output:
	// step 0: expert 3 from slot 4 to slot 0
	// step 1: expert 5 from slot -1 to slot 4
	// [3 1 2 0 5 4 -1 -1 -1], balance 0.94
}

// Expert 0 has replicas on both GPUs; expert 1 is only on the first.
func ExampleSplitter() {
	p, err := moe.NewPlacement(1, 2, moe.Cluster{GPUs: 2, SlotsPerGPU: 2}, []int32{0, 1, 0, moe.Empty})
	if err != nil {
		panic(err)
	}
	loads, err := moe.LoadsOf([]float64{100, 40})
	if err != nil {
		panic(err)
	}
	var s moe.Splitter
	tokens, err := s.Split(p, 0, loads, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(tokens)
	// Output: [30 40 70 0]
}
