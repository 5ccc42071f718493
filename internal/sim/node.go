package sim

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/scheduling"
)

// node is an endpoint: an engine and what the cluster knows of it.
type node struct {
	id     string
	serial int // nodes are numbered as they come
	group  int
	size   int // place of its block size in run.sizes
	state  nodeState
	engine *engine.Engine

	startUp   time.Duration
	slowUntil time.Duration
	linkFree  time.Duration // when its link is done with the transfers that it has
	crashes   int
	joined    time.Duration
	resident  int // requests that are in the engine

	wakeAt time.Duration
	place  int // in run.wakes; -1 while idle
}

type nodeState uint8

const (
	ready nodeState = iota
	starting
	down     // crashed and starting again
	draining // takes no more requests
	gone
)

// join adds a replica to a group; it is in the pool once it has started.
func (r *run) join(group int) {
	n, err := r.newNode(group)
	if err != nil {
		r.fail(err)
		return
	}
	n.state = starting
	r.after(n.startUp, func() { r.up(n) })
	r.planFaults(n)
}

func (r *run) newNode(group int) (*node, error) {
	g := &r.c.Fleet[group]
	o := g.Engine
	o.StartUp = 0 // the node does it: an engine that starts up would queue requests, a real one refuses the connection
	n := &node{
		id: fmt.Sprintf("%s-%d", g.Name, r.joined[group]), serial: r.serials, group: group,
		startUp: g.Engine.StartUp, joined: r.now, place: -1,
	}
	var err error
	n.engine, err = engine.New(r.now, o, engine.Hooks{
		Started:  r.started,
		Tokens:   r.tokens,
		Finished: func(res engine.Result) { r.ended = append(r.ended, ended{n, res}) },
	})
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", g.Name, err)
	}
	if err := n.engine.SetSlowdown(r.now, g.Slowdown); err != nil {
		return nil, fmt.Errorf("group %q: %w", g.Name, err)
	}
	n.size = r.sizeOf(n.engine.Options().BlockTokens)
	r.joined[group]++
	r.serials++
	r.nodes = append(r.nodes, n)
	return n, nil
}

// sizeOf returns the place of a block size in run.sizes.
func (r *run) sizeOf(blockTokens int) int {
	for i, s := range r.sizes {
		if s == blockTokens {
			return i
		}
	}
	r.sizes = append(r.sizes, blockTokens)
	return len(r.sizes) - 1
}

func (r *run) endpoint(n *node) scheduling.Endpoint {
	g, o := &r.c.Fleet[n.group], n.engine.Options()
	return scheduling.Endpoint{
		ID: n.id, Address: fmt.Sprintf("10.%d.%d.%d:8000", n.serial>>16&255, n.serial>>8&255, n.serial&255),
		Role: g.Role, Model: g.Model, Adapters: g.Adapters, Labels: g.Labels,
		BlockTokens: o.BlockTokens, CacheBlocks: o.Blocks,
	}
}

// up puts a node that has started into the pool.
func (r *run) up(n *node) {
	if n.state != starting && n.state != down {
		return
	}
	n.state = ready
	for _, g := range r.gateways {
		if err := g.pool.Upsert(r.endpoint(n)); err != nil {
			r.fail(err)
		}
	}
	r.mapSlots()
}

// mapSlots notes which node is in which slot of the pool.
func (r *run) mapSlots() {
	snap := r.pool.Snapshot()
	if snap.Len() > len(r.bySlot) {
		r.bySlot = append(r.bySlot, make([]*node, snap.Len()-len(r.bySlot))...)
	}
	byID := make(map[string]*node, len(r.nodes))
	for _, n := range r.nodes {
		byID[n.id] = n
	}
	for _, slot := range snap.Live() {
		r.bySlot[slot] = byID[snap.Endpoint(slot).ID]
	}
}

// leave takes a node out of the pool; it goes when it has nothing left to do.
func (r *run) leave(n *node) {
	if n.state == draining || n.state == gone {
		return
	}
	r.remove(n)
	n.state = draining
	if n.resident == 0 {
		r.drop(n)
	}
}

// remove takes a node out of the pools.
func (r *run) remove(n *node) {
	for _, g := range r.gateways {
		g.pool.Remove(n.id)
	}
}

// drop ends the life of a node that has nothing to do.
func (r *run) drop(n *node) {
	n.state = gone
	r.wakes.set(n, 0, false)
	r.endpointTime += r.now - n.joined
	st := n.engine.Stats()
	r.goneLookedUp += st.Totals.PrefixQueries
	r.goneHits += st.Totals.PrefixHits
	for i, other := range r.nodes {
		if other == n {
			r.nodes = append(r.nodes[:i:i], r.nodes[i+1:]...)
			return
		}
	}
}

// settle plans when a node has to be advanced next.
func (r *run) settle(n *node) {
	at, busy := n.engine.NextChange()
	r.wakes.set(n, at, busy)
}
