package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func openFaulty(t *testing.T, f *faulty, o Options) *Store {
	t.Helper()
	require.NoError(t, o.validateForTest())
	s, err := openFiles(t.Context(), o, f)
	require.NoError(t, err)
	return s
}

func TestDeviceErrors(t *testing.T) {
	f := newFaulty()
	s := openFaulty(t, f, crashOptions)
	defer s.Close()
	require.NoError(t, s.Put(t.Context(), crashKey(1), crashValue(1, 0), store.Attr{}))
	f.mu.Lock()
	f.before = func(op, name string) error {
		if op == "read" || op == "write" {
			return syscall.EIO
		}
		return nil
	}
	f.mu.Unlock()
	_, err := s.Get(t.Context(), crashKey(1))
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorContains(t, err, "read segment-")
	require.True(t, store.Broken(err))
	require.ErrorIs(t, s.Put(t.Context(), crashKey(2), crashValue(2, 0), store.Attr{}), syscall.EIO)
	_, err = s.Get(t.Context(), crashKey(2))
	require.ErrorIs(t, err, store.ErrNotFound)

	f.mu.Lock()
	f.before = nil
	f.mu.Unlock()
	for n := range 3 {
		require.NoError(t, s.Put(t.Context(), crashKey(n), crashValue(n, 0), store.Attr{}))
	}
	require.NoError(t, s.Flush(t.Context()))
	p, err := s.Get(t.Context(), crashKey(1))
	require.NoError(t, err)
	require.Equal(t, crashValue(1, 0), p.Bytes())
	p.Release()
}

// A page behind one that could not be written is found after a crash, once it was flushed.
func TestHolesAreFlushedWithAFooter(t *testing.T) {
	f := newFaulty()
	s := openFaulty(t, f, Options{CapacityBytes: 8 << 20, SegmentBytes: 1 << 20, Depth: 2})
	wrote := make(chan struct{})
	f.mu.Lock()
	first := true
	f.before = func(op, name string) error {
		f.mu.Lock()
		mine := first && op == "write"
		first = first && !mine
		f.mu.Unlock()
		if mine {
			<-wrote
			return syscall.EIO
		}
		return nil
	}
	f.mu.Unlock()
	failed := make(chan error, 1)
	go func() { failed <- s.Put(t.Context(), crashKey(1), crashValue(1, 0), store.Attr{}) }()
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return !first }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Put(t.Context(), crashKey(2), crashValue(2, 0), store.Attr{}))
	close(wrote)
	require.ErrorIs(t, <-failed, syscall.EIO)
	require.NoError(t, s.Flush(t.Context()))
	left := f.crash(false, nil)
	require.NoError(t, s.Close())

	s = openFaulty(t, left, Options{CapacityBytes: 8 << 20, SegmentBytes: 1 << 20})
	defer s.Close()
	p, err := s.Get(t.Context(), crashKey(2))
	require.NoError(t, err)
	require.Equal(t, crashValue(2, 0), p.Bytes())
	p.Release()
}

func TestFullFileSystem(t *testing.T) {
	f := newFaulty()
	s := openFaulty(t, f, crashOptions)
	defer s.Close()
	created := 0
	f.mu.Lock()
	f.before = func(op, name string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if op == "create" && len(f.now) >= 4 {
			created++
			return syscall.ENOSPC
		}
		return nil
	}
	f.mu.Unlock()
	refused := 0
	for n := range 200 {
		if err := s.Put(t.Context(), crashKey(n), crashValue(n, 0), store.Attr{}); err != nil {
			require.ErrorIs(t, err, store.ErrFull)
			refused++
		}
	}
	require.Greater(t, created, 0)
	require.Less(t, refused, 100, "it makes do with the room that it has")
}

