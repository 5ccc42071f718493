package evict

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKinds(t *testing.T) {
	for _, k := range Kinds() {
		got, err := ParseKind(k.String())
		require.NoError(t, err)
		require.Equal(t, k, got)
		_, err = New(k, 0)
		require.ErrorContains(t, err, "capacity is 0 bytes")
	}
	_, err := ParseKind("mru")
	require.ErrorContains(t, err, `policy is "mru"`)
	_, err = New(99, 1)
	require.ErrorContains(t, err, "Kind(99)")
}

// naive is what the definitions of LRU and SIEVE say, word by word.
type naive struct {
	sieve   bool
	order   []ID // newest first
	visited map[ID]bool
	hand    int // index into order, -1 at the start
}

func (p *naive) use(id ID) {
	if p.sieve {
		p.visited[id] = true
		return
	}
	p.remove(id)
	p.add(id)
}

func (p *naive) add(id ID) {
	p.order = slices.Insert(p.order, 0, id)
	if p.hand >= 0 {
		p.hand++
	}
}

func (p *naive) remove(id ID) {
	i := slices.Index(p.order, id)
	p.order = slices.Delete(p.order, i, i+1)
	delete(p.visited, id)
	if p.hand >= i {
		p.hand--
	}
}

func (p *naive) evict(skip func(ID) bool) (ID, bool) {
	if !p.sieve {
		for _, id := range slices.Backward(p.order) {
			if !skip(id) {
				p.remove(id)
				return id, true
			}
		}
		return 0, false
	}
	for range 2*len(p.order) + 1 {
		if p.hand < 0 {
			p.hand = len(p.order) - 1
		}
		if p.hand < 0 {
			break
		}
		id := p.order[p.hand]
		if !p.visited[id] && !skip(id) {
			p.remove(id)
			return id, true
		}
		p.visited[id] = false
		p.hand--
	}
	return 0, false
}

func TestAgainstDefinition(t *testing.T) {
	for _, k := range []Kind{LRU, SIEVE} {
		t.Run(k.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				p, err := New(k, 10)
				require.NoError(t, err)
				model := &naive{sieve: k == SIEVE, visited: map[ID]bool{}, hand: -1}
				for range rapid.IntRange(1, 60).Draw(t, "operations") {
					id := ID(rapid.IntRange(1, 12).Draw(t, "id"))
					there := slices.Contains(model.order, id)
					switch rapid.IntRange(0, 3).Draw(t, "operation") {
					case 0:
						p.Hit(id)
						if there {
							model.use(id)
						}
					case 1:
						p.Add(id, Meta{Bytes: 1})
						if there {
							model.use(id)
						} else {
							model.add(id)
						}
					case 2:
						p.Remove(id)
						if there {
							model.remove(id)
						}
					case 3:
						skip := func(x ID) bool { return x == id }
						got, ok := p.Evict(skip)
						want, wantOK := model.evict(skip)
						require.Equal(t, wantOK, ok)
						require.Equal(t, want, got)
					}
					require.Equal(t, len(model.order), p.Len())
				}
			})
		})
	}
}

// What must hold of any policy: it evicts only what is resident and may go, everything that may go sooner or later, and
// PrefixCost no parent before its children.
func TestInvariants(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				p, err := New(k, 20)
				require.NoError(t, err)
				resident := map[ID]Meta{}
				// Blocks 0 to 39 form a tree in which the parent of i is i/2.
				draw := func() (ID, Meta) {
					i := rapid.IntRange(0, 39).Draw(t, "block")
					m := Meta{Bytes: int64(1 + i%3), Cost: float64(i % 5)}
					for j := i; j > 0; j /= 2 {
						m.Depth++
					}
					if i > 0 {
						m.Parent, m.HasParent = ID(i/2), true
					}
					return ID(i), m
				}
				evict := func(skip func(ID) bool) bool {
					id, ok := p.Evict(skip)
					if !ok {
						return false
					}
					_, there := resident[id]
					require.True(t, there, "evicted %d, which is not resident", id)
					require.False(t, skip != nil && skip(id), "evicted %d, which is to stay", id)
					delete(resident, id)
					for child, m := range resident {
						require.False(t, k == PrefixCost && m.HasParent && m.Parent == id, "evicted %d before its child %d", id, child)
					}
					return true
				}
				for range rapid.IntRange(1, 150).Draw(t, "operations") {
					id, m := draw()
					switch rapid.IntRange(0, 6).Draw(t, "operation") {
					case 0, 1, 2:
						p.Add(id, m)
						resident[id] = m
					case 3, 4:
						p.Hit(id)
					case 5:
						p.Remove(id)
						delete(resident, id)
					default:
						keep := func(x ID) bool { return x%5 == 0 }
						may := slices.ContainsFunc(keys(resident), func(x ID) bool { return !keep(x) })
						if ok := evict(keep); k != PrefixCost {
							require.Equal(t, may, ok)
						}
					}
					require.Equal(t, len(resident), p.Len())
				}
				for len(resident) > 0 {
					require.True(t, evict(nil), "nothing of %d pages is evicted", len(resident))
				}
				require.False(t, evict(nil))
			})
		})
	}
}

func keys(m map[ID]Meta) []ID {
	var out []ID
	for id := range m {
		out = append(out, id)
	}
	return out
}

