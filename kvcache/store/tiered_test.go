package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/disk"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(n int) store.Key { return store.Key{Namespace: "n", Hash: fmt.Sprintf("block %d", n)} }

func value(n int) []byte { return storetest.Value(key(n), 0, 1000) }

func tiered(t *testing.T, o store.TieredOptions) *store.Tiered {
	t.Helper()
	s, err := store.NewTiered(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func get(t *testing.T, s store.Store, n int) {
	t.Helper()
	p, err := s.Get(t.Context(), key(n))
	require.NoError(t, err)
	require.True(t, bytes.Equal(value(n), p.Bytes()))
	p.Release()
}

func TestTieredConformance(t *testing.T) {
	t.Run("maps", func(t *testing.T) {
		storetest.Run(t, storetest.Options{New: func(t *testing.T) store.Store {
			s, err := store.NewTiered(store.TieredOptions{AbsentFor: time.Hour, Levels: []store.Level{
				{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: &storetest.Map{}}, {Name: "c", Store: &storetest.Map{}, Write: store.WriteSelective},
			}})
			require.NoError(t, err)
			return s
		}})
	})
	// Pages are evicted from memory to the disk and promoted from there all the time.
	t.Run("memory and disk", func(t *testing.T) {
		storetest.Run(t, storetest.Options{Forgets: true, MaxBytes: 900 << 10, Operations: 300, New: func(t *testing.T) store.Store {
			m, err := memory.New(memory.Options{CapacityBytes: 32 << 20, Policy: evict.PrefixCost})
			require.NoError(t, err)
			d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), CapacityBytes: 64 << 20})
			require.NoError(t, err)
			s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{
				{Name: "cpu", Store: m}, {Name: "disk", Store: d, Write: store.WriteBack, MaxQueueBytes: 8 << 20},
			}})
			require.NoError(t, err)
			return s
		}})
	})
}

func TestTieredOptions(t *testing.T) {
	_, err := store.NewTiered(store.TieredOptions{AbsentFor: -1, Keys: -1})
	for _, want := range []string{"Levels: none", "AbsentFor is -1ns", "Keys is -1"} {
		require.ErrorContains(t, err, want)
	}
	m := &storetest.Map{}
	_, err = store.NewTiered(store.TieredOptions{Levels: []store.Level{
		{Name: "a", Store: m}, {Name: "a", Store: m, Write: store.WriteBack}, {Failures: -1, Write: 9, Sightings: 16},
	}})
	for _, want := range []string{`Levels[1]: Name is "a"`, "Levels[1]: Write is WriteBack", "Levels[2]: Name is empty", "Store is nil", "Failures is -1", "Write is 9", "Sightings is 16"} {
		require.ErrorContains(t, err, want)
	}
}

// has waits for what is under way and reports which pages a level has.
func has(t *testing.T, s *store.Tiered, m *storetest.Map) []int {
	t.Helper()
	require.NoError(t, s.Flush(t.Context()))
	var out []int
	for n := range 20 {
		if _, err := m.Stat(t.Context(), key(n)); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func TestWritePolicies(t *testing.T) {
	for _, row := range []struct {
		name  string
		level store.Level
		want  []int // of pages 0 to 3, of which page n is put once and read n times
	}{
		{"through", store.Level{}, []int{0, 1, 2, 3}},
		{"selective", store.Level{Write: store.WriteSelective, SelectiveHits: 3}, []int{2, 3}}, // a put is a use
		{"sightings", store.Level{Sightings: 2, Write: store.WriteSelective}, []int{1, 2, 3}},
		{"admission", store.Level{Admit: func(k store.Key, _ store.Attr, bytes int64) bool { return k == key(1) && bytes == 1000 }}, []int{1}},
		{"queue is full", store.Level{MaxQueueBytes: 999}, nil},
		{"endurance", store.Level{EnduranceBytesPerDay: 24 * 2500}, []int{0, 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			below := &storetest.Map{}
			row.level.Name, row.level.Store = "below", below
			s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "above", Store: &storetest.Map{}}, row.level}})
			for n := range 4 {
				require.NoError(t, s.Put(t.Context(), key(n), value(n), store.Attr{}))
				for range n {
					get(t, s, n)
				}
			}
			require.Equal(t, row.want, has(t, s, below))
			st := s.Stats()[1]
			require.Equal(t, int64(len(row.want)), st.Puts)
			require.Zero(t, st.QueuedBytes)
		})
	}
}