func TestFullFileSystemFromTheStart(t *testing.T) {
	f := newFaulty()
	f.before = func(op, name string) error { return syscall.ENOSPC }
	s := openFaulty(t, f, crashOptions)
	defer s.Close()
	for range 3 {
		err := s.Put(t.Context(), crashKey(1), nil, store.Attr{})
		require.ErrorIs(t, err, store.ErrFull)
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
}

func TestHungDevice(t *testing.T) {
	f := newFaulty()
	o := crashOptions
	o.Depth = 2
	s := openFaulty(t, f, o)
	require.NoError(t, s.Put(t.Context(), crashKey(1), crashValue(1, 0), store.Attr{}))
	hang := make(chan struct{})
	f.mu.Lock()
	f.before = func(op, name string) error { <-hang; return nil }
	f.mu.Unlock()
	// More than there are workers.
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := s.Get(ctx, crashKey(1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, s.Put(ctx, crashKey(2), crashValue(2, 0), store.Attr{}), context.DeadlineExceeded)
		require.ErrorIs(t, s.Flush(ctx), context.DeadlineExceeded)
		cancel()
	}
	_, err := s.Stat(t.Context(), crashKey(1))
	require.NoError(t, err)
	close(hang)
	p, err := s.Get(t.Context(), crashKey(1))
	require.NoError(t, err)
	require.Equal(t, crashValue(1, 0), p.Bytes())
	p.Release()
	require.NoError(t, s.Close())
}

func TestCloseDoesNotWaitForever(t *testing.T) {
	f := newFaulty()
	o := crashOptions
	o.CloseTimeout = time.Millisecond
	s := openFaulty(t, f, o)
	require.NoError(t, s.Put(t.Context(), crashKey(1), nil, store.Attr{}))
	hang := make(chan struct{})
	f.mu.Lock()
	f.before = func(op, name string) error { <-hang; return nil }
	f.mu.Unlock()
	require.ErrorContains(t, s.Close(), "has not answered")
	close(hang)
}

// Whatever a disk does to the files, Open reads what is whole and Get returns what was put, or an error.
func TestDamagedFiles(t *testing.T) {
	const pages = 40
	fill := func(t *testing.T) string {
		dir := t.TempDir()
		s, err := Open(t.Context(), Options{Dir: dir, CapacityBytes: 8 << 20, SegmentBytes: 256 << 10})
		require.NoError(t, err)
		for n := range pages {
			require.NoError(t, s.Put(t.Context(), crashKey(n), crashValue(n, 0), store.Attr{}))
		}
		require.NoError(t, s.Close())
		return dir
	}
	segments := func(t *testing.T, dir string) []string {
		names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
		require.NoError(t, err)
		require.Greater(t, len(names), 1)
		return names
	}
	flip := func(at func(size int64) int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			name := segments(t, dir)[0]
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			b[at(int64(len(b)))] ^= 0x10
			require.NoError(t, os.WriteFile(name, b, 0o600))
		}
	}
	for name, row := range map[string]struct {
		damage func(t *testing.T, dir string)
		least  int // pages that must be left
	}{
		"a bit of a page":      {flip(func(int64) int64 { return 9000 }), pages - 1},
		"a bit of a header":    {flip(func(int64) int64 { return 80 }), pages - 1},
		"a bit of the trailer": {flip(func(size int64) int64 { return size - block + 3 }), pages},
		"a bit of the footer":  {flip(func(size int64) int64 { return size - 2*block + 30 }), pages},
		"cut short":            {func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segments(t, dir)[0], 100_000)) }, pages / 2},
		"empty":                {func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segments(t, dir)[0], 0)) }, pages / 3},
		"gone":                 {func(t *testing.T, dir string) { require.NoError(t, os.Remove(segments(t, dir)[0])) }, pages / 3},
		"files of somebody else's": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "segment-x"), []byte("?"), 0o600))
		}, pages},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fill(t)
			row.damage(t, dir)
			s, err := Open(t.Context(), Options{Dir: dir, CapacityBytes: 8 << 20, SegmentBytes: 256 << 10})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			left := 0
			for n := range pages {
				p, err := s.Get(t.Context(), crashKey(n))
				if err != nil {
					require.False(t, store.Broken(err) && !isCorrupt(err), "%v", err)
					_, err = s.Get(t.Context(), crashKey(n))
					require.ErrorIs(t, err, store.ErrNotFound, "a corrupt page is removed")
					continue
				}
				require.Equal(t, crashValue(n, 0), p.Bytes())
				p.Release()
				left++
			}
			require.GreaterOrEqual(t, left, row.least)
		})
	}
}

func isCorrupt(err error) bool { return errors.Is(err, store.ErrCorrupt) }

