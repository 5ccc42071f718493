package kvcache

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/events"
)

// branch makes the tokens of one of several prompts whose first blocks are the same in all.
func branch(id uint32, blocks int) []uint32 {
	tokens := make([]uint32, blocks*testBlock)
	for i := 20 * testBlock; i < len(tokens); i++ {
		tokens[i] = id + 1
	}
	return tokens
}

// Under concurrent writers, snapshots and pods that come and go, a match never credits a pod with a prompt that it never had nor
// with blocks that it never had, and what it says of tiers adds up.
func TestMatchDuringEvents(t *testing.T) {
	const pods, prompts, longest = 8, 16, 300
	x, err := New(Options{MaxBytes: 2 << 20, MaxPods: pods})
	require.NoError(t, err)
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint32(2) {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			pod := Pod{}
			for n := range 6000 {
				// Pod p has prompts whose number is p modulo pods, in blocks from the first that has room to one below 200.
				pod.ID = rng.Uint32N(pods/2)*2 + w
				pod.Generation = uint32(n/500) + 1
				if err := x.Open(pod, PodOptions{Model: "m", Capacity: 200}); err != nil {
					t.Error(err)
				}
				tokens := branch(pod.ID+pods*rng.Uint32N(prompts/pods), 200)
				from := rng.IntN(199)
				e := stored(77, tokens, from, from+1+rng.IntN(200-from-1+1))
				switch rng.IntN(10) {
				case 0, 1, 2, 3:
					e = events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: e.Hashes}
				case 4:
					e.Tier = events.CPU
				case 5:
					x.Speculate(pod, space.Append(nil, tokens, nil))
					continue
				case 6:
					if rng.IntN(20) == 0 {
						x.Close(pod)
						x.snapshot()
					}
				}
				x.Apply(pod, &e)
			}
		})
	}
	for r := range uint64(2) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(r, 1))
			var m Matches
			cached := make([]int32, pods)
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := rng.Uint32N(prompts)
				chain := space.Append(nil, branch(id, 1+rng.IntN(longest)), nil)
				x.Match(chain, testBlock, all(pods), &m)
				clear(cached)
				x.Cached(chain, testBlock, all(pods), cached)
				for pod := range uint32(pods) {
					most := int32(200)
					if id%pods != pod {
						most = 20
					}
					sum := int32(0)
					for tier := range m.Tiers {
						sum += m.Tiers[tier][pod]
					}
					if m.Blocks[pod] > most || cached[pod] > most*testBlock || sum != m.Blocks[pod] || m.Depths[GPU][pod] > m.Blocks[pod] {
						t.Errorf("pod %d: %d blocks, %d tokens of prompt %d, %d in tiers", pod, m.Blocks[pod], cached[pod], id, sum)
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

// Events of an index that is too small for them: it forgets, stays within its bytes and claims no more than the oracle.
func TestEventsStayInBudget(t *testing.T) {
	const budget = 400_000
	rng := rand.New(rand.NewPCG(3, 4))
	w := newWorld(t, Options{MaxBytes: budget, MaxPods: 70}, 0, 1, 2, 63, 64, 69)
	var got, want Matches
	for n := range 600 {
		id := w.ids[rng.IntN(len(w.ids))]
		p := w.n.pods[id].Pod
		tokens := branch(rng.Uint32N(30), 100+rng.IntN(300))
		blocks := len(tokens) / testBlock
		from := rng.IntN(blocks)
		e := stored(w.seed(p), tokens, from, from+1+rng.IntN(blocks-from))
		switch rng.IntN(6) {
		case 0:
			e = events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: e.Hashes}
		case 1:
			e.Tokens, e.BlockTokens, e.HasParent = nil, 0, false
		case 2:
			w.x.Speculate(p, space.Append(nil, branch(1000+rng.Uint32N(30), 200), nil))
		}
		w.apply(t, p, e)
		if n%20 == 0 {
			w.x.check(t)
			chain := space.Append(nil, tokens, nil)
			w.x.Match(chain, testBlock, all(70), &got)
			w.n.match(chain, testBlock, all(70), &want)
			for _, id := range w.ids {
				require.LessOrEqual(t, got.Depths[GPU][id], want.Depths[GPU][id])
			}
		}
		require.LessOrEqual(t, w.x.bytes(), budget)
	}
	require.NotZero(t, w.x.Stats().Forgotten)
	for _, id := range w.ids {
		w.x.Close(w.n.pods[id].Pod)
	}
	require.Zero(t, w.x.Stats().Distinct)
	w.x.check(t)
}

func TestGuessesAreSettled(t *testing.T) {
	now := time.Unix(0, 0)
	x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70, GuessFor: time.Second, Now: func() time.Time { return now }})
	require.NoError(t, err)
	p := Pod{ID: 3, Generation: 1}
	require.NoError(t, x.Open(p, PodOptions{Model: "m", Capacity: 1000}))
	tokens := branch(1, 64)
	chain := space.Append(nil, tokens, nil)
	var m Matches
	expect := func(blocks, gpu, guessed int32) {
		t.Helper()
		x.Match(chain, testBlock, all(64), &m)
		require.Equal(t, []int32{blocks, gpu, guessed}, []int32{m.Blocks[3], m.Tiers[GPU][3], m.Tiers[Guessed][3]})
		x.check(t)
	}
	x.Speculate(p, chain)
	expect(64, 0, 64)
	e := stored(77, tokens, 0, 40)
	x.Apply(p, &e)
	expect(64, 40, 24)
	// What an event has confirmed is no guess any more: its removal counts at once.
	e = events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: engine(77, tokens)[38:40]}
	x.Apply(p, &e)
	expect(38, 38, 0)
	// A guess that is renewed is believed for longer.
	now = now.Add(900 * time.Millisecond)
	x.Speculate(p, chain)
	expect(64, 38, 26)
	now = now.Add(900 * time.Millisecond)
	x.Expire()
	expect(64, 38, 26)
	now = now.Add(200 * time.Millisecond)
	x.Expire()
	expect(38, 38, 0)
	require.Zero(t, x.Stats().Guesses)
}

