package kvcache

import (
	"bytes"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/events"
)

// A world goes on after each snapshot with the index that was restored from it.
func TestRestoredIndexEqualsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, Options{MaxBytes: 4 << 20, MaxPods: 70}, 0, 1, 2, 63, 64, 69)
		actions := w.actions(true, true)
		actions["snapshot and restore"] = func(t *rapid.T) {
			var b bytes.Buffer
			require.NoError(t, w.x.Snapshot(&b))
			x, err := New(w.options)
			require.NoError(t, err)
			for _, p := range w.pods() {
				require.NoError(t, x.Open(p, w.n.pods[p.ID].options))
			}
			require.NoError(t, x.Restore(bytes.NewReader(b.Bytes()), func(name string) (Pod, bool) {
				for _, e := range w.n.pods {
					if e.options.Name == name {
						return e.Pod, true
					}
				}
				return Pod{}, false
			}))
			before, after := w.x.Stats(), x.Stats()
			require.Equal(t, before.Blocks, after.Blocks)
			require.Equal(t, before.Waiting, after.Waiting)
			for _, p := range w.pods() {
				require.Equal(t, w.x.Groups(p), x.Groups(p))
			}
			w.x = x
		}
		t.Repeat(actions)
	})
}

func TestRestoreIntoOtherPods(t *testing.T) {
	w := newWorld(t, Options{MaxBytes: 4 << 20, MaxPods: 70}, 0, 1, 64)
	tokens := make([]uint32, 80*testBlock)
	for id, to := range map[uint32]int{0: 10, 1: 80, 64: 33} {
		p := w.n.pods[id].Pod
		w.apply(t, p, stored(w.seed(p), tokens, 0, to))
	}
	var b bytes.Buffer
	require.NoError(t, w.x.Snapshot(&b))

	x, err := New(w.options)
	require.NoError(t, err)
	first, second := Pod{ID: 5, Generation: 9}, Pod{ID: 1, Generation: 3}
	require.NoError(t, x.Open(first, PodOptions{Model: "m"}))
	require.NoError(t, x.Open(second, PodOptions{Model: "m"}))
	require.NoError(t, x.Restore(&b, func(name string) (Pod, bool) {
		switch name {
		case string(rune('a' + 0)):
			return first, true
		case string(rune('a' + 64)):
			return second, true
		}
		return Pod{}, false
	}))
	x.check(t)
	var m Matches
	x.Match(space.Append(nil, tokens, nil), testBlock, all(64), &m)
	require.EqualValues(t, 10, m.Blocks[5])
	require.EqualValues(t, 33, m.Blocks[1])
	sequence, ok := x.Cursor(first)
	require.True(t, ok)
	require.EqualValues(t, 1, sequence)
	require.Equal(t, Duplicate, x.ApplyBatch(first, 1, &events.Batch{}))

	// The pod goes on with its engine's own names.
	p := w.n.pods[64].Pod
	e := stored(w.seed(p), tokens, 33, 50)
	require.Equal(t, Applied, x.ApplyBatch(second, 2, &events.Batch{Events: []events.Event{e}}))
	x.Match(space.Append(nil, tokens, nil), testBlock, all(64), &m)
	require.EqualValues(t, 50, m.Blocks[1])
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t, Options{MaxBytes: 4 << 20, MaxPods: 70}, 0, 1)
	p := w.n.pods[0].Pod
	w.apply(t, p, stored(w.seed(p), make([]uint32, 80*testBlock), 0, 80))
	whole := w.x.snapshot()
	none := func(string) (Pod, bool) { return Pod{}, false }
	fresh := func() *Index {
		x, err := New(w.options)
		require.NoError(t, err)
		return x
	}
	require.NoError(t, fresh().restore(whole, none))
	require.ErrorContains(t, w.x.restore(whole, none), "holds blocks")
	require.ErrorIs(t, fresh().restore(whole, func(string) (Pod, bool) { return Pod{}, true }), ErrClosed)
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		require.ErrorIs(t, fresh().restore(damaged, none), ErrSnapshot, "byte %d", i)
		if i%37 == 0 {
			require.ErrorIs(t, fresh().restore(whole[:i], none), ErrSnapshot)
		}
	}
}

// sealed makes a snapshot with a right checksum.
func sealed(body []byte) []byte {
	b := append([]byte(snapshotMagic), body...)
	return append32(b, int(crc32.Checksum(b, castagnoli)))
}

func FuzzRestore(f *testing.F) {
	w := newWorld(f, Options{MaxBytes: 1 << 20, MaxPods: 70}, 0, 1)
	p := w.n.pods[0].Pod
	w.apply(f, p, stored(w.seed(p), make([]uint32, 40*testBlock), 0, 40), stored(w.seed(p), make([]uint32, 80*testBlock), 60, 80))
	whole := w.x.snapshot()
	f.Add(whole[len(snapshotMagic) : len(whole)-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := New(w.options)
		require.NoError(t, err)
		a := Pod{ID: 3, Generation: 1}
		require.NoError(t, x.Open(a, PodOptions{}))
		_ = x.restore(sealed(b), func(string) (Pod, bool) { return a, true })
		e := stored(77, make([]uint32, 80*testBlock), 0, 80)
		x.Apply(a, &e)
		x.Close(a)
		require.Zero(t, x.Stats().Runs)
		x.check(t)
	})
}