func TestDirectoryIsLocked(t *testing.T) {
	o := Options{Dir: t.TempDir(), CapacityBytes: 64 << 20}
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	_, err = Open(t.Context(), o)
	require.ErrorContains(t, err, "another process has this directory")
	require.NoError(t, s.Close())
	s, err = Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

func TestOptionsAreValidated(t *testing.T) {
	_, err := Open(t.Context(), Options{SegmentBytes: 1, Depth: -1, Policy: 50, CloseTimeout: -1})
	for _, want := range []string{"Dir is empty", "SegmentBytes is 1", "Depth is -1", "Kind(50)", "CloseTimeout is -1ns"} {
		require.ErrorContains(t, err, want)
	}
}

// Pages come back after the end of the process, with all that was known of them; deleted ones do not.
func TestReopen(t *testing.T) {
	for name, kill := range map[string]bool{"closed": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty()
			s := openFaulty(t, f, Options{CapacityBytes: 8 << 20, SegmentBytes: 256 << 10})
			attr := func(n int) store.Attr {
				return store.Attr{Chained: true, Parent: fmt.Sprint(n - 1), Depth: n, Tokens: 16, Cost: time.Second}
			}
			for n := range 50 {
				require.NoError(t, s.Put(t.Context(), crashKey(n), crashValue(n, 0), attr(n)))
			}
			for n := range 10 {
				require.NoError(t, s.Delete(t.Context(), crashKey(n)))
			}
			require.NoError(t, s.Put(t.Context(), crashKey(3), crashValue(3, 7), attr(3)))
			left := f.crash(false, nil)
			require.NoError(t, s.Close())
			if !kill {
				left = f.crash(false, nil)
			}
			w := newPromised()
			s = openFaulty(t, left, Options{CapacityBytes: 8 << 20, SegmentBytes: 256 << 10, Watcher: w})
			defer s.Close()
			require.Len(t, w.resident, 41)
			require.Equal(t, int64(41), s.Stats().Recovered)
			require.Equal(t, kill, s.Stats().Scanned > 0)
			for n := range 50 {
				p, err := s.Get(t.Context(), crashKey(n))
				if n < 10 && n != 3 {
					require.ErrorIs(t, err, store.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				version := 0
				if n == 3 {
					version = 7
				}
				require.Equal(t, crashValue(n, version), p.Bytes())
				require.Equal(t, attr(n), p.Attr())
				p.Release()
			}
		})
	}
}

// Room is found again and again, at a bounded price, and what is pinned stays.
func TestReclaim(t *testing.T) {
	f := newFaulty()
	s := openFaulty(t, f, Options{CapacityBytes: 16 * minSegment, SegmentBytes: minSegment})
	defer s.Close()
	require.NoError(t, s.Put(t.Context(), crashKey(0), crashValue(0, 0), store.Attr{}))
	require.NoError(t, s.Pin(t.Context(), crashKey(0), time.Hour))
	for n := 1; n < 1500; n++ {
		require.NoError(t, s.Put(t.Context(), crashKey(n), crashValue(n, 0), store.Attr{}))
		if n%3 == 0 && n > 7 {
			require.NoError(t, s.Delete(t.Context(), crashKey(n-n%7)))
		}
		f.mu.Lock()
		require.LessOrEqual(t, len(f.now), 17)
		f.mu.Unlock()
	}
	p, err := s.Get(t.Context(), crashKey(0))
	require.NoError(t, err)
	require.Equal(t, crashValue(0, 0), p.Bytes())
	p.Release()
	st := s.Stats()
	require.Positive(t, st.CopiedBytes)
	require.Less(t, st.WriteAmplification(), 2.5, "padding to blocks and tombstones included")
}

func TestTooLargeForASegment(t *testing.T) {
	s := openFaulty(t, newFaulty(), crashOptions)
	defer s.Close()
	require.ErrorIs(t, s.Put(t.Context(), crashKey(1), make([]byte, minSegment), store.Attr{}), store.ErrTooLarge)
	require.NoError(t, s.Put(t.Context(), crashKey(1), make([]byte, minSegment-4*block), store.Attr{}))
}

func TestQuotas(t *testing.T) {
	o := crashOptions
	o.Quota = func(namespace string) int64 { return map[string]int64{"small": 40_000}[namespace] }
	s := openFaulty(t, newFaulty(), o)
	defer s.Close()
	small := func(n int) store.Key { return store.Key{Namespace: "small", Hash: fmt.Sprint(n)} }
	for n := range 5 {
		require.NoError(t, s.Put(t.Context(), crashKey(n), crashValue(n, 0), store.Attr{}))
	}
	for n := range 20 {
		require.NoError(t, s.Put(t.Context(), small(n), storetest.Value(small(n), 0, 9000), store.Attr{}))
	}
	held := 0
	for range s.Scan(t.Context(), "small") {
		held++
	}
	require.Equal(t, 3, held, "of 12,288 bytes each")
	for n := range 5 {
		_, err := s.Stat(t.Context(), crashKey(n))
		require.NoError(t, err)
	}
	require.ErrorIs(t, s.Put(t.Context(), small(99), make([]byte, 41_000), store.Attr{}), store.ErrQuota)
}

// Whatever writes fail, of pages, copies or footers, a Flush ends.
func TestFlushAmongFailingWrites(t *testing.T) {
	f := newFaulty()
	writes := 0
	f.before = func(op, name string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if op != "write" {
			return nil
		}
		if writes++; writes%5 == 0 {
			return syscall.EIO
		}
		return nil
	}
	s := openFaulty(t, f, crashOptions)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	flushed := 0
	for n := range 600 {
		if err := s.Put(ctx, crashKey(n), crashValue(n, 0), store.Attr{}); err != nil {
			require.True(t, errors.Is(err, syscall.EIO) || store.Refused(err), "%v", err)
		}
		if n%4 == 0 {
			err := s.Flush(ctx)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			if err == nil {
				flushed++
			}
		}
		if p, err := s.Get(ctx, crashKey(n-n%3)); err == nil {
			p.Release()
		}
	}
	require.Positive(t, flushed)
	require.Positive(t, s.Stats().CopiedBytes)
}
