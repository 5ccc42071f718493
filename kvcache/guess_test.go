package kvcache

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

func TestGuessesEqualOracle(t *testing.T) {
	const slots = 70
	rapid.Check(t, func(t *rapid.T) {
		x, err := New(Options{MaxBytes: 8 << 20, MaxPods: slots, GuessesOnly: true})
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
				require.NoError(t, x.Open(Pod{slot, g}, PodOptions{Capacity: capacity}))
				want.open(slot, g, capacity)
			},
			"close": func(t *rapid.T) {
				slot := draw()
				if e := want[slot]; e != nil {
					x.Close(Pod{slot, e.generation})
					delete(want, slot)
				}
			},
			"insert": func(t *rapid.T) {
				slot, chain := draw(), forest(t, "insert")
				if e := want[slot]; e != nil {
					x.Speculate(Pod{slot, e.generation}, chain)
					want.insert(slot, e.generation, chain)
				}
			},
			"insert for a past generation": func(t *rapid.T) {
				x.Speculate(Pod{draw(), generation + 1}, forest(t, "late"))
			},
			"": func(t *rapid.T) {
				chain := forest(t, "match")
				depths := make([]int32, slots)
				x.Cached(chain, 1, all(slots), depths)
				blocks := 0
				for slot := range depths {
					require.Equal(t, want.match(uint32(slot), chain), depths[slot], "slot %d", slot)
					if e := want[uint32(slot)]; e != nil {
						blocks += len(e.blocks)
					}
				}
				require.Equal(t, blocks, x.Stats().Guesses)
				x.check(t)
			},
		})
	})
}

// A small index forgets, but stays consistent and claims no more than one that never forgets.
func TestIndexStaysInBudget(t *testing.T) {
	const slots = 4
	rng := rand.New(rand.NewPCG(1, 2))
	small, err := New(Options{MaxBytes: 100_000, MaxPods: slots, GuessesOnly: true})
	require.NoError(t, err)
	large, err := New(Options{MaxBytes: 32 << 20, MaxPods: slots, GuessesOnly: true})
	require.NoError(t, err)
	for slot := range uint32(slots) {
		require.NoError(t, small.Open(Pod{slot, 1}, PodOptions{Capacity: 1_000_000}))
		require.NoError(t, large.Open(Pod{slot, 1}, PodOptions{Capacity: 1_000_000}))
	}
	for range 2000 {
		chain := conversation(rng.Uint64N(40), 10+rng.IntN(900))
		slot := rng.Uint32N(slots)
		small.Speculate(Pod{slot, 1}, chain)
		large.Speculate(Pod{slot, 1}, chain)
		chain = conversation(rng.Uint64N(40), 10+rng.IntN(900))
		few, many := make([]int32, slots), make([]int32, slots)
		small.Cached(chain, 1, all(slots), few)
		large.Cached(chain, 1, all(slots), many)
		for slot := range few {
			require.LessOrEqual(t, few[slot], many[slot])
		}
	}
	small.check(t)
	require.Positive(t, small.Stats().Guesses)
	require.LessOrEqual(t, small.bytes(), 100_000)
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
	x, err := New(Options{MaxBytes: 1 << 20, MaxPods: slots, GuessesOnly: true})
	require.NoError(t, err)
	for slot := range uint32(slots) {
		require.NoError(t, x.Open(Pod{slot, 1}, PodOptions{Capacity: 3000}))
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint64(2) {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(w, 0))
			for range 20_000 {
				slot := uint32(rng.Uint64N(slots/2)*2 + w)
				// Endpoint s only ever gets conversations that are s modulo slots.
				x.Speculate(Pod{slot, 1}, conversation(rng.Uint64N(20)*slots+uint64(slot), 1+rng.IntN(600)))
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
				x.Cached(chain, 1, all(slots), depths)
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
	_, err = New(Options{MaxPods: -1, GuessFor: -1})
	require.ErrorContains(t, err, "max pods -1")
	require.ErrorContains(t, err, "guess for -1ns")
}

// 4,096 conversations are resident; each is held by two endpoints.
func BenchmarkApproximateMatch(b *testing.B) {
	for _, size := range []struct{ blocks, endpoints int }{{512, 64}, {64, 64}, {4096, 64}, {512, 1000}} {
		b.Run(fmt.Sprintf("blocks=%d/endpoints=%d", size.blocks, size.endpoints), func(b *testing.B) {
			const conversations = 4096
			x, err := New(Options{MaxBytes: 1 << 30, GuessesOnly: true})
			require.NoError(b, err)
			for slot := range uint32(size.endpoints) {
				require.NoError(b, x.Open(Pod{slot, 1}, PodOptions{Capacity: 1 << 30}))
			}
			chains := make([][]uint64, conversations)
			for i := range chains {
				chains[i] = conversation(uint64(i), size.blocks)
				for k := range 2 {
					x.Speculate(Pod{uint32((i*7 + k*13) % size.endpoints), 1}, chains[i])
				}
			}
			among, depths := all(size.endpoints), make([]int32, size.endpoints)
			rng := rand.New(rand.NewPCG(1, 1))
			order := rng.Perm(conversations)
			b.ReportAllocs()
			t, i := newMeter(b), 0
			for b.Loop() {
				x.Cached(chains[order[i%conversations]], 16, among, depths)
				i++
			}
			t.perOperation()
		})
	}
}
