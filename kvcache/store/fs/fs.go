package fs

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
	"github.com/inferloom/inferloom/kvcache/store/internal/workers"
)

// Options are the parameters of a Store. Dir is required.
type Options struct {
	// Dir is the folder, which is made if need be. All machines that share pages use the same.
	Dir string
	// MaxBytes bounds a page; 0 means 1 GiB.
	MaxBytes int64
	// Depth is how many files are read and written at once; 0 means 32.
	Depth int
	// Sync makes each Put wait until its page survives a crash of the machine that has the file system.
	Sync bool
	// Watcher is told of pages that this process stores and removes; nil tells nobody.
	Watcher store.Watcher
	// Now is the clock of uses and leases; nil is time.Now. It has to agree with those of the other machines.
	Now func() time.Time
}

// Store is pages in a shared folder. It implements store.Store.
type Store struct {
	o      Options
	io     *workers.Pool
	closed atomic.Bool
}

// The folder of this version of the layout, and in it the folder of files that are not finished.
const (
	layout    = "v1"
	temporary = "tmp"
	suffix    = ".page"
)

// touched is how old a file's time may be before a use renews it.
const touched = 10 * time.Minute

// abandonedAfter is the age at which an unfinished file is one of a writer that has died.
const abandonedAfter = time.Hour

// Open opens the store in a folder. It reports every invalid option at once.
func Open(o Options) (*Store, error) {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("Dir is empty"))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBytes is %d, want 0 or more", o.MaxBytes))
	}
	if o.Depth < 0 {
		errs = append(errs, fmt.Errorf("Depth is %d, want 0 or more", o.Depth))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("fs store: %w", err)
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{o: o}
	if err := os.MkdirAll(s.path(temporary), 0o777); err != nil {
		return nil, fmt.Errorf("fs store: %w", err)
	}
	s.io = workers.New(cmp.Or(o.Depth, 32))
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.o.Dir, layout}, parts...)...)
}

// Names are digests, since namespaces and hashes may be longer than a file's name. Two keys with equal digests would be found
// out by the key in the file.
func folderOf(namespace string) string {
	sum := sha256.Sum256([]byte(namespace))
	return hex.EncodeToString(sum[:16])
}

func (s *Store) file(key *store.Key) string {
	sum := sha256.Sum256([]byte(key.String()))
	name := hex.EncodeToString(sum[:])
	return s.path(folderOf(key.Namespace), name[:2], name[2:]+suffix)
}

func (s *Store) begin(ctx context.Context, key *store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// typed makes errors of the file system those of a store.
func typed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", store.ErrNotFound, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// Put writes a page's file.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	if int64(len(value)) > s.o.MaxBytes {
		return fmt.Errorf("%w: %d bytes, MaxBytes is %d", store.ErrTooLarge, len(value), s.o.MaxBytes)
	}
	// The writer may leave while the file is being written, and the value with it.
	sealed := frame.Seal(make([]byte, 0, frame.Size(key, &attr)+len(value)), key, attr, value)
	return s.io.Do(ctx, func() error {
		if err := s.write(s.file(&key), sealed); err != nil {
			return typed(err)
		}
		if s.o.Watcher != nil {
			s.o.Watcher.Changed(store.Change{Key: key, Attr: attr, Bytes: int64(len(value))})
		}
		return nil
	}, nil, nil)
}

// write makes a file appear whole.
func (s *Store) write(name string, content []byte) (err error) {
	unfinished := s.path(temporary, rand.Text())
	f, err := os.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(unfinished)
		}
	}()
	_, err = f.Write(content)
	if err == nil && s.o.Sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	now := s.o.Now()
	if err = os.Chtimes(unfinished, now, now); err != nil {
		return err
	}
	if err = os.Rename(unfinished, name); errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o777); err == nil {
			err = os.Rename(unfinished, name)
		}
	}
	if err == nil && s.o.Sync {
		err = syncFolder(filepath.Dir(name))
	}
	return err
}

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get reads a page's file.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Page{}, err
	}
	result := make(chan store.Page, 1)
	err := s.io.Do(ctx, func() error {
		p, err := s.read(&key)
		result <- p
		return err
	}, nil, nil)
	if err != nil {
		return store.Page{}, err
	}
	return <-result, nil
}

func (s *Store) read(key *store.Key) (store.Page, error) {
	name := s.file(key)
	content, used, err := readFile(name, s.o.MaxBytes+frame.MaxHeaderBytes)
	if errors.Is(err, syscall.ESTALE) {
		// An NFS client has looked at a file that another one has replaced since.
		content, used, err = readFile(name, s.o.MaxBytes+frame.MaxHeaderBytes)
	}
	if err != nil {
		return store.Page{}, typed(err)
	}
	page, attr, err := frame.Unseal(content, *key)
	if err != nil {
		s.drop(name, store.Change{Removed: true, Key: *key})
		return store.Page{}, fmt.Errorf("%s: %w", name, err)
	}
	if now := s.o.Now(); used.Before(now.Add(-touched)) {
		_ = os.Chtimes(name, now, now)
	}
	return store.NewPage(page, attr, nil, 0), nil
}

