package fs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func key(n int) store.Key { return store.Key{Namespace: "n", Hash: fmt.Sprintf("block %d", n)} }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Options{Operations: 600, New: func(t *testing.T) store.Store {
		s, err := Open(Options{Dir: t.TempDir(), Sync: false})
		require.NoError(t, err)
		return s
	}})
}

func TestOptions(t *testing.T) {
	_, err := Open(Options{MaxBytes: -1, Depth: -2})
	for _, want := range []string{"Dir is empty", "MaxBytes is -1", "Depth is -2"} {
		require.ErrorContains(t, err, want)
	}
	_, err = OpenOffload(OffloadOptions{Dir: "/does/not/exist", Depth: -1})
	require.ErrorContains(t, err, "/does/not/exist")
	require.ErrorContains(t, err, "Depth is -1")
	s := open(t, Options{})
	_, err = NewCleaner(s, CleanerOptions{HighUse: 2, MinAge: -1})
	require.ErrorContains(t, err, "HighUse is 2")
	require.ErrorContains(t, err, "MinAge is -1ns")
	_, err = NewCleaner(s, CleanerOptions{})
	require.ErrorContains(t, err, "want one of them")
	_, err = NewCleaner(s, CleanerOptions{HighUse: 0.5, LowUse: 0.6})
	require.ErrorContains(t, err, "LowUse is 0.6")
}

// Several machines write, read and delete the same pages.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 3 {
		s := open(t, Options{Dir: dir, Sync: true})
		all.Go(func() {
			for i := range 60 {
				k := key(i % 5)
				want := storetest.Value(k, 0, 20_000)
				if err := s.Put(t.Context(), k, want, store.Attr{}); err != nil {
					t.Errorf("put: %v", err)
				}
				p, err := s.Get(t.Context(), k)
				if err == nil && !bytes.Equal(p.Bytes(), want) || store.Broken(err) {
					t.Errorf("get: %v", err)
				}
				if i%7 == 0 {
					if err := s.Delete(t.Context(), k); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	left, err := os.ReadDir(filepath.Join(dir, layout, temporary))
	require.NoError(t, err)
	require.Empty(t, left, "unfinished files")
}

func TestDamagedFiles(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"a bit":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut short": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":     func(b []byte) []byte { return nil },
		"longer":    func(b []byte) []byte { return append(b, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			require.NoError(t, s.Put(t.Context(), key(1), make([]byte, 1000), store.Attr{}))
			k := key(1)
			path := s.file(&k)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, damage(b), 0o600))
			_, err = s.Get(t.Context(), k)
			require.ErrorIs(t, err, store.ErrCorrupt)
			_, err = s.Get(t.Context(), k)
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

// A file that holds another key's page, as if the digests were equal, is not that key's page.
func TestAnotherKeysFile(t *testing.T) {
	s := open(t, Options{})
	a, b := key(1), store.Key{Namespace: "other", Hash: "h"}
	require.NoError(t, s.Put(t.Context(), a, []byte("secret"), store.Attr{}))
	require.NoError(t, os.MkdirAll(filepath.Dir(s.file(&b)), 0o700))
	require.NoError(t, os.Rename(s.file(&a), s.file(&b)))
	_, err := s.Stat(t.Context(), b)
	require.ErrorIs(t, err, store.ErrCorrupt)
	for range s.Scan(t.Context(), "other") {
		t.Fatal("another namespace's page is listed")
	}
	_, err = s.Get(t.Context(), b)
	require.ErrorIs(t, err, store.ErrCorrupt)
}

func TestCleaner(t *testing.T) {
	now := time.Now()
	var changes []store.Change
	w := watcher(func(c store.Change) { changes = append(changes, c) })
	s := open(t, Options{Watcher: w, Now: func() time.Time { return now }})
	for n := range 10 {
		require.NoError(t, s.Put(t.Context(), key(n), make([]byte, 10_000), store.Attr{Chained: true, Depth: n}))
		now = now.Add(time.Hour)
	}
	p, err := s.Get(t.Context(), key(0)) // the oldest has been used again
	require.NoError(t, err)
	p.Release()
	require.NoError(t, s.Pin(t.Context(), key(1), time.Hour))
	dead := s.path(temporary, "abandoned")
	require.NoError(t, os.WriteFile(dead, nil, 0o600))
	require.NoError(t, os.Chtimes(dead, now, now.Add(-2*time.Hour)))
	changes = nil
	now = now.Add(10 * time.Minute)

	c, err := NewCleaner(s, CleanerOptions{MaxBytes: 80_000})
	require.NoError(t, err)
	d, err := c.Clean(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), d.Abandoned)
	require.Equal(t, int64(3), d.DeletedPages)
	require.Len(t, changes, 3)
	for i, n := range []int{2, 3, 4} {
		require.Equal(t, key(n), changes[i].Key)
		require.Equal(t, n, changes[i].Attr.Depth)
		require.True(t, changes[i].Removed)
	}
	d, err = c.Clean(t.Context())
	require.NoError(t, err)
	require.Zero(t, d.DeletedPages)
	require.Equal(t, int64(7), d.Pages)

	// By the use of the file system: nine tenths, four fifths are wanted.
	c, err = NewCleaner(s, CleanerOptions{HighUse: 0.9, LowUse: 0.8})
	require.NoError(t, err)
	c.use = func(string) (float64, int64, error) { return 0.9, 200_000, nil }
	d, err = c.Clean(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2), d.DeletedPages)
	c.use = func(string) (float64, int64, error) { return 0.89, 200_000, nil }
	d, err = c.Clean(t.Context())
	require.NoError(t, err)
	require.Zero(t, d.DeletedPages)
}

type watcher func(store.Change)

func (w watcher) Changed(c store.Change) { w(c) }

func TestFileSystemUse(t *testing.T) {
	used, size, err := fileSystemUse(t.TempDir())
	require.NoError(t, err)
	require.Greater(t, size, int64(0))
	require.Greater(t, used, 0.0)
	require.LessOrEqual(t, used, 1.0)
}