func TestEvictedPagesAreDemoted(t *testing.T) {
	m, err := memory.New(memory.Options{CapacityBytes: 32 << 20})
	require.NoError(t, err)
	below := &storetest.Map{}
	s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "cpu", Store: m}, {Name: "below", Store: below, Write: store.WriteBack}}})
	big := func(n int) []byte { return storetest.Value(key(n), 0, 900<<10) }
	for n := range 40 {
		require.NoError(t, s.Put(t.Context(), key(n), big(n), store.Attr{Tokens: n}))
	}
	require.NoError(t, s.Flush(t.Context()))
	require.GreaterOrEqual(t, len(below.Keys()), 8)
	for n := range 40 {
		p, err := s.Get(t.Context(), key(n))
		require.NoError(t, err, "page %d", n)
		require.True(t, bytes.Equal(big(n), p.Bytes()))
		require.Equal(t, n, p.Attr().Tokens)
		p.Release()
	}
}

func TestPromotion(t *testing.T) {
	for _, row := range []struct {
		after int
		want  []int // of pages 0 to 2, of which page n is read n times
	}{{0, []int{1, 2}}, {2, []int{2}}, {-1, nil}} {
		t.Run(fmt.Sprint(row.after), func(t *testing.T) {
			above, below := &storetest.Map{}, &storetest.Map{}
			for n := range 3 {
				require.NoError(t, below.Put(t.Context(), key(n), value(n), store.Attr{}))
			}
			s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "above", Store: above, PromoteAfter: row.after}, {Name: "below", Store: below}}})
			for n := range 3 {
				for range n {
					get(t, s, n)
				}
				info, err := s.Stat(t.Context(), key(n))
				require.NoError(t, err)
				require.NotEmpty(t, info.Level)
			}
			promoted := func() []int { return has(t, s, above) }
			require.Eventually(t, func() bool { return len(promoted()) == len(row.want) }, 10*time.Second, time.Millisecond)
			require.Equal(t, row.want, promoted())
		})
	}
}

// A page that the first level does not want goes to the next at once.
func TestRefusedByTheFirst(t *testing.T) {
	m, err := memory.New(memory.Options{CapacityBytes: 32 << 20})
	require.NoError(t, err)
	below := &storetest.Map{}
	s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "cpu", Store: m}, {Name: "below", Store: below}}})
	large := make([]byte, 2<<20)
	require.NoError(t, s.Put(t.Context(), key(1), large, store.Attr{}))
	info, err := s.Stat(t.Context(), key(1))
	require.NoError(t, err)
	require.Equal(t, "below", info.Level)

	alone := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "cpu", Store: mustMemory(t)}}})
	require.ErrorIs(t, alone.Put(t.Context(), key(1), large, store.Attr{}), store.ErrTooLarge)
}

func newMemory() (*memory.Store, error) { return memory.New(memory.Options{CapacityBytes: 32 << 20}) }

func mustMemory(t *testing.T) *memory.Store {
	m, err := newMemory()
	require.NoError(t, err)
	return m
}

func TestOneReadForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &storetest.Map{}
		require.NoError(t, m.Put(t.Context(), key(1), value(1), store.Attr{}))
		slow := storetest.NewFault(m)
		slow.Before(func(context.Context, string) error { time.Sleep(time.Second); return nil })
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: slow}}})
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { get(t, s, 1) })
		}
		// One who leaves takes nobody along.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = s.Get(ctx, key(1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		all.Wait()
		require.Equal(t, int64(1), slow.Calls())
		synctest.Wait()
		get(t, s, 1)
		require.Equal(t, int64(1), slow.Calls(), "it was promoted")
		require.NoError(t, s.Close())
	})
}

func TestReadEndsWhenAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := storetest.NewFault(&storetest.Map{})
		hung.Hang()
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: hung, Timeout: -1}}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Get(ctx, key(1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait() // the flight has ended, or this would be deadlocked at the end
		hung.Before(nil)
		_, err = s.Get(t.Context(), key(1))
		require.ErrorIs(t, err, store.ErrNotFound)
		require.NoError(t, s.Close())
	})
}

func TestBrokenLevelIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		m := &storetest.Map{}
		require.NoError(t, m.Put(t.Context(), key(9), value(9), store.Attr{}))
		broken := storetest.NewFault(m)
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{
			{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: broken, Failures: 3, Cooldown: time.Minute, Timeout: time.Second}, {Name: "c", Store: &storetest.Map{}},
		}})
		require.NoError(t, err)
		broken.Fail(boom)
		for n := range 10 {
			require.NoError(t, s.Put(t.Context(), key(n%3), value(n%3), store.Attr{}))
			get(t, s, n%3)
			_, err := s.Get(t.Context(), key(100+n))
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		_ = s.Flush(t.Context())
		require.False(t, s.Stats()[1].Available)
		calls := broken.Calls()
		require.LessOrEqual(t, calls, int64(3+4), "three failures, and what was under way")
		_, err = s.Get(t.Context(), key(9))
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Equal(t, calls, broken.Calls(), "it is left alone")

		// It hangs, and then it is well again.
		broken.Hang()
		time.Sleep(2 * time.Minute)
		start := time.Now()
		_, err = s.Get(t.Context(), key(9))
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Equal(t, time.Second, time.Since(start))
		broken.Before(nil)
		time.Sleep(2 * time.Minute)
		get(t, s, 9)
		require.True(t, s.Stats()[1].Available)
		require.NoError(t, s.Close())
	})
}

func TestAllLevelsBroken(t *testing.T) {
	boom := errors.New("boom")
	a, b := storetest.NewFault(&storetest.Map{}), storetest.NewFault(&storetest.Map{})
	s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "a", Store: a}, {Name: "b", Store: b}}})
	a.Fail(boom)
	b.Fail(boom)
	require.ErrorIs(t, s.Put(t.Context(), key(1), nil, store.Attr{}), boom)
	_, err := s.Get(t.Context(), key(1))
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "b: boom")
	_, err = s.Stat(t.Context(), key(1))
	require.ErrorIs(t, err, boom)
	_, err = store.Resident(t.Context(), s, []store.Key{key(1)})
	require.ErrorIs(t, err, boom)
	require.ErrorIs(t, s.Delete(t.Context(), key(1)), boom)
	for _, err = range s.Scan(t.Context(), "") {
	}
	require.ErrorIs(t, err, boom)
	a.Before(nil)
	_, err = s.Get(t.Context(), key(1))
	require.ErrorIs(t, err, store.ErrNotFound)
	b.Before(nil)
}

func TestSlowReadIsSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &storetest.Map{}
		require.NoError(t, m.Put(t.Context(), key(1), value(1), store.Attr{}))
		slow := storetest.NewFault(m)
		var first atomic.Bool
		slow.Before(func(ctx context.Context, op string) error {
			if op == "get" && !first.Swap(true) {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: slow, Hedge: 50 * time.Millisecond}}})
		require.NoError(t, err)
		start := time.Now()
		get(t, s, 1)
		require.Equal(t, 60*time.Millisecond, time.Since(start))
		require.Equal(t, int64(1), s.Stats()[1].Hedges)
		require.NoError(t, s.Close())
	})
}