func TestStores(t *testing.T) {
	x, err := New(Options{MaxBytes: 4 << 20, MaxPods: 70})
	require.NoError(t, err)
	pods := []Pod{{ID: 1, Generation: 1}, {ID: 2, Generation: 1}, {ID: 65, Generation: 1}}
	for _, p := range pods {
		require.NoError(t, x.Open(p, PodOptions{Model: "m"}))
	}
	tokens := branch(1, 64)
	chain := space.Append(nil, tokens, nil)
	apply := func(p Pod, tier events.Tier, from, to int) {
		e := stored(77, tokens, from, to)
		e.Tier = tier
		x.Apply(p, &e)
	}
	apply(pods[0], events.GPU, 0, 10)
	apply(pods[2], events.Disk, 0, 40)
	require.NoError(t, x.Share(pods[2], []uint64{1<<1 | 1<<2}))
	require.ErrorIs(t, x.Share(Pod{ID: 65, Generation: 2}, nil), ErrClosed)
	var m Matches
	x.Match(chain, testBlock, all(64), &m)
	require.Equal(t, []int32{40, 10, 30}, []int32{m.Blocks[1], m.Tiers[GPU][1], m.Tiers[Remote][1]})
	require.Equal(t, []int32{40, 0, 40}, []int32{m.Blocks[2], m.Tiers[GPU][2], m.Tiers[Remote][2]})
	cached := make([]int32, 3)
	x.Cached(chain, testBlock, all(64), cached)
	require.Equal(t, []int32{0, 80, 80}, cached)
	x.Close(pods[2])
	x.Match(chain, testBlock, all(64), &m)
	require.Equal(t, []int32{10, 0}, []int32{m.Blocks[1], m.Blocks[2]})
}
