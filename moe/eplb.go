package moe

import "fmt"

// EPLB is DeepSeek's published expert-parallel load balancer (github.com/deepseek-ai/EPLB), with its exact results: loads
// and their sums are float32, and ties go to the lowest index. Where Groups is a multiple of the cluster's nodes it is
// hierarchical: groups of experts are packed on nodes, then each node's experts are replicated, then packed on its GPUs.
// Otherwise, or when GPUs are dead, it is global, as if there were one group and one node.
//
// It may put two replicas of an expert on one GPU. Time is in O(slots log slots) a layer. The zero value is global.
type EPLB struct {
	Groups int // of consecutive experts; 0 means 1

	row      []float64
	weight   []float32 // of the layer's experts
	group    []float32
	place    packing // of groups on nodes, then of slots on GPUs
	sorter   sorter
	most     tournament
	least    tournament
	packLoad []float32
	packed   []int32

	member []int32 // expert of a node's local index
	count  []int32
	slot   []int32 // local index of a node's slot before packing
	rank   []int32 // its number among the replicas
	share  []float32
	live   []int32 // live GPUs in order
}

// packing is the pack of each item, and its place there.
type packing struct{ pack, rank []int32 }

// Plan fills a placement. Errors are joined FieldErrors.
func (b *EPLB) Plan(into *Placement, loads Loads, cluster Cluster) error {
	groups, nodes := max(b.Groups, 1), cluster.nodes()
	var p problems
	if b.Groups < 0 {
		p.add("EPLB.Groups", b.Groups, "must not be negative")
	}
	checkBoth(loads, cluster, &p)
	if loads.Experts > 0 && loads.Experts%groups != 0 {
		p.add("Loads.Experts", loads.Experts, fmt.Sprintf("must be a multiple of EPLB.Groups: %d", groups))
	}
	if groups%nodes != 0 || len(cluster.Dead) > 0 {
		groups, nodes = 1, 1
	} else if cluster.GPUs%nodes != 0 {
		p.add("Cluster.GPUs", cluster.GPUs, fmt.Sprintf("must be a multiple of Cluster.Nodes: %d", nodes))
	}
	if err := p.err(); err != nil {
		return err
	}
	into.reset(loads.Layers, loads.Experts, cluster)
	b.live = b.live[:0]
	for g := range cluster.GPUs {
		if !cluster.isDead(g) {
			b.live = append(b.live, int32(g))
		}
	}
	b.row, b.weight = resize(b.row, loads.Experts), resize(b.weight, loads.Experts)
	for l := range loads.Layers {
		loads.row(l, b.row)
		for e, v := range b.row {
			b.weight[e] = float32(v)
		}
		b.layer(into, l, groups, nodes)
	}
	return nil
}

func (b *EPLB) layer(into *Placement, layer, groups, nodes int) {
	perGroup := into.Experts / groups
	b.group = resize(b.group, groups)
	for g := range b.group {
		sum := float32(0)
		for _, w := range b.weight[g*perGroup : (g+1)*perGroup] {
			sum += w
		}
		b.group[g] = sum
	}
	b.pack(b.group, nodes)
	b.member = resize(b.member, into.Experts)
	for g := range groups {
		at := (int(b.place.pack[g])*groups/nodes + int(b.place.rank[g])) * perGroup
		for i := range perGroup {
			b.member[at+i] = int32(g*perGroup + i)
		}
	}

	row := into.Row(layer)
	if len(b.live)*into.Cluster.SlotsPerGPU < len(row) {
		for s := range row {
			row[s] = Empty
		}
	}
	first := into.First[layer*(into.Experts+1) : (layer+1)*(into.Experts+1)]
	to := into.LogicalToPhysical[layer*into.Cluster.Slots():]
	experts, gpus, perGPU := into.Experts/nodes, len(b.live)/nodes, into.Cluster.SlotsPerGPU
	slots := gpus * perGPU
	b.rank, b.slot = resize(b.rank, nodes*slots), resize(b.slot, nodes*slots)
	b.count = resize(b.count, nodes*experts)
	for n := range nodes {
		b.replicate(b.member[n*experts:(n+1)*experts], b.count[n*experts:(n+1)*experts], b.slot[n*slots:(n+1)*slots],
			b.rank[n*slots:(n+1)*slots])
	}
	for i, e := range b.member {
		first[e+1] = b.count[i]
	}
	first[0] = 0
	for e := range into.Experts {
		first[e+1] += first[e]
	}
	for n := range nodes {
		member, slot := b.member[n*experts:(n+1)*experts], b.slot[n*slots:(n+1)*slots]
		count, rank := b.count[n*experts:(n+1)*experts], b.rank[n*slots:(n+1)*slots]
		b.share = resize(b.share, slots)
		for i, x := range slot {
			b.share[i] = b.weight[member[x]] / float32(count[x])
		}
		b.pack(b.share, gpus)
		for i, x := range slot {
			s := b.live[n*gpus+int(b.place.pack[i])]*int32(perGPU) + b.place.rank[i]
			row[s] = member[x]
			to[first[member[x]]+rank[i]] = s
		}
	}
}

// replicate gives every expert a slot, and each further slot to the expert with the greatest load a replica.
func (b *EPLB) replicate(member, count, slot, rank []int32) {
	b.most.start(len(member))
	for x, e := range member {
		count[x], slot[x], rank[x] = 1, int32(x), 0
		b.most.tree[b.most.leaves+x] = descending(b.weight[e], x)
	}
	b.most.build()
	for i := len(member); i < len(slot); i++ {
		x := b.most.least()
		slot[i], rank[i] = int32(x), count[x]
		count[x]++
		b.most.set(x, descending(b.weight[member[x]]/float32(count[x]), x))
	}
}

// pack puts equally many items in each pack, greatest first, each into the least loaded pack that has room.
func (b *EPLB) pack(weights []float32, packs int) {
	b.place.pack, b.place.rank = resize(b.place.pack, len(weights)), resize(b.place.rank, len(weights))
	room := int32(len(weights) / packs)
	if room == 1 {
		for i := range weights {
			b.place.pack[i], b.place.rank[i] = int32(i), 0
		}
		return
	}
	keys := b.sorter.start(len(weights))
	for i, w := range weights {
		keys[i] = descending(w, i)
	}
	b.least.start(packs)
	b.packLoad, b.packed = resize(b.packLoad, packs), resize(b.packed, packs)
	clear(b.packLoad)
	clear(b.packed)
	for p := range packs {
		b.least.tree[b.least.leaves+p] = ascending(0, p)
	}
	b.least.build()
	for _, k := range b.sorter.sort() {
		i, p := uint32(k), b.least.least()
		b.place.pack[i], b.place.rank[i] = int32(p), b.packed[p]
		b.packLoad[p] += weights[i]
		b.packed[p]++
		if b.packed[p] == room {
			b.least.set(p, beaten)
		} else {
			b.least.set(p, ascending(b.packLoad[p], p))
		}
	}
}