func TestAbsencesAreRemembered(t *testing.T) {
	now := time.Unix(0, 0)
	below := storetest.NewFault(&storetest.Map{})
	s := tiered(t, store.TieredOptions{AbsentFor: time.Minute, Now: func() time.Time { return now }, Levels: []store.Level{{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: below}}})
	for range 5 {
		_, err := s.Get(t.Context(), key(1))
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = s.Stat(t.Context(), key(1))
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	require.Equal(t, int64(1), below.Calls())
	now = now.Add(2 * time.Minute)
	_, err := s.Get(t.Context(), key(1))
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Equal(t, int64(2), below.Calls())
	require.NoError(t, s.Put(t.Context(), key(1), value(1), store.Attr{}))
	get(t, s, 1)
}

// What lags is not written to: of 100 pages that arrive at once some are dropped, and none is waited for.
func TestLaggingLevelIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := storetest.NewFault(&storetest.Map{})
		slow.Before(func(_ context.Context, op string) error {
			if op == "put" {
				time.Sleep(time.Second)
			}
			return nil
		})
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{
			{Name: "a", Store: &storetest.Map{}}, {Name: "b", Store: slow, Writers: 2, MaxLag: 10 * time.Second},
		}})
		require.NoError(t, err)
		require.NoError(t, s.Put(t.Context(), key(1000), value(1), store.Attr{}))
		require.NoError(t, s.Flush(t.Context())) // it knows its speed now
		start := time.Now()
		for n := range 100 {
			require.NoError(t, s.Put(t.Context(), key(n), value(n), store.Attr{}))
		}
		require.Less(t, time.Since(start), time.Second)
		require.NoError(t, s.Flush(t.Context()))
		require.Equal(t, 10*time.Second, time.Since(start).Round(time.Second))
		require.Equal(t, int64(80), s.Stats()[1].Shed)
		require.Equal(t, time.Second, mustTime(t, s.Stats()[1].Writes, 1000))
		require.NoError(t, s.Close())
	})
}

func mustTime(t *testing.T, s store.Speed, bytes int64) time.Duration {
	took, ok := s.Time(bytes)
	require.True(t, ok)
	return took.Round(time.Millisecond)
}

// After Delete has returned no level has the page, whatever was on its way.
func TestDeleteReachesWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		above, below := &storetest.Map{}, &storetest.Map{}
		slow := storetest.NewFault(below)
		slow.Before(func(_ context.Context, op string) error { time.Sleep(time.Second); return nil })
		s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "a", Store: above}, {Name: "b", Store: slow, Writers: 1}}})
		require.NoError(t, err)
		for n := range 3 {
			require.NoError(t, s.Put(t.Context(), key(n), value(n), store.Attr{}))
		}
		synctest.Wait() // page 0 is being written, the others wait
		for n := range 3 {
			require.NoError(t, s.Delete(t.Context(), key(n)))
		}
		require.NoError(t, s.Flush(t.Context()))
		require.Empty(t, below.Keys())

		// A read that began before is not copied upwards.
		require.NoError(t, below.Put(t.Context(), key(5), value(5), store.Attr{}))
		var all sync.WaitGroup
		all.Go(func() {
			p, _ := s.Get(t.Context(), key(5))
			p.Release()
		})
		synctest.Wait()
		require.NoError(t, s.Delete(t.Context(), key(5)))
		all.Wait()
		synctest.Wait()
		require.Empty(t, above.Keys())
		require.Empty(t, below.Keys())
		require.NoError(t, s.Close())
	})
}

func TestBatchesAcrossLevels(t *testing.T) {
	above, below := &storetest.Map{}, &storetest.Map{}
	s := tiered(t, store.TieredOptions{Levels: []store.Level{{Name: "above", Store: above, PromoteAfter: -1}, {Name: "below", Store: below}}})
	for n := range 6 {
		to := []store.Store{above, below}[n%2]
		require.NoError(t, to.Put(t.Context(), key(n), value(n), store.Attr{}))
	}
	keys := []store.Key{key(0), key(1), key(2), {}, key(7), key(5)}
	infos, errs := make([]store.Info, 6), make([]error, 6)
	s.StatBatch(t.Context(), keys, infos, errs)
	for i, level := range []string{"above", "below", "above", "", "", "below"} {
		require.Equal(t, level, infos[i].Level, "%d", i)
	}
	require.ErrorIs(t, errs[3], store.ErrKey)
	require.ErrorIs(t, errs[4], store.ErrNotFound)
	require.Equal(t, 6, s.Prefetch(t.Context(), []store.Key{key(0), key(1), key(2), key(3), key(4), key(5), key(99)}))
}

func TestTieredClosedDropsWhatWaits(t *testing.T) {
	hung := storetest.NewFault(&storetest.Map{})
	hung.Hang()
	s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "a", Store: mustMemory(t)}, {Name: "b", Store: hung}}})
	require.NoError(t, err)
	for n := range 20 {
		require.NoError(t, s.Put(t.Context(), key(n), value(n), store.Attr{}))
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Flush(t.Context()), store.ErrClosed)
	require.ErrorIs(t, s.Put(t.Context(), key(1), nil, store.Attr{}), store.ErrClosed)
}
