package moe

import (
	"fmt"
	"slices"
)

// Empty is the expert of a slot that holds none.
const Empty = int32(-1)

// Placement says which expert each slot holds. Slots are numbered GPU by GPU. Its arrays are flat and reused when a planner
// fills it again.
type Placement struct {
	Layers, Experts int
	Cluster         Cluster

	// PhysicalToLogical is the expert of each slot, or Empty: Layers rows of Cluster.Slots().
	PhysicalToLogical []int32
	// LogicalToPhysical is the slots of each expert in turn: Layers rows of Cluster.Slots(), of which the first are used.
	LogicalToPhysical []int32
	// First is where an expert's slots begin in its row of LogicalToPhysical, and end: Layers rows of Experts+1.
	First []int32
}

// NewPlacement makes a placement from the experts of slots, Layers rows of Cluster.Slots(), such as an engine reports.
// Every expert must have a slot; slots of dead GPUs are ignored.
func NewPlacement(layers, experts int, cluster Cluster, physicalToLogical []int32) (*Placement, error) {
	p := &Placement{}
	var bad problems
	checkFit(Loads{Layers: layers, Experts: experts}, cluster, &bad)
	if len(bad.errs) == 0 && len(physicalToLogical) != layers*cluster.Slots() {
		bad.add("len(physicalToLogical)", len(physicalToLogical), fmt.Sprintf("must be layers x slots: %d", layers*cluster.Slots()))
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	p.reset(layers, experts, cluster)
	for i, e := range physicalToLogical {
		if e < Empty || int(e) >= experts {
			bad.add(fmt.Sprintf("physicalToLogical[%d]", i), e, fmt.Sprintf("must be an expert below %d, or Empty", experts))
			continue
		}
		if p.Cluster.isDead(p.Cluster.GPU(i % cluster.Slots())) {
			e = Empty
		}
		p.PhysicalToLogical[i] = e
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	for l := range layers {
		p.index(l)
		for e := range experts {
			if p.Replicas(l, e) == 0 {
				bad.add(fmt.Sprintf("physicalToLogical of layer %d", l), e, "an expert without a slot")
			}
		}
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Row is the experts of one layer's slots. It must not be modified.
func (p *Placement) Row(layer int) []int32 {
	n := p.Cluster.Slots()
	return p.PhysicalToLogical[layer*n : (layer+1)*n : (layer+1)*n]
}

// Slots is where an expert's replicas are. It must not be modified.
func (p *Placement) Slots(layer, expert int) []int32 {
	first := p.First[layer*(p.Experts+1)+expert:]
	row := p.LogicalToPhysical[layer*p.Cluster.Slots():]
	return row[first[0]:first[1]:first[1]]
}

// Replicas is how many slots hold an expert.
func (p *Placement) Replicas(layer, expert int) int { return len(p.Slots(layer, expert)) }

// CopyFrom makes p an independent copy of q.
func (p *Placement) CopyFrom(q *Placement) {
	p.reset(q.Layers, q.Experts, q.Cluster)
	copy(p.PhysicalToLogical, q.PhysicalToLogical)
	copy(p.LogicalToPhysical, q.LogicalToPhysical)
	copy(p.First, q.First)
}

// GPULoads writes what each GPU gets in a layer if tokens are split evenly over replicas, and returns into[:Cluster.GPUs].
func (p *Placement) GPULoads(layer int, loads Loads, into []float64) []float64 {
	into = resize(into, p.Cluster.GPUs)
	clear(into)
	for e := range p.Experts {
		slots := p.Slots(layer, e)
		tokens, known := loads.At(layer, e)
		if !known {
			tokens = loads.assumed(layer)
		}
		for _, s := range slots {
			into[p.Cluster.GPU(int(s))] += tokens / float64(len(slots))
		}
	}
	return into
}

// Balance is the mean over layers of mean over greatest GPU load, with tokens split evenly over replicas: 1 is perfect. Dead
// GPUs do not count.
func (p *Placement) Balance(loads Loads) float64 {
	sum := 0.0
	var gpus []float64
	for l := range p.Layers {
		gpus = p.GPULoads(l, loads, gpus)
		sum += balance(gpus, p.Cluster.live())
	}
	return sum / float64(p.Layers)
}

// Copies is how many experts must be copied to GPUs that do not hold them in q to turn q into p, over all layers. GPUs of
// equal number are the same; moving an expert within its GPU is free.
func (p *Placement) Copies(q *Placement) int {
	n := 0
	for l := range p.Layers {
		was := q.Row(l)
		for s, e := range p.Row(l) {
			if e == Empty {
				continue
			}
			gpu := p.Cluster.GPU(s)
			from := gpu * q.Cluster.SlotsPerGPU
			if gpu >= q.Cluster.GPUs || !slices.Contains(was[from:from+q.Cluster.SlotsPerGPU], e) {
				n++
			}
		}
	}
	return n
}

// balance is 1 where there is no load at all.
func balance(gpus []float64, live int) float64 {
	sum, top := 0.0, 0.0
	for _, g := range gpus {
		sum += g
		top = max(top, g)
	}
	if top == 0 {
		return 1
	}
	return min(sum/float64(live)/top, 1)
}

func (p *Placement) reset(layers, experts int, c Cluster) {
	p.Layers, p.Experts = layers, experts
	p.Cluster = Cluster{Nodes: c.Nodes, GPUs: c.GPUs, SlotsPerGPU: c.SlotsPerGPU, Dead: append(p.Cluster.Dead[:0], c.Dead...)}
	p.PhysicalToLogical = resize(p.PhysicalToLogical, layers*c.Slots())
	p.LogicalToPhysical = resize(p.LogicalToPhysical, layers*c.Slots())
	p.First = resize(p.First, layers*(experts+1))
}

// index fills LogicalToPhysical and First of a layer from PhysicalToLogical, replicas in the order of their slots.
func (p *Placement) index(layer int) {
	n := p.Cluster.Slots()
	index(p.Row(layer), p.Experts, p.First[layer*(p.Experts+1):(layer+1)*(p.Experts+1)], p.LogicalToPhysical[layer*n:(layer+1)*n])
}

func index(row []int32, experts int, first, to []int32) {
	clear(first)
	for _, e := range row {
		if e != Empty {
			first[e+1]++
		}
	}
	for e := range experts {
		first[e+1] += first[e]
	}
	// first[e] runs to the end of e's slots, which is the start of the next one's.
	for s, e := range row {
		if e != Empty {
			to[first[e]] = int32(s)
			first[e]++
		}
	}
	copy(first[1:], first[:experts])
	first[0] = 0
}
