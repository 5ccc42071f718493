package prefix

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// oracle is the index as one would write it without caring for speed: for each endpoint a list of blocks, least recently
// used first.
type oracle map[uint32]*oracleEndpoint

type oracleEndpoint struct {
	generation uint32
	capacity   int
	blocks     []uint64
}

func (o oracle) open(slot, generation uint32, capacity int) {
	if e := o[slot]; e == nil || e.generation != generation {
		o[slot] = &oracleEndpoint{generation: generation}
	}
	o[slot].capacity = capacity
	o[slot].fit()
}

func (e *oracleEndpoint) fit() {
	if over := len(e.blocks) - e.capacity; over > 0 {
		e.blocks = e.blocks[over:]
	}
}

func (o oracle) insert(slot, generation uint32, chain []uint64) {
	e := o[slot]
	if e == nil || e.generation != generation {
		return
	}
	chain = chain[:min(len(chain), e.capacity)]
	e.blocks = slices.DeleteFunc(e.blocks, func(h uint64) bool { return slices.Contains(chain, h) })
	for _, h := range slices.Backward(chain) {
		e.blocks = append(e.blocks, h)
	}
	e.fit()
}

func (o oracle) match(slot uint32, chain []uint64) int32 {
	e := o[slot]
	if e == nil {
		return 0
	}
	n := slices.IndexFunc(chain, func(h uint64) bool { return !slices.Contains(e.blocks, h) })
	if n < 0 {
		n = len(chain)
	}
	return int32(n)
}

// forest draws chains that share prefixes: chain hashes are a function of the path, as real ones are.
func forest(t *rapid.T, label string) []uint64 {
	n := rapid.IntRange(1, 6).Draw(t, label+" pieces")
	var chain []uint64
	h := uint64(17)
	for range n {
		branch := rapid.Uint64Range(0, 2).Draw(t, label+" branch")
		blocks := rapid.SampledFrom([]int{1, 2, 5, 31, 32, 33, 200}).Draw(t, label+" blocks")
		for range blocks {
			h = h*0x9e3779b97f4a7c15 + branch + 1
			h ^= h >> 29
			chain = append(chain, h)
		}
	}
	return chain
}

func all(slots int) []uint64 {
	among := make([]uint64, (slots+63)/64)
	for i := range among {
		among[i] = ^uint64(0)
	}
	return among
}

func TestIndexEqualsOracle(t *testing.T) {
	const slots = 70
	rapid.Check(t, func(t *rapid.T) {
		x, err := New(Options{MaxBytes: 8 << 20, MaxEndpoints: slots})
		require.NoError(t, err)
		want := oracle{}
		generation := uint32(0)
		draw := func() uint32 { return rapid.SampledFrom([]uint32{0, 1, 2, 63, 64, 69}).Draw(t, "slot") }
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				generation++
				slot, capacity := draw(), rapid.SampledFrom([]int{0, 1, 40, 300, 5000}).Draw(t, "capacity")
				g := generation
				if e := want[slot]; e != nil && rapid.Bool().Draw(t, "same generation") {
					g = e.generation
				}
				x.Open(slot, g, capacity)
				want.open(slot, g, capacity)
			},
			"close": func(t *rapid.T) {
				slot := draw()
				if e := want[slot]; e != nil {
					x.Close(slot, e.generation)
					delete(want, slot)
				}
			},
			"insert": func(t *rapid.T) {
				slot, chain := draw(), forest(t, "insert")
				if e := want[slot]; e != nil {
					x.Insert(slot, e.generation, chain)
					want.insert(slot, e.generation, chain)
				}
			},
			"insert for a past generation": func(t *rapid.T) {
				x.Insert(draw(), generation+1, forest(t, "late"))
			},
			"": func(t *rapid.T) {
				chain := forest(t, "match")
				depths := make([]int32, slots)
				x.Match(chain, 1, all(slots), depths)
				blocks := 0
				for slot := range depths {
					require.Equal(t, want.match(uint32(slot), chain), depths[slot], "slot %d", slot)
					if e := want[uint32(slot)]; e != nil {
						blocks += len(e.blocks)
					}
				}
				require.Equal(t, blocks, x.Stats().Blocks)
				x.check(t)
			},
		})
	})
}

// check verifies what must hold between the index's parts.
func (x *Index) check(t require.TestingT) {
	leases, segments := 0, 0
	held := map[uint32]int32{}
	for slot := range x.held {
		h := &x.held[slot]
		if !h.open {
			continue
		}
		blocks := 0
		for l := h.oldest; l != none; l = x.lease(l).newer {
			leases++
			blocks += int(x.runs[x.lease(l).run].length.Load())
			held[x.lease(l).run]++
			require.Equal(t, uint32(slot), x.lease(l).slot)
			if parent := x.lease(l).parent; parent != none {
				require.Equal(t, uint32(slot), x.lease(parent).slot, "parent is another endpoint's")
			}
		}
		require.Equal(t, h.blocks, blocks)
		require.LessOrEqual(t, h.blocks, h.capacity)
	}
	for id, holders := range held {
		require.Equal(t, x.runs[id].holders, holders)
		segments += (int(x.runs[id].length.Load()) + segmentBlocks - 1) / segmentBlocks
	}
	stats := x.Stats()
	require.Equal(t, len(held), stats.Runs)
	more := 0
	for id := range held {
		if x.runs[id].own.run != none {
			more++
		}
	}
	require.Equal(t, leases-more, int(x.freeLeases.next)-len(x.freeLeases.back))
	require.Equal(t, segments, int(x.freeSegments.next)-len(x.freeSegments.back))
}

