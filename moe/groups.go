package moe

import (
	"cmp"
	"slices"
)

// GroupRule says how groups of experts relate to nodes. Models with group-limited routing send a token to few groups, so
// that it crosses to few nodes if groups are kept together.
type GroupRule int

const (
	// Anywhere ignores groups.
	Anywhere GroupRule = iota
	// Homed keeps each group complete on a node of its own choice: a token that comes there finds every expert of the group.
	// Replicas beyond the first may be on other nodes and take load off it.
	Homed
	// Confined keeps all replicas of a group on one node, as EPLB's hierarchical mode does.
	Confined
)

func (r GroupRule) String() string {
	if r < Anywhere || r > Confined {
		return "unknown"
	}
	return [...]string{"anywhere", "homed", "confined"}[r]
}

// maxVisits bounds the search for the best nodes of groups; 8 groups on 4 nodes take about a hundred.
const maxVisits = 20000

// assigner finds a node for each group such that groups fit and the greatest load a GPU of any node is least, by branch and
// bound: groups in descending load, nodes in ascending load, equal nodes once.
type assigner struct {
	load   []float64 // of a group
	order  []int32
	slots  []int32 // of a node
	gpus   []float64
	sum    []float64 // of a node, so far
	used   []int32
	node   []int32 // of a group in order, so far
	best   []int32
	top    float64
	found  bool
	visits int
	size   int32 // experts of a group
	tries  []int32
}

// assign sets y.home. It returns the least greatest load of a GPU if every node spreads its groups perfectly (0 if the search
// was cut short) and whether groups fit at all. Groups take least slots: copies of each expert that must be on the node.
func (a *assigner) assign(y *layout, groups int, least int32) (top float64, ok bool) {
	nodes := y.cluster.nodes()
	per := y.experts / groups
	a.size = int32(per) * least
	a.load, a.order = resize(a.load, groups), resize(a.order, groups)
	a.node, a.best = resize(a.node, groups), resize(a.best, groups)
	a.slots, a.gpus = resize(a.slots, nodes), resize(a.gpus, nodes)
	a.sum, a.used = resize(a.sum, nodes), resize(a.used, nodes)
	a.tries = resize(a.tries, groups*nodes)
	clear(a.sum)
	clear(a.used)
	for g := range groups {
		a.load[g], a.order[g] = 0, int32(g)
		for _, w := range y.weight[g*per : (g+1)*per] {
			a.load[g] += w
		}
	}
	slices.SortFunc(a.order, func(i, j int32) int {
		return cmp.Or(cmp.Compare(a.load[j], a.load[i]), cmp.Compare(i, j))
	})
	for n := range nodes {
		gpus := y.liveOn(n)
		a.gpus[n], a.slots[n] = float64(gpus), int32(gpus*y.cluster.SlotsPerGPU)
	}
	a.found, a.visits = false, 0
	a.visit(0, 0)
	if !a.found {
		return 0, false
	}
	for i, g := range a.order {
		for e := int(g) * per; e < (int(g)+1)*per; e++ {
			y.home[e] = a.best[i]
		}
	}
	if a.visits >= maxVisits {
		return 0, true
	}
	return a.top, true
}

func (a *assigner) visit(i int, top float64) {
	if a.visits++; a.visits >= maxVisits && a.found || a.visits >= 50*maxVisits {
		return
	}
	if i == len(a.order) {
		a.found, a.top = true, top
		copy(a.best, a.node)
		return
	}
	g := a.order[i]
	nodes := len(a.sum)
	tries := a.tries[i*nodes : i*nodes : (i+1)*nodes]
	for n := range nodes {
		if a.used[n]+a.size > a.slots[n] {
			continue
		}
		same := slices.ContainsFunc(tries, func(m int32) bool {
			return a.sum[m] == a.sum[n] && a.used[m] == a.used[n] && a.slots[m] == a.slots[n]
		})
		if !same {
			tries = append(tries, int32(n))
		}
	}
	slices.SortFunc(tries, func(m, n int32) int {
		return cmp.Or(cmp.Compare(a.sum[m]/a.gpus[m], a.sum[n]/a.gpus[n]), cmp.Compare(m, n))
	})
	for _, n := range tries {
		before := a.sum[n]
		after := before + a.load[g]
		if t := max(top, after/a.gpus[n]); !a.found || t < a.top {
			a.sum[n], a.used[n], a.node[i] = after, a.used[n]+a.size, n
			a.visit(i+1, t)
			a.sum[n], a.used[n] = before, a.used[n]-a.size
		}
	}
}
