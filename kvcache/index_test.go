package kvcache

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/events"
)

const testBlock = 2 // tokens

// prompt draws tokens that share prefixes with other draws.
func prompt(t *rapid.T, label string) []uint32 {
	var tokens []uint32
	for range rapid.IntRange(1, 5).Draw(t, label+" pieces") {
		branch := rapid.Uint32Range(0, 1).Draw(t, label+" branch")
		blocks := rapid.SampledFrom([]int{1, 2, 3, 30, 31, 32, 33, 64, 200}).Draw(t, label+" blocks")
		for range blocks * testBlock {
			tokens = append(tokens, branch)
		}
	}
	return tokens
}

// engine names the blocks of a prompt as an engine with a seed does.
func engine(seed uint64, tokens []uint32) []uint64 {
	var names []uint64
	h := seed
	for i := 0; i+testBlock <= len(tokens); i += testBlock {
		for _, token := range tokens[i : i+testBlock] {
			h = (h ^ uint64(token)) * 0x9e3779b97f4a7c15
			h ^= h >> 31
		}
		names = append(names, h)
	}
	return names
}

// stored makes the event of some blocks of a prompt.
func stored(seed uint64, tokens []uint32, from, to int) events.Event {
	names := engine(seed, tokens)
	e := events.Event{
		Kind: events.Stored, Tier: events.GPU, Group: -1, BlockTokens: testBlock,
		Hashes: names[from:to], Tokens: tokens[from*testBlock : to*testBlock],
	}
	if from > 0 {
		e.Parent, e.HasParent = names[from-1], true
	}
	return e
}

// world is an index and its oracle.
type world struct {
	x         *Index
	n         *naive
	ids       []uint32
	generaton uint32
	sequence  map[uint32]uint64
	options   Options
}

func newWorld(t require.TestingT, o Options, ids ...uint32) *world {
	x, err := New(o)
	require.NoError(t, err)
	w := &world{x: x, n: newNaive(), ids: ids, sequence: map[uint32]uint64{}, options: o}
	for _, id := range ids {
		w.open(t, id)
	}
	return w
}

func (w *world) open(t require.TestingT, id uint32) {
	w.generaton++
	p := Pod{ID: id, Generation: w.generaton}
	o := PodOptions{Name: string(rune('a' + id)), Model: "m", Capacity: 1 << 20}
	require.NoError(t, w.x.Open(p, o))
	w.n.open(p, o)
	delete(w.sequence, id)
}

// seed of a pod's engine: the first ones agree in their hashes.
func (w *world) seed(p Pod) uint64 {
	if p.ID < 4 {
		return 77
	}
	return uint64(p.ID)<<32 + uint64(p.Generation)
}

func (w *world) pod(t *rapid.T) Pod {
	return w.n.pods[rapid.SampledFrom(w.ids).Draw(t, "pod")].Pod
}

func (w *world) pods() (out []Pod) {
	for _, e := range w.n.pods {
		out = append(out, e.Pod)
	}
	return out
}

func (w *world) apply(t require.TestingT, p Pod, list ...events.Event) {
	w.sequence[p.ID]++
	b := &events.Batch{Events: list}
	require.Equal(t, w.n.applyBatch(p, w.sequence[p.ID], b), w.x.ApplyBatch(p, w.sequence[p.ID], b))
}

// event draws one for a pod. Some pods may have lost all when it is applied.
func (w *world) event(t *rapid.T, p Pod, tiers, groups bool, but ...Pod) events.Event {
	tokens := prompt(t, "event")
	names := engine(w.seed(p), tokens)
	from := rapid.OneOf(rapid.Just(0), rapid.IntRange(0, len(names)-1)).Draw(t, "from")
	to := rapid.OneOf(rapid.Just(len(names)), rapid.IntRange(from+1, len(names))).Draw(t, "to")
	e := stored(w.seed(p), tokens, from, to)
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		// The index forgets what it was told of a block when nobody holds it any more.
		e.Tokens, e.BlockTokens, e.HasParent = nil, 0, false
		e.Hashes = slices.DeleteFunc(slices.Clone(e.Hashes), func(h uint64) bool { return w.n.facts[h] != nil && !w.n.anybody(h, but) })
		if groups {
			e.BlockTokens = testBlock
		}
	case 1, 2, 3:
		e = events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: e.Hashes}
	case 4:
		e = events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: names[to-1:]}
	case 5:
		if rapid.IntRange(0, 3).Draw(t, "clear") == 0 {
			e = events.Event{Kind: events.Cleared, Group: -1}
		}
	}
	if tiers {
		e.Tier = rapid.SampledFrom([]events.Tier{events.GPU, events.GPU, events.CPU, events.Disk, events.Remote, events.UnknownTier}).Draw(t, "tier")
	}
	if groups && e.Kind != events.Cleared {
		e.Group = rapid.IntRange(0, 3).Draw(t, "group")
		e.Attention = []events.Attention{events.FullAttention, events.SlidingWindow, events.Mamba, events.MLAAttention}[e.Group]
		e.Window = []int{0, 5, 0, 0}[e.Group]
	}
	return e
}

func all(slots int) []uint64 {
	among := make([]uint64, (slots+63)/64)
	for i := range among {
		among[i] = ^uint64(0)
	}
	return among
}

var space = Space{Model: "m", BlockTokens: testBlock}

// compare asks both for a prompt.
func (w *world) compare(t require.TestingT, tokens []uint32) {
	chain := space.Append(nil, tokens, nil)
	var got, want Matches
	among := all(len(w.x.pods))
	w.x.Match(chain, testBlock, among, &got)
	w.n.match(chain, testBlock, among, &want)
	require.Equal(t, want.Gap, got.Gap, "gap")
	require.Equal(t, want.Blocks, got.Blocks, "blocks")
	require.Equal(t, want.Tiers, got.Tiers, "tiers")
	require.Equal(t, want.Depths, got.Depths, "depths")
}