// A small index forgets, but stays consistent and claims no more than one that never forgets.
func TestIndexStaysInBudget(t *testing.T) {
	const slots = 4
	rng := rand.New(rand.NewPCG(1, 2))
	small, err := New(Options{MaxBytes: 100_000, MaxEndpoints: slots})
	require.NoError(t, err)
	large, err := New(Options{MaxBytes: 32 << 20, MaxEndpoints: slots})
	require.NoError(t, err)
	for slot := range uint32(slots) {
		small.Open(slot, 1, 1_000_000)
		large.Open(slot, 1, 1_000_000)
	}
	for range 2000 {
		chain := conversation(rng.Uint64N(40), 10+rng.IntN(900))
		slot := rng.Uint32N(slots)
		small.Insert(slot, 1, chain)
		large.Insert(slot, 1, chain)
		chain = conversation(rng.Uint64N(40), 10+rng.IntN(900))
		few, many := make([]int32, slots), make([]int32, slots)
		small.Match(chain, 1, all(slots), few)
		large.Match(chain, 1, all(slots), many)
		for slot := range few {
			require.LessOrEqual(t, few[slot], many[slot])
		}
	}
	small.check(t)
	require.Positive(t, small.Stats().Blocks)
	bytes := 8*len(small.hashes) + runBytes*len(small.runs) + 8*len(small.holders.Load().bits) + leaseBytes*len(small.more) +
		8*len(*small.byFirst.current.Load()) + 8*len(*small.byHolder.current.Load())
	require.LessOrEqual(t, bytes, 100_000)
}

// conversation is a chain of which the first 32 blocks are the same in all.
func conversation(id uint64, blocks int) []uint64 {
	chain := make([]uint64, blocks)
	h := uint64(99)
	for i := range chain {
		if i == 32 {
			h ^= id << 32
		}
		h = h*0x9e3779b97f4a7c15 + 7
		h ^= h >> 31
		chain[i] = h
	}
	return chain
}

// Under concurrent writers a match stays contiguous and never credits an endpoint with a conversation that it never had.
func TestMatchDuringUpdates(t *testing.T) {
	const slots, shared = 8, 32
	x, err := New(Options{MaxBytes: 1 << 20, MaxEndpoints: slots})
	require.NoError(t, err)
	for slot := range uint32(slots) {
		x.Open(slot, 1, 3000)
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint64(2) {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(w, 0))
			for range 20_000 {
				slot := uint32(rng.Uint64N(slots/2)*2 + w)
				// Endpoint s only ever gets conversations that are s modulo slots.
				x.Insert(slot, 1, conversation(rng.Uint64N(20)*slots+uint64(slot), 1+rng.IntN(600)))
			}
		})
	}
	for r := range uint64(2) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(r, 1))
			depths := make([]int32, slots)
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := rng.Uint64N(20 * slots)
				chain := conversation(id, 1+rng.IntN(600))
				clear(depths)
				x.Match(chain, 1, all(slots), depths)
				for slot, depth := range depths {
					if uint64(slot) != id%slots && depth > shared {
						t.Errorf("slot %d is credited with %d blocks of conversation %d", slot, depth, id)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	x.check(t)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{MaxBytes: 1000})
	require.ErrorContains(t, err, "max bytes 1000: at least")
	_, err = New(Options{MaxEndpoints: -1})
	require.ErrorContains(t, err, "max endpoints -1")
}

// 4,096 conversations are resident; each is held by two endpoints.
func BenchmarkApproximateMatch(b *testing.B) {
	for _, size := range []struct{ blocks, endpoints int }{{512, 64}, {64, 64}, {4096, 64}, {512, 1000}} {
		b.Run(fmt.Sprintf("blocks=%d/endpoints=%d", size.blocks, size.endpoints), func(b *testing.B) {
			const conversations = 4096
			x, err := New(Options{MaxBytes: 1 << 30})
			require.NoError(b, err)
			for slot := range uint32(size.endpoints) {
				x.Open(slot, 1, 1<<30)
			}
			chains := make([][]uint64, conversations)
			for i := range chains {
				chains[i] = conversation(uint64(i), size.blocks)
				for k := range 2 {
					x.Insert(uint32((i*7+k*13)%size.endpoints), 1, chains[i])
				}
			}
			among, depths := all(size.endpoints), make([]int32, size.endpoints)
			rng := rand.New(rand.NewPCG(1, 1))
			order := rng.Perm(conversations)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				x.Match(chains[order[i%conversations]], 16, among, depths)
				i++
			}
		})
	}
}
