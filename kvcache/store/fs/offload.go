package fs

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/workers"
)

// OffloadOptions are the parameters of an Offload. Dir is required.
type OffloadOptions struct {
	// Dir is the root that vLLM's file-system offloading was given.
	Dir string
	// MaxBytes bounds a page; 0 means 1 GiB.
	MaxBytes int64
	// Depth is how many files are read at once; 0 means 32.
	Depth int
	// Watcher is told of pages that this process removes; nil tells nobody.
	Watcher store.Watcher
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Offload is what vLLM or llm-d has offloaded to a file system. It implements store.Store, except that it does not put.
type Offload struct {
	o      OffloadOptions
	io     *workers.Pool
	closed atomic.Bool
}

// OpenOffload opens a folder, which must be there. It reports every invalid option at once.
func OpenOffload(o OffloadOptions) (*Offload, error) {
	var errs []error
	if i, err := os.Stat(o.Dir); err != nil {
		errs = append(errs, fmt.Errorf("Dir: %w", err))
	} else if !i.IsDir() {
		errs = append(errs, fmt.Errorf("Dir is %q, which is no folder", o.Dir))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBytes is %d, want 0 or more", o.MaxBytes))
	}
	if o.Depth < 0 {
		errs = append(errs, fmt.Errorf("Depth is %d, want 0 or more", o.Depth))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("offload store: %w", err)
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Offload{o: o, io: workers.New(cmp.Or(o.Depth, 32))}, nil
}

const offloadSuffix = ".bin"

// offloadPath is where a key's file is below the root.
func offloadPath(key *store.Key) (string, error) {
	name := hex.EncodeToString([]byte(key.Hash))
	if len(name) < 6 {
		return "", fmt.Errorf("%w: no digest of %d bytes is offloaded", store.ErrNotFound, len(key.Hash))
	}
	folder := fmt.Sprintf("%s_r%d", key.Namespace, key.Rank)
	if !filepath.IsLocal(folder) || strings.ContainsAny(folder, `/\`) {
		return "", fmt.Errorf("%w: namespace %q is no folder", store.ErrNotFound, key.Namespace)
	}
	return filepath.Join(folder, name[:3], fmt.Sprintf("%s_g%d", name[3:5], key.Group), name+offloadSuffix), nil
}

// offloadKey is the inverse of offloadPath.
func offloadKey(path string) (store.Key, bool) {
	parts := strings.Split(filepath.ToSlash(path), "/")
	if len(parts) != 4 {
		return store.Key{}, false
	}
	i, j := strings.LastIndex(parts[0], "_r"), strings.LastIndex(parts[2], "_g")
	name, isPage := strings.CutSuffix(parts[3], offloadSuffix)
	if i <= 0 || j < 0 || !isPage {
		return store.Key{}, false
	}
	rank, err1 := strconv.ParseUint(parts[0][i+2:], 10, 32)
	group, err2 := strconv.ParseUint(parts[2][j+2:], 10, 32)
	digest, err3 := hex.DecodeString(name)
	key := store.Key{Namespace: parts[0][:i], Hash: string(digest), Group: uint32(group), Rank: uint32(rank)}
	if errors.Join(err1, err2, err3, key.Validate()) != nil {
		return store.Key{}, false
	}
	// Only the spelling that is written counts.
	back, err := offloadPath(&key)
	return key, err == nil && filepath.ToSlash(back) == strings.Join(parts, "/")
}

func (s *Offload) begin(ctx context.Context, key *store.Key) (path string, err error) {
	if err := key.Validate(); err != nil {
		return "", err
	}
	if s.closed.Load() {
		return "", store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	path, err = offloadPath(key)
	return filepath.Join(s.o.Dir, path), err
}

// Put is store.ErrUnsupported: the engine writes these files.
func (s *Offload) Put(ctx context.Context, key store.Key, _ []byte, _ store.Attr) error {
	if _, err := s.begin(ctx, &key); err != nil {
		return err
	}
	return fmt.Errorf("put into offloaded files: %w", store.ErrUnsupported)
}

// Get reads a page's file. There is no checksum to compare it with.
func (s *Offload) Get(ctx context.Context, key store.Key) (store.Page, error) {
	name, err := s.begin(ctx, &key)
	if err != nil {
		return store.Page{}, err
	}
	result := make(chan []byte, 1)
	err = s.io.Do(ctx, func() error {
		content, used, err := readFile(name, s.o.MaxBytes)
		result <- content
		if now := s.o.Now(); err == nil && used.Before(now.Add(-touched)) {
			_ = os.Chtimes(name, now, now)
		}
		return typed(err)
	}, nil, nil)
	if err != nil {
		return store.Page{}, err
	}
	return store.NewPage(<-result, store.Attr{}, nil, 0), nil
}

// Stat tells the size of a page's file.
func (s *Offload) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	name, err := s.begin(ctx, &key)
	if err != nil {
		return store.Info{}, err
	}
	result := make(chan fs.FileInfo, 1)
	err = s.io.Do(ctx, func() error {
		i, err := os.Stat(name)
		result <- i
		return typed(err)
	}, nil, nil)
	if err != nil {
		return store.Info{}, err
	}
	return store.Info{Bytes: (<-result).Size()}, nil
}

// Delete removes a page's file.
func (s *Offload) Delete(ctx context.Context, key store.Key) error {
	name, err := s.begin(ctx, &key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.io.Do(ctx, func() error {
		err := s.drop(name, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}, nil, nil)
}

func (s *Offload) drop(name string, key store.Key) error {
	i, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		return err
	}
	if s.o.Watcher != nil {
		s.o.Watcher.Changed(store.Change{Removed: true, Key: key, Bytes: i.Size()})
	}
	return nil
}

// Pin keeps a page from our Cleaners; others do not know.
func (s *Offload) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	name, err := s.begin(ctx, &key)
	if err != nil {
		return err
	}
	return s.io.Do(ctx, func() error {
		now := s.o.Now()
		return typed(os.Chtimes(name, now, now.Add(lease)))
	}, nil, nil)
}

// Scan lists the pages. Files of other kinds, as config.json, are passed over.
func (s *Offload) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if s.closed.Load() {
			yield(store.Entry{}, store.ErrClosed)
			return
		}
		for f, err := range walk(ctx, s.io, s.o.Dir, s.isPage) {
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			key, _ := s.keyOf(f.path)
			if namespace != "" && key.Namespace != namespace {
				continue
			}
			if !yield(store.Entry{Key: key, Info: store.Info{Bytes: f.bytes}}, nil) {
				return
			}
		}
	}
}

func (s *Offload) keyOf(path string) (store.Key, bool) {
	below, err := filepath.Rel(s.o.Dir, path)
	if err != nil {
		return store.Key{}, false
	}
	return offloadKey(below)
}

func (s *Offload) isPage(path string) bool {
	_, ok := s.keyOf(path)
	return ok
}

// Close ends the goroutines. The files stay.
func (s *Offload) Close() error {
	if !s.closed.Swap(true) {
		s.io.Stop()
	}
	return nil
}

// tree of a Cleaner. The unfinished files of vLLM are in the folders of pages, with more behind the suffix.
func (s *Offload) tree() tree {
	return tree{
		root: s.o.Dir, io: s.io, now: s.o.Now, ours: s.isPage,
		dead: func(path string) bool {
			before, _, ok := strings.Cut(path, offloadSuffix)
			return ok && before+offloadSuffix != path && s.isPage(before+offloadSuffix)
		},
		drop: func(path string) bool {
			key, ok := s.keyOf(path)
			return ok && s.drop(path, key) == nil
		},
	}
}
