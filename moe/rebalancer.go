package moe

import (
	"fmt"
	"math"
	"time"
)

// Cost prices a migration. The zero value is free.
type Cost struct {
	// ExpertBytes is the weights of one expert of one layer, LinkBytesPerSecond what one GPU can receive.
	ExpertBytes        int64
	LinkBytesPerSecond float64
	// Horizon is how long the new plan will serve, such as the time to the next one.
	Horizon time.Duration
	// Share of the time that GPUs would spend in experts if loads were balanced, from 0 to 1.
	Share float64
}

// Rebalancer improves a placement that is in use. The zero value works.
//
// It first repairs: experts without a live replica get one, and rules that are broken are mended, with as few copies as it
// can. Then it improves each layer with the copies that are left, by the moves of Placer or, with Split, by those that help
// an exact split; an empty slot, as of a GPU that was added, takes a copy like any other. A layer's improvement is kept, in
// full or with half the copies, a quarter and so on, where it saves most time net of the transfer, and dropped if none does.
// Last it orders the copies.
type Rebalancer struct {
	Groups  int
	Rule    GroupRule
	Survive Survive
	// Copies is how many experts a layer may copy between GPUs beyond repairs; 0 means a tenth of the slots, less than 0 none.
	Copies int
	// Split says that tokens will be split by a Splitter. Balance then is what it achieves, and far fewer copies do.
	Split bool
	// SingleCopies makes every step one copy, so that no GPU needs room for more experts than it has slots. Takes further
	// copies by way of slots that can be spared.
	SingleCopies bool
	Cost         Cost
	// Effort is as in Placer; without Split, each unit of it is also a fraction of a millisecond of annealing a layer, which ends
	// once nothing better is in reach of the budget. Where GPUs are many and have few slots, tens of times the default find a
	// few per cent more.
	Effort int

	planner
	relief   relief
	annealer annealer
	migrator migrator
	was      []uint64
	start    []int32 // what slots hold at first
	repaired []int32
	best     []int32
	incoming []int32 // copies by GPU
	copies   []Copy
}

// Migration is how to get to a new placement. Its slices are valid until the next plan.
type Migration struct {
	Report
	// Before is the balance of the old placement under the new loads, after repairs.
	Before float64
	// Copies in order.
	Copies []Copy
	// Transfers is how many of them cross between GPUs or come from storage, Repairs how many of those were necessary.
	Transfers, Repairs int
	Bytes              int64
	// Takes is how long the GPU that receives most is busy receiving; Saves is what it saves over the Horizon.
	Takes, Saves time.Duration
}

func (b *Rebalancer) check(into, old *Placement, loads Loads, cluster Cluster) error {
	var p problems
	checkBoth(loads, cluster, &p)
	rules{b.Groups, b.Rule, b.Survive}.check(loads, "Rebalancer", &p)
	if old == nil || old.Layers != loads.Layers || old.Experts != loads.Experts {
		p.add("old", "another shape", fmt.Sprintf("must have the loads' layers and experts: %d x %d", loads.Layers, loads.Experts))
	}
	if old == into {
		p.add("into", "old", "must be another placement")
	}
	c := b.Cost
	if c.ExpertBytes < 0 {
		p.add("Rebalancer.Cost.ExpertBytes", c.ExpertBytes, "must not be negative")
	}
	if c.ExpertBytes > 0 {
		if !(c.LinkBytesPerSecond > 0) || math.IsInf(c.LinkBytesPerSecond, 0) {
			p.add("Rebalancer.Cost.LinkBytesPerSecond", c.LinkBytesPerSecond, "must be greater than 0 where ExpertBytes is given")
		}
		if c.Horizon <= 0 {
			p.add("Rebalancer.Cost.Horizon", c.Horizon, "must be greater than 0 where ExpertBytes is given")
		}
		if !(c.Share > 0 && c.Share <= 1) {
			p.add("Rebalancer.Cost.Share", c.Share, "must be above 0 and at most 1 where ExpertBytes is given")
		}
	}
	return p.err()
}

