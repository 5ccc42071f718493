package moe

import (
	"fmt"
	"testing"
)

func BenchmarkPlacer(b *testing.B) {
	for _, c := range []struct {
		gpus, slots int
		alpha       float64
	}{{32, 9, .6}, {32, 9, 1.1}, {72, 4, .6}, {72, 4, 1.1}} {
		b.Run(fmt.Sprintf("layers=58/experts=256/gpus=%d/zipf=%.1f", c.gpus, c.alpha), func(b *testing.B) {
			loads := zipf(58, 256, c.alpha, 1)
			var planner Placer
			var p Placement
			var report Report
			b.ReportAllocs()
			for b.Loop() {
				report, _ = planner.Plan(&p, loads, Cluster{GPUs: c.gpus, SlotsPerGPU: c.slots})
			}
			b.ReportMetric(report.Balance, "balance")
		})
	}
}

func BenchmarkRebalancer(b *testing.B) {
	for _, gpus := range []int{32, 72} {
		for _, split := range []bool{false, true} {
			b.Run(fmt.Sprintf("layers=58/experts=256/gpus=%d/split=%v", gpus, split), func(b *testing.B) {
				loads := zipf(58, 256, .9, 1)
				now := drifted(loads, .3, 1)
				cluster := Cluster{GPUs: gpus, SlotsPerGPU: 288 / gpus}
				var old, p Placement
				if _, err := (&Placer{}).Plan(&old, loads, cluster); err != nil {
					b.Fatal(err)
				}
				planner := Rebalancer{Split: split}
				var m Migration
				b.ReportAllocs()
				for b.Loop() {
					m, _ = planner.Plan(&p, &old, now, cluster)
				}
				b.ReportMetric(m.Balance, "balance")
				b.ReportMetric(float64(m.Transfers)/58, "copies/layer")
			})
		}
	}
}