func (w *world) actions(tiers, groups bool) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"apply": func(t *rapid.T) {
			p := w.pod(t)
			w.apply(t, p, w.event(t, p, tiers, groups), w.event(t, p, tiers, groups, w.pods()...))
		},
		"apply one": func(t *rapid.T) {
			p := w.pod(t)
			w.apply(t, p, w.event(t, p, tiers, groups))
		},
		"apply a batch again, or one that was overtaken": func(t *rapid.T) {
			p := w.pod(t)
			if have, ok := w.x.Cursor(p); ok && have > 0 {
				b := &events.Batch{Events: []events.Event{w.event(t, p, tiers, groups)}}
				sequence := rapid.Uint64Range(1, have).Draw(t, "sequence")
				require.Equal(t, Duplicate, w.x.ApplyBatch(p, sequence, b))
				require.Equal(t, Duplicate, w.n.applyBatch(p, sequence, b))
			}
		},
		"lose a batch": func(t *rapid.T) {
			p := w.pod(t)
			w.sequence[p.ID]++
			w.apply(t, p, w.event(t, p, tiers, groups, p))
		},
		"lost": func(t *rapid.T) {
			p := w.pod(t)
			w.x.Lost(p)
			w.n.lost(p)
			w.sequence[p.ID] += 7
		},
		"replace a pod": func(t *rapid.T) {
			p := w.pod(t)
			w.open(t, p.ID)
			require.Equal(t, Closed, w.x.ApplyBatch(p, 1, &events.Batch{Events: []events.Event{w.event(t, p, tiers, groups)}}))
		},
		"close and open": func(t *rapid.T) {
			p := w.pod(t)
			w.x.Close(p)
			w.n.close(p)
			w.compare(t, prompt(t, "match"))
			w.open(t, p.ID)
		},
		"": func(t *rapid.T) {
			w.compare(t, prompt(t, "match"))
			w.x.check(t)
		},
	}
}

func TestIndexEqualsOracle(t *testing.T) {
	for _, row := range []struct {
		name          string
		tiers, groups bool
	}{{"one tier", false, false}, {"tiers", true, false}, {"groups", true, true}} {
		t.Run(row.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t, Options{MaxBytes: 4 << 20, MaxPods: 70}, 0, 1, 2, 63, 64, 69)
				t.Repeat(w.actions(row.tiers, row.groups))
			})
		})
	}
}

// check verifies what must hold between the index's parts.
func (x *Index) check(t require.TestingT) {
	uses := map[uint32]uint64{}
	blocks, guesses := map[uint32]int{}, map[uint32]int{}
	runs, segments, distinct, waiting := 0, 0, 0, 0
	seen := map[uint64]bool{}
	columns := 0
	for id := range x.freeRuns.next {
		r := &x.runs[id]
		if r.flags&runLive == 0 {
			continue
		}
		runs++
		n := int(r.length)
		distinct += n
		if r.flags&(runWaiting|runBag) != 0 {
			waiting += n
		}
		segments += (n + segmentBlocks - 1) / segmentBlocks
		if r.count > inlineSpans {
			segments++
		}
		require.Equal(t, x.hash(r, 0), r.first)
		require.Equal(t, x.hash(r, n-1), r.last)
		found, ok := x.byFirst.get(r.first)
		require.True(t, ok && found == id)
		for pos := range n {
			require.False(t, seen[x.hash(r, pos)], "a block is in two places")
			seen[x.hash(r, pos)] = true
		}
		var list spanList
		x.load(r, &list)
		start := 0
		for i, s := range list.s[:list.n] {
			require.Greater(t, s.end(), start)
			require.False(t, i > 0 && s.set() == list.s[i-1].set())
			if s.set() != 0 {
				uses[s.set()]++
			}
			pods := map[uint32]bool{}
			x.sets.each(s.set(), func(plane int, pod uint32) {
				require.True(t, x.pods[pod].open)
				if plane == int(Guessed) {
					guesses[pod] += s.end() - start
				} else if !pods[pod] {
					pods[pod] = true
					blocks[pod] += s.end() - start
				}
			})
			start = s.end()
		}
		require.Equal(t, n, start)
		require.NotZero(t, list.s[list.n-1].set(), "nobody holds the end")
		if x.names.first != nil {
			for s := range (n + segmentBlocks - 1) / segmentBlocks {
				for c := x.names.first[r.segments[s]]; c != none; c = x.names.columns[c].next {
					columns++
					require.Equal(t, id, x.names.columns[c].run)
					require.Equal(t, uint32(s), x.names.columns[c].index)
				}
			}
		}
	}
	for set, n := range uses {
		require.Equal(t, n, x.sets.record(set)[setRefs])
	}
	require.Equal(t, len(uses), x.sets.live)
	require.Equal(t, runs, x.freeRuns.taken())
	require.Equal(t, segments, x.freeSegments.taken())
	require.Equal(t, columns, x.names.free.taken())
	require.Equal(t, distinct, x.distinct)
	require.Equal(t, waiting, x.waitingBlocks)
	for i := range x.pods {
		s := &x.pods[i]
		require.Equal(t, blocks[uint32(i)], s.blocks)
		require.Equal(t, guesses[uint32(i)], s.guesses)
	}
	require.LessOrEqual(t, x.bytes(), x.maxBytes)
	require.False(t, slices.Contains([]bool{len(x.pending) > 0}, true))
}