// Plan fills a placement for the cluster as it is now, in which GPUs of equal number are the same as in old's: some may be
// dead, gone from the end, or new. Into and old must differ. Errors are joined FieldErrors.
func (b *Rebalancer) Plan(into, old *Placement, loads Loads, cluster Cluster) (Migration, error) {
	if err := b.check(into, old, loads, cluster); err != nil {
		return Migration{}, err
	}
	budget := b.Copies
	if budget == 0 {
		budget = max(cluster.Slots()/10, 1)
	}
	into.reset(loads.Layers, loads.Experts, cluster)
	b.begin(loads.Layers, loads.Experts, cluster)
	b.copies = b.copies[:0]
	m := Migration{}
	var takes, saves float64
	for l := range loads.Layers {
		loads.row(l, b.layout.weight)
		b.layout.sparse, b.layout.was, b.layout.copies = false, nil, 0
		bound := b.prepare(rules{b.Groups, b.Rule, b.Survive}, l)
		b.carry(old, l)
		b.repair(l)
		y := &b.layout
		b.repaired = append(b.repaired[:0], y.at...)
		repairs := y.copies
		m.Repairs += repairs
		b.weigh()
		before := y.top()
		m.Before += balance(y.load, cluster.live()) / float64(loads.Layers)
		saved := b.improve(l, bound, repairs, max(budget, 0))
		b.migrator.align(b.start, y.at, cluster.SlotsPerGPU)
		first := len(b.copies)
		var ok bool
		b.copies, ok = b.migrator.order(b.copies, l, b.start, y.at, y.experts, cluster, b.SingleCopies)
		if !ok {
			b.lack(l, "no slot can be spared for single copies: some steps exchange experts")
		}
		n, busiest := b.count(b.copies[first:])
		m.Transfers += n
		takes += b.seconds(busiest)
		if before > 0 {
			saves += saved
		}
		b.weigh()
		b.settle(into, l, bound)
	}
	m.Report, m.Copies = b.report(), b.copies
	m.Bytes = int64(m.Transfers) * b.Cost.ExpertBytes
	m.Takes, m.Saves = time.Duration(takes*1e9), time.Duration(saves*1e9)
	return m, nil
}

// weigh computes loads as tokens will be split.
func (b *Rebalancer) weigh() {
	b.layout.weigh()
	if b.Split {
		b.relief.split(&b.layout)
	}
}

func (b *Rebalancer) settle(into *Placement, layer int, bound float64) {
	split := balance(b.layout.load, b.layout.cluster.live())
	b.finish(into, layer, bound)
	if b.Split {
		b.balances[layer], b.bounds[layer] = split, 1
	}
}

// carry takes over what GPUs hold that are still there.
func (b *Rebalancer) carry(old *Placement, layer int) {
	y := &b.layout
	b.adopt(old, layer)
	y.empty()
	row, per := old.Row(layer), old.Cluster.SlotsPerGPU
	b.start = resize(b.start, len(y.at))
	for s := range b.start {
		b.start[s] = Empty
	}
	b.was = resize(b.was, len(y.on))
	clear(b.was)
	for g := range min(old.Cluster.GPUs, y.cluster.GPUs) {
		if y.closed[g] {
			continue
		}
		for i, e := range row[g*per : (g+1)*per] {
			if e == Empty || i >= y.cluster.SlotsPerGPU {
				continue
			}
			slot := g*y.cluster.SlotsPerGPU + i
			b.start[slot] = e
			b.was[int(e)*y.words+g>>6] |= 1 << (g & 63)
			if y.canPut(e, g) {
				y.put(e, slot)
			}
		}
	}
	y.was = b.was
}