// readFile reads a file, and when it was last used.
func readFile(name string, most int64) (content []byte, used time.Time, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, used, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, used, err
	}
	if i.Size() > most {
		return nil, used, fmt.Errorf("%w: %s has %d bytes", store.ErrCorrupt, name, i.Size())
	}
	content = make([]byte, i.Size())
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, used, err
	}
	return content, i.ModTime(), nil
}

// describe reads a file's header.
func describe(name string) (frame.Header, error) {
	f, err := os.Open(name)
	if err != nil {
		return frame.Header{}, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return frame.Header{}, err
	}
	b := make([]byte, min(i.Size(), frame.MaxHeaderBytes))
	if _, err := io.ReadFull(f, b); err != nil {
		return frame.Header{}, err
	}
	h, n, err := frame.Parse(b)
	if err == nil && int64(n)+h.Bytes != i.Size() {
		err = fmt.Errorf("%w: %d bytes, want %d", store.ErrCorrupt, i.Size(), int64(n)+h.Bytes)
	}
	if errors.Is(err, frame.ErrShort) {
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return h, err
}

// drop deletes a file and tells the watcher, and reports whether it could.
func (s *Store) drop(name string, c store.Change) bool {
	if os.Remove(name) != nil {
		return false
	}
	if s.o.Watcher != nil {
		s.o.Watcher.Changed(c)
	}
	return true
}

// Stat reads the header of a page's file.
func (s *Store) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Info{}, err
	}
	result := make(chan frame.Header, 1)
	err := s.io.Do(ctx, func() error {
		h, err := describe(s.file(&key))
		if err == nil && h.Key != key {
			err = store.ErrCorrupt
		}
		result <- h
		return typed(err)
	}, nil, nil)
	if err != nil {
		return store.Info{}, err
	}
	h := <-result
	return store.Info{Bytes: h.Bytes, Attr: h.Attr}, nil
}

// Delete removes a page's file.
func (s *Store) Delete(ctx context.Context, key store.Key) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	return s.io.Do(ctx, func() error {
		name := s.file(&key)
		c := store.Change{Removed: true, Key: key}
		if s.o.Watcher != nil {
			if h, err := describe(name); err == nil {
				c.Attr, c.Bytes = h.Attr, h.Bytes
			}
		}
		err := os.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && s.o.Watcher != nil {
			s.o.Watcher.Changed(c)
		}
		return err
	}, nil, nil)
}

// Pin keeps a page from all Cleaners.
func (s *Store) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	return s.io.Do(ctx, func() error {
		now := s.o.Now()
		return typed(os.Chtimes(s.file(&key), now, now.Add(lease)))
	}, nil, nil)
}

// Scan lists pages, a folder at a time. Damaged files are passed over.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if s.closed.Load() {
			yield(store.Entry{}, store.ErrClosed)
			return
		}
		root := s.path()
		if namespace != "" {
			root = s.path(folderOf(namespace))
		}
		for f, err := range walk(ctx, s.io, root, func(name string) bool { return filepath.Ext(name) == suffix }) {
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			h := make(chan frame.Header, 1)
			err := s.io.Do(ctx, func() error {
				d, err := describe(f.path)
				h <- d
				return err
			}, nil, nil)
			if ctx.Err() != nil {
				yield(store.Entry{}, ctx.Err())
				return
			}
			if err != nil {
				continue
			}
			d := <-h
			if namespace != "" && d.Key.Namespace != namespace {
				continue
			}
			if !yield(store.Entry{Key: d.Key, Info: store.Info{Bytes: d.Bytes, Attr: d.Attr}}, nil) {
				return
			}
		}
	}
}

// Close ends the goroutines, after what they are doing. The files stay.
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.io.Stop()
	}
	return nil
}

// tree of a Cleaner.
func (s *Store) tree() tree {
	return tree{
		root: s.o.Dir, io: s.io, now: s.o.Now,
		ours: func(name string) bool { return filepath.Ext(name) == suffix },
		dead: func(name string) bool { return filepath.Base(filepath.Dir(name)) == temporary },
		drop: func(name string) bool {
			if s.o.Watcher == nil {
				return os.Remove(name) == nil
			}
			h, err := describe(name)
			if err != nil {
				return os.Remove(name) == nil
			}
			return s.drop(name, store.Change{Removed: true, Key: h.Key, Attr: h.Attr, Bytes: h.Bytes})
		},
	}
}