// A page's history must not grow beyond its bound.
func TestHistoryIsBounded(t *testing.T) {
	for _, k := range Kinds() {
		p, err := New(k, 100)
		require.NoError(t, err)
		for i := range 100_000 {
			if p.Len() >= 100 {
				_, ok := p.Evict(nil)
				require.True(t, ok)
			}
			p.Add(ID(i)*0x9e3779b97f4a7c15, Meta{Bytes: 1})
		}
		nodes := 0
		switch p := p.(type) {
		case *lru:
			nodes = len(p.nodes)
		case *sieve:
			nodes = len(p.nodes)
		case *s3fifo:
			nodes = len(p.nodes)
		case *tinyLFU:
			nodes = len(p.nodes)
		case *arc:
			nodes = len(p.nodes)
		case *prefixCost:
			nodes = len(p.pages)
		}
		require.LessOrEqual(t, nodes, (memory+1)*100+2, "%v", k)
	}
}

// Parents that claim to be each other's children, and a page that is its own parent, are evicted all the same.
func TestWrongParents(t *testing.T) {
	p := newPrefixCost()
	p.Add(1, Meta{Bytes: 1, Parent: 2, HasParent: true, Depth: 5})
	p.Add(2, Meta{Bytes: 1, Parent: 1, HasParent: true, Depth: 5})
	p.Add(3, Meta{Bytes: 1, Parent: 3, HasParent: true, Depth: 1})
	for range 3 {
		_, ok := p.Evict(nil)
		require.True(t, ok)
	}
	require.Zero(t, p.Len())
	require.Empty(t, p.children)
}

// In each round 20 pages are used again, and 30 are that never come back: more than the 40 that fit, so that LRU has lost each
// page before it is used again.
func TestFrequentPagesSurviveAScan(t *testing.T) {
	const rounds = 200
	for _, row := range []struct {
		kind  Kind
		least int // hits of the last half of the rounds
		most  int
	}{
		{LRU, 0, 0},
		{S3FIFO, rounds / 2 * 15, rounds / 2 * 20},
		{WTinyLFU, rounds / 2 * 15, rounds / 2 * 20},
		{PrefixCost, rounds / 2 * 15, rounds / 2 * 20},
	} {
		t.Run(row.kind.String(), func(t *testing.T) {
			p, err := New(row.kind, 40)
			require.NoError(t, err)
			resident := map[ID]bool{}
			use := func(id ID) bool {
				hit := resident[id]
				if !hit && len(resident) >= 40 {
					victim, ok := p.Evict(nil)
					require.True(t, ok)
					delete(resident, victim)
				}
				p.Add(id, Meta{Bytes: 1, Cost: 1})
				resident[id] = true
				return hit
			}
			once, hits := ID(1000), 0
			for round := range rounds {
				for id := range ID(20) {
					if use(id) && round >= rounds/2 {
						hits++
					}
				}
				for range 30 {
					once++
					use(once)
				}
			}
			require.GreaterOrEqual(t, hits, row.least)
			require.LessOrEqual(t, hits, row.most)
		})
	}
}

func TestARCKeepsWhatWasUsedTwice(t *testing.T) {
	p := newARC()
	for id := range ID(20) {
		p.Add(id, Meta{Bytes: 1})
		p.Hit(id)
	}
	for id := ID(100); id < 200; id++ {
		if p.Len() >= 40 {
			victim, ok := p.Evict(nil)
			require.True(t, ok)
			require.GreaterOrEqual(t, victim, ID(100))
		}
		p.Add(id, Meta{Bytes: 1})
	}
	// What comes back soon after it was lost enlarges the share of pages used once.
	require.Zero(t, p.target)
	p.Add(170, Meta{Bytes: 1})
	require.Equal(t, int64(1), p.target)
	require.Equal(t, uint8(inFrequent), p.nodes[p.index[170]].list)
}

func TestExpensivePagesStay(t *testing.T) {
	p := newPrefixCost()
	for id := range ID(40) {
		p.Add(id, Meta{Bytes: 1, Cost: 1 + float64(id%2)*10})
	}
	for range 20 {
		id, ok := p.Evict(nil)
		require.True(t, ok)
		require.Zero(t, id%2, "a page that costs ten times as much has gone first")
	}
}

func TestAges(t *testing.T) {
	for uses := uint64(0); uses < 1<<20; uses++ {
		a := ageOf(uses)
		if from(a) > float64(uses) || from(a+1) <= float64(uses) {
			t.Fatalf("%d uses are of age %d, from %v to %v", uses, a, from(a), from(a+1))
		}
	}
	require.Equal(t, ages-1, ageOf(1<<63))
}

// Pages of one kind come back after about 100 uses or never, those of another at any time with a small chance.
func TestRatesFollowReuse(t *testing.T) {
	var l lifetimes
	hump, flat := kindOf(1, 1), kindOf(0, 10)
	for range 1000 {
		l.used(hump, 100)
		l.ended(hump, 5000)
		l.ended(flat, 5000)
	}
	for i := range 30 {
		l.used(flat, uint64(1)<<(i%12))
	}
	l.learn()
	require.Greater(t, l.rate(hump, 10), 10*l.rate(hump, 1000), "before the time of reuse a page is worth more than after")
	require.Greater(t, l.rate(hump, 80), l.rate(hump, 10), "and the more the nearer it comes")
	require.Greater(t, l.rate(hump, 10), l.rate(flat, 10))
}

func BenchmarkPolicy(b *testing.B) {
	for _, k := range Kinds() {
		b.Run("policy="+k.String(), func(b *testing.B) {
			p, err := New(k, 100_000)
			require.NoError(b, err)
			next := ID(0)
			step := func() {
				next++
				if p.Len() >= 100_000 {
					p.Evict(nil)
				}
				p.Add(next*0x9e3779b97f4a7c15, Meta{Bytes: 1, Cost: 1})
				p.Hit((next - next%50_000) * 0x9e3779b97f4a7c15)
			}
			for range 200_000 {
				step()
			}
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