// adopt keeps groups on the nodes that hold most of their experts already, as far as they fit.
func (b *Rebalancer) adopt(old *Placement, layer int) {
	y := &b.layout
	if y.rule == Anywhere {
		return
	}
	groups, nodes := max(b.Groups, 1), y.cluster.nodes()
	per := y.experts / groups
	b.incoming = resize(b.incoming, nodes)
	clear(b.incoming)
	homes := resize(b.best, groups)
	b.best = homes
	for g := range groups {
		best, most := -1, -1
		for n := range nodes {
			have := 0
			for e := g * per; e < (g+1)*per; e++ {
				for _, s := range old.Slots(layer, e) {
					if gpu := old.Cluster.GPU(int(s)); gpu < y.cluster.GPUs && !y.closed[gpu] && int(y.node[gpu]) == n {
						have++
						break
					}
				}
			}
			if int(b.incoming[n])+per <= y.liveOn(n)*y.cluster.SlotsPerGPU && have > most {
				best, most = n, have
			}
		}
		if best < 0 {
			return // the planner's own nodes
		}
		b.incoming[best] += int32(per)
		homes[g] = int32(best)
	}
	for e := range y.experts {
		y.home[e] = homes[e/per]
	}
}

// repair gives experts what they must have.
func (b *Rebalancer) repair(layer int) {
	y := &b.layout
	y.weigh()
	b.builder.prepare(y)
	b.builder.sort(y)
	missing := b.builder.mend(y)
	if missing > 0 {
		b.lack(layer, fmt.Sprintf("%d replicas found no slot under the rules", missing))
	}
	y.weigh()
}

// improve spends the budget where that pays and returns the seconds that it saves.
func (b *Rebalancer) improve(layer int, bound float64, repairs, budget int) float64 {
	y := &b.layout
	b.weigh()
	before, mean := y.top(), sum(y.load)/float64(y.cluster.live())
	b.best = append(b.best[:0], y.at...)
	best, copies, saved := 0.0, y.copies, 0.0
	for n := budget; n > 0 && mean > 0; n /= 2 {
		y.rebuild(b.repaired, repairs)
		b.spend(layer, bound, repairs+n)
		b.weigh()
		save := b.Cost.Horizon.Seconds() * b.Cost.Share * (before - y.top()) / mean / float64(len(b.balances))
		if b.Cost.ExpertBytes == 0 {
			if y.top() > before {
				break
			}
			return save
		}
		if net := save - b.seconds(b.receives()); net > best {
			best, copies, saved = net, y.copies, save
			b.best = append(b.best[:0], y.at...)
		}
	}
	y.rebuild(b.best, copies)
	return saved
}

func (b *Rebalancer) spend(layer int, bound float64, copies int) {
	y := &b.layout
	goal := bound * (1 + DefaultTolerance)
	if b.Split {
		goal = sum(b.layout.load) / float64(y.cluster.live()) * (1 + DefaultTolerance)
		b.relief.search(y, goal, shakes(b.Effort, len(y.at))/50, copies, uint64(layer))
		return
	}
	b.shaker.search(y, goal, shakes(b.Effort, len(y.at)), copies, uint64(layer))
	b.annealer.search(y, goal, annealSteps*effortOr(b.Effort), copies, uint64(layer))
}

// receives is how many experts the GPU that gets most gets.
func (b *Rebalancer) receives() int {
	y, most := &b.layout, 0
	for g := range y.cluster.GPUs {
		n := 0
		for _, e := range y.gpu(g) {
			if e != Empty && !y.held(e, g) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// count is how many copies cross, and how many of them reach the GPU that gets most.
func (b *Rebalancer) count(copies []Copy) (all, busiest int) {
	c := b.layout.cluster
	b.incoming = resize(b.incoming, c.GPUs)
	clear(b.incoming)
	for _, m := range copies {
		if m.Expert != Empty && (m.From == Storage || c.GPU(int(m.From)) != c.GPU(int(m.To))) {
			all++
			b.incoming[c.GPU(int(m.To))]++
			busiest = max(busiest, int(b.incoming[c.GPU(int(m.To))]))
		}
	}
	return all, busiest
}

func (b *Rebalancer) seconds(copies int) float64 {
	if b.Cost.ExpertBytes == 0 {
		return 0
	}
	return float64(copies) * float64(b.Cost.ExpertBytes) / b.Cost.LinkBytesPerSecond
}
