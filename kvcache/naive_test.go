package kvcache

import (
	"slices"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
)

// naive is the index as one would write it without caring for speed or memory. What it is told of blocks it keeps for ever;
// what of it counts follows at each question.
type naive struct {
	pods  map[uint32]*naivePod
	facts map[uint64][]fact // by engine hash
	known map[uint64][]uint64
}

// fact is that an engine's block has a content and follows another block, or a start.
type fact struct {
	parent    uint64 // engine hash
	start     uint64 // request hash of what it follows, if it has no parent
	hasParent bool
	content   uint64
}

type naivePod struct {
	Pod
	options  PodOptions
	groups   []Group
	held     map[naiveHold]int // copies
	sequence uint64
	follows  bool // sequence counts
}

type naiveHold struct {
	engine uint64
	tier   Tier
	group  int
}

func newNaive() *naive {
	return &naive{map[uint32]*naivePod{}, map[uint64][]fact{}, map[uint64][]uint64{}}
}

func (n *naive) pod(p Pod) *naivePod {
	if e := n.pods[p.ID]; e != nil && e.Pod == p {
		return e
	}
	return nil
}

func (n *naive) open(p Pod, o PodOptions) {
	e := n.pod(p)
	if e == nil {
		e = &naivePod{Pod: p, held: map[naiveHold]int{}}
		n.pods[p.ID] = e
	}
	e.options = o
}

func (n *naive) close(p Pod) {
	if n.pod(p) != nil {
		delete(n.pods, p.ID)
	}
}

func (n *naive) lost(p Pod) {
	if e := n.pod(p); e != nil {
		e.clear()
		e.follows = false
	}
}

func (e *naivePod) clear() {
	clear(e.held)
}

func (n *naive) applyBatch(p Pod, sequence uint64, b *events.Batch) Verdict {
	e := n.pod(p)
	if e == nil {
		return Closed
	}
	verdict := Applied
	if e.follows && sequence <= e.sequence {
		return Duplicate
	}
	if e.follows && sequence > e.sequence+1 {
		e.clear()
		verdict = AppliedAfterGap
	}
	e.follows, e.sequence = true, sequence
	for i := range b.Events {
		n.apply(p, &b.Events[i])
	}
	return verdict
}

func (n *naive) apply(p Pod, ev *events.Event) {
	e := n.pod(p)
	if e == nil {
		return
	}
	if ev.Kind == events.Cleared {
		e.clear()
		return
	}
	tier, ok := tierOf(ev.Tier)
	if !ok || ev.Locality == events.OtherLocality {
		return
	}
	if ev.Kind == events.Removed {
		for _, h := range ev.Hashes {
			for _, g := range e.groups {
				hold := naiveHold{h, tier, g.ID}
				if (ev.Group < 0 || ev.Group == g.ID) && e.held[hold] > 0 {
					e.held[hold]--
				}
			}
		}
		return
	}
	if len(ev.Tokens) > 0 && !ev.Dense() && full(ev.Attention) {
		return
	}
	if !e.group(ev) {
		return
	}
	if ev.Dense() {
		f := fact{parent: ev.Parent, hasParent: ev.HasParent, start: e.start(ev)}
		contents := appendContents(nil, ev)
		for i, h := range ev.Hashes {
			f.content = contents[i]
			if !slices.Contains(n.facts[h], f) {
				n.facts[h] = append(n.facts[h], f)
				clear(n.known)
			}
			f = fact{parent: h, hasParent: true}
		}
	}
	for _, h := range ev.Hashes {
		e.held[naiveHold{h, tier, max(ev.Group, 0)}]++
	}
}

func (e *naivePod) start(ev *events.Event) uint64 {
	model := ev.Model
	if model == "" {
		model = e.options.Model
	}
	s := Space{Model: model, Adapter: ev.Adapter, Salt: ev.Salt, BlockTokens: ev.BlockTokens}
	if ev.Adapter != "" {
		s.Revision = e.options.Revision
	}
	return s.Start()
}

