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
	guessed  []uint64          // least recently used first
	sequence uint64
	follows  bool // sequence counts
}

type naiveHold struct {
	engine uint64
	tier   Tier
	group  int
}

func newNaive() *naive { return &naive{map[uint32]*naivePod{}, map[uint64][]fact{}} }

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
	e.fit()
}

func (e *naivePod) fit() {
	if over := len(e.guessed) - e.options.Capacity; over > 0 {
		e.guessed = e.guessed[over:]
	}
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
	e.guessed = nil
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
			hold := naiveHold{h, tier, max(ev.Group, 0)}
			if e.held[hold] > 0 {
				e.held[hold]--
			}
			e.settle(n.requests(h))
		}
		return
	}
	if len(ev.Tokens) > 0 && !ev.Dense() && fullAttention(ev.Attention) {
		return
	}
	if !e.group(ev) {
		return
	}
	if ev.Dense() {
		f := fact{parent: ev.Parent, hasParent: ev.HasParent, start: e.start(ev)}
		contents := eventContents(nil, ev)
		for i, h := range ev.Hashes {
			f.content = contents[i]
			if !slices.Contains(n.facts[h], f) {
				n.facts[h] = append(n.facts[h], f)
			}
			f = fact{parent: h, hasParent: true}
		}
	}
	for _, h := range ev.Hashes {
		e.held[naiveHold{h, tier, max(ev.Group, 0)}]++
		e.settle(n.requests(h))
	}
}

// settle ends guesses about blocks that an event speaks of.
func (e *naivePod) settle(requests []uint64) {
	e.guessed = slices.DeleteFunc(e.guessed, func(r uint64) bool { return slices.Contains(requests, r) })
}

func fullAttention(a events.Attention) bool {
	return a == events.UnspecifiedAttention || a == events.FullAttention || a == events.MLAAttention || a == events.SinkFull
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

// eventContents hashes the blocks of an event as Space.Append does those of a prompt.
func eventContents(dst []uint64, ev *events.Event) []uint64 {
	from := len(dst)
	dst = blockhash.AppendContents(dst, ev.Tokens, ev.BlockTokens)
	for i := range ev.Extras {
		x := &ev.Extras[i]
		if at := from + x.Block; x.Block >= 0 && at < len(dst) {
			switch x.Kind {
			case events.Item:
				dst[at] = foldItem(dst[at], x.Value, x.Offset)
			case events.Text, events.Embeddings: // no prompt has them: its blocks stay apart from all that do not
				dst[at] = foldItem(dst[at]^1, x.Value, int64(x.Kind))
			}
		}
	}
	return dst
}

// group adds the event's group to those of the pod, and reports whether there is room.
func (e *naivePod) group(ev *events.Event) bool {
	switch ev.Attention {
	case events.EncoderOnly, events.CrossAttention, events.OtherAttention:
		return false
	}
	g := Group{ID: max(ev.Group, 0), BlockTokens: ev.BlockTokens, Attention: ev.Attention, Window: ev.Window}
	for _, old := range e.groups {
		if old.ID == g.ID {
			return true
		}
	}
	e.groups = append(e.groups, g)
	return true
}

// requests returns the request hashes of an engine's hash.
func (n *naive) requests(engine uint64) []uint64 {
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
	return out
}

// holds tells in which tiers a pod has a block for a group.
func (n *naive) holds(e *naivePod, request uint64, group int) (tiers uint8) {
	for hold, copies := range e.held {
		if copies > 0 && hold.group == group && slices.Contains(n.requests(hold.engine), request) {
			tiers |= 1 << hold.tier
		}
	}
	if slices.Contains(e.guessed, request) {
		tiers |= 1 << Guessed
	}
	return tiers
}

func (n *naive) speculate(p Pod, chain []uint64) {
	e := n.pod(p)
	if e == nil {
		return
	}
	chain = chain[:min(len(chain), e.options.Capacity)]
	e.settle(chain)
	for _, h := range slices.Backward(chain) {
		e.guessed = append(e.guessed, h)
	}
	e.fit()
}

func (n *naive) match(chain []uint64, blockTokens int, among []uint64, m *Matches) {
	m.reset(64 * len(among))
	for id, e := range n.pods {
		if int(id/64) >= len(among) || among[id/64]>>(id%64)&1 == 0 {
			continue
		}
		var full, other []Group
		for _, g := range e.groups {
			if fullAttention(g.Attention) || g.Attention != events.Mamba && g.Window == 0 {
				full = append(full, g)
			} else {
				other = append(other, g)
			}
		}
		if len(full) == 0 {
			full = []Group{{}}
		}
		gap, tiers := len(chain), make([]uint8, len(chain))
		for i, h := range chain {
			tiers[i] = 0xff
			for _, g := range full {
				tiers[i] &= n.holds(e, h, g.ID)
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
					ok = ok && n.holds(e, chain[i], g.ID) != 0
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
