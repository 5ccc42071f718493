package fs

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/store"
)

// offloaded writes files as vLLM's file-system tier lays them out.
func offloaded(t *testing.T) (dir string, names []string) {
	dir = t.TempDir()
	names = []string{
		"Qwen_Qwen3-8B_0123456789ab_r0/9bd/96_g0/9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0.bin",
		"Qwen_Qwen3-8B_0123456789ab_r1/9bd/96_g0/9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0.bin",
		"Qwen_Qwen3-8B_0123456789ab_r0/9bd/96_g1/9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0.bin",
		"Qwen_Qwen3-8B_0123456789ab_r0/cd7/c5_g0/cd7c51bc5a8fc8643f383a2b9e01522f.bin",
	}
	for _, name := range append(names, "Qwen_Qwen3-8B_0123456789ab/config.json", "Qwen_Qwen3-8B_0123456789ab_r0/9bd/96_g0/note.bin") {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(name), 0o600))
	}
	return dir, names
}

func offloadedKey(t *testing.T, digest string, group, rank uint32) store.Key {
	b, err := hex.DecodeString(digest)
	require.NoError(t, err)
	return store.Key{Namespace: "Qwen_Qwen3-8B_0123456789ab", Hash: string(b), Group: group, Rank: rank}
}

const digest = "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0"

func TestOffloadedFiles(t *testing.T) {
	dir, names := offloaded(t)
	s, err := OpenOffload(OffloadOptions{Dir: dir})
	require.NoError(t, err)
	defer s.Close()
	ctx := t.Context()
	p, err := s.Get(ctx, offloadedKey(t, digest, 0, 1))
	require.NoError(t, err)
	require.Equal(t, names[1], string(p.Bytes()))
	p.Release()
	info, err := s.Stat(ctx, offloadedKey(t, digest, 1, 0))
	require.NoError(t, err)
	require.Equal(t, int64(len(names[2])), info.Bytes)
	_, err = s.Get(ctx, offloadedKey(t, digest, 2, 0))
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorIs(t, s.Put(ctx, offloadedKey(t, digest, 0, 0), nil, store.Attr{}), store.ErrUnsupported)

	// Names that would lead out of the folder lead nowhere.
	for _, namespace := range []string{"..", "../x", "/etc", "a/b", `a\b`} {
		_, err := s.Get(ctx, store.Key{Namespace: namespace, Hash: "12345678"})
		require.ErrorIs(t, err, store.ErrNotFound, namespace)
	}

	listed := 0
	for e, err := range s.Scan(ctx, "Qwen_Qwen3-8B_0123456789ab") {
		require.NoError(t, err)
		path, err := offloadPath(&e.Key)
		require.NoError(t, err)
		require.Contains(t, names, path)
		listed++
	}
	require.Equal(t, len(names), listed)
	require.NoError(t, s.Delete(ctx, offloadedKey(t, digest, 0, 0)))
	require.NoError(t, s.Delete(ctx, offloadedKey(t, digest, 0, 0)))
	_, err = s.Stat(ctx, offloadedKey(t, digest, 0, 0))
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Close())
	_, err = s.Get(ctx, offloadedKey(t, digest, 0, 1))
	require.ErrorIs(t, err, store.ErrClosed)
}

func TestOffloadedFilesAreCleaned(t *testing.T) {
	dir, names := offloaded(t)
	now := time.Now()
	for i, name := range names {
		at := now.Add(time.Duration(i-10) * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	unfinished := filepath.Join(dir, names[0]+".tmp.123")
	require.NoError(t, os.WriteFile(unfinished, nil, 0o600))
	old := now.Add(-24 * time.Hour)
	require.NoError(t, os.Chtimes(unfinished, old, old))
	note := filepath.Join(dir, "Qwen_Qwen3-8B_0123456789ab/config.json")
	require.NoError(t, os.Chtimes(note, old, old))

	var removed []store.Key
	s, err := OpenOffload(OffloadOptions{Dir: dir, Watcher: watcher(func(c store.Change) { removed = append(removed, c.Key) })})
	require.NoError(t, err)
	defer s.Close()
	c, err := NewCleaner(s, CleanerOptions{MaxBytes: 250})
	require.NoError(t, err)
	d, err := c.Clean(t.Context())
	require.NoError(t, err)
	require.Equal(t, Cleaned{Pages: 2, Bytes: int64(len(names[2]) + len(names[3])), DeletedPages: 2, DeletedBytes: int64(len(names[0]) + len(names[1])), Abandoned: 1}, d)
	require.Equal(t, []store.Key{offloadedKey(t, digest, 0, 0), offloadedKey(t, digest, 0, 1)}, removed)
	require.FileExists(t, note)

	ctx, cancel := context.WithCancel(t.Context())
	reports := 0
	err = c.Run(ctx, func(Cleaned, error) { reports++; cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, reports)
}

func TestOffloadNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := store.Key{
			Namespace: rapid.StringMatching(`[A-Za-z0-9._-]{1,40}`).Draw(t, "namespace"),
			Hash:      string(rapid.SliceOfN(rapid.Byte(), 3, 32).Draw(t, "hash")),
			Group:     rapid.Uint32().Draw(t, "group"), Rank: rapid.Uint32().Draw(t, "rank"),
		}
		path, err := offloadPath(&k)
		require.NoError(t, err)
		got, ok := offloadKey(path)
		require.True(t, ok, path)
		require.Equal(t, k, got)
	})
	for _, path := range []string{"", "a/b/c/d", "m_r0/9bd/96_g0/9be96a.bin", "m_r0/9bd/96_g0/9bd96A.bin", "m_r00/9bd/96_g0/9bd96a.bin", "_r0/9bd/96_g0/9bd96a.bin", "m_r0/9bd/96_g0/9bd96a.bin/x"} {
		_, ok := offloadKey(path)
		require.False(t, ok, path)
	}
}

// A server that hangs is a file that cannot be opened: here a pipe that nobody writes to.
func TestHungFileSystem(t *testing.T) {
	dir := t.TempDir()
	k := offloadedKey(t, digest, 0, 0)
	below, err := offloadPath(&k)
	require.NoError(t, err)
	path := filepath.Join(dir, below)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	s, err := OpenOffload(OffloadOptions{Dir: dir, Depth: 1})
	require.NoError(t, err)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err = s.Get(ctx, k)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, s.Close())
}