// group adds the event's group to those of the pod, and reports whether there is room.
func (e *naivePod) group(ev *events.Event) bool {
	switch ev.Attention {
	case events.EncoderOnly, events.CrossAttention, events.OtherAttention:
		return false
	}
	g := Group{ID: max(ev.Group, 0), BlockTokens: ev.BlockTokens, Attention: ev.Attention, Window: ev.Window}
	for i, old := range e.groups {
		if old.ID == g.ID && (old.BlockTokens == g.BlockTokens || old.BlockTokens == 0 || g.BlockTokens == 0) {
			if old.BlockTokens == 0 {
				e.groups[i].BlockTokens = g.BlockTokens
			}
			return true
		}
	}
	e.groups = append(e.groups, g)
	return true
}

// requests returns the request hashes of an engine's hash.
func (n *naive) requests(engine uint64) []uint64 {
	if known, ok := n.known[engine]; ok {
		return known
	}
	var out []uint64
	for _, f := range n.facts[engine] {
		parents := []uint64{f.start}
		if f.hasParent {
			parents = n.requests(f.parent)
		}
		for _, parent := range parents {
			chain := []uint64{f.content}
			blockhash.Chain(chain, parent)
			out = append(out, chain[0])
		}
	}
	n.known[engine] = out
	return out
}

// anybody tells whether some pod but some holds a block by a name.
func (n *naive) anybody(engine uint64, but []Pod) bool {
	for _, e := range n.pods {
		if slices.Contains(but, e.Pod) {
			continue
		}
		for hold, copies := range e.held {
			if hold.engine == engine && copies > 0 {
				return true
			}
		}
	}
	return false
}

// naiveBlock is a block of a group.
type naiveBlock struct {
	group   int
	request uint64
}

// holds tells in which tiers a pod has which blocks.
func (n *naive) holds(e *naivePod) map[naiveBlock]uint8 {
	tiers := map[naiveBlock]uint8{}
	for hold, copies := range e.held {
		if copies > 0 {
			for _, r := range n.requests(hold.engine) {
				tiers[naiveBlock{hold.group, r}] |= 1 << hold.tier
			}
		}
	}
	return tiers
}

func (n *naive) match(chain []uint64, blockTokens int, among []uint64, m *Matches) {
	m.reset(64 * len(among))
	for id, e := range n.pods {
		if int(id/64) >= len(among) || among[id/64]>>(id%64)&1 == 0 {
			continue
		}
		var whole, other []Group
		for _, g := range e.groups {
			switch {
			case g.BlockTokens != blockTokens && g.BlockTokens != 0:
			case g.Attention == events.Mamba || !full(g.Attention) && g.Window > 0:
				other = append(other, g)
			default:
				whole = append(whole, g)
			}
		}
		if len(whole) == 0 {
			whole = []Group{{ID: -1}}
		}
		holds := n.holds(e)
		gap, tiers := len(chain), make([]uint8, len(chain))
		for i, h := range chain {
			tiers[i] = 0xff
			for _, g := range whole {
				tiers[i] &= holds[naiveBlock{g.ID, h}]
			}
			if tiers[i] == 0 {
				gap = i
				break
			}
		}
		m.Gap[id] = int32(gap)
		for t := range m.Depths {
			for int(m.Depths[t][id]) < gap && tiers[m.Depths[t][id]]>>t&1 != 0 {
				m.Depths[t][id]++
			}
		}
		usable := gap
		for ; usable > 0; usable-- {
			ok := true
			for _, g := range other {
				need := 1
				if g.Attention != events.Mamba {
					need = (g.Window + blockTokens - 1) / blockTokens
				}
				for i := max(0, usable-need); i < usable; i++ {
					ok = ok && holds[naiveBlock{g.ID, chain[i]}] != 0
				}
			}
			if ok {
				break
			}
		}
		m.Blocks[id] = int32(usable)
		for _, held := range tiers[:usable] {
			for t := range Tier(Tiers) {
				if held>>t&1 != 0 {
					m.Tiers[t][id]++
					break
				}
			}
		}
	}
}
