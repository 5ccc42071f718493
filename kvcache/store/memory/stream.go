package memory

import (
	"context"
	"fmt"

	"github.com/inferloom/inferloom/kvcache/store"
)

// writer fills a page's place.
type writer struct {
	s       *Store
	n       uint32 // 0 if the page is there already, or the writer has ended
	key     store.Key
	attr    store.Attr
	size    int
	written int
	ended   bool
}

// Create reserves a page's place, which is written to directly.
func (s *Store) Create(ctx context.Context, key store.Key, size int64, attr store.Attr) (store.Writer, error) {
	if size < 0 || size > int64(s.slabs.slabBytes) {
		return nil, fmt.Errorf("%w: %d bytes, the largest place has %d", store.ErrTooLarge, size, s.slabs.slabBytes)
	}
	n, _, err := s.reserve(ctx, &key, int(size), &attr)
	if err != nil {
		return nil, err
	}
	return &writer{s: s, n: n, key: key, attr: attr, size: int(size)}, nil
}

func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, store.ErrClosed
	}
	if w.written+len(p) > w.size {
		return 0, fmt.Errorf("%d bytes written of a page of %d", w.written+len(p), w.size)
	}
	if w.n != 0 {
		copy(w.s.arena[w.s.index.slot(w.n).offset+w.written:], p)
	}
	w.written += len(p)
	return len(p), nil
}

func (w *writer) Commit(context.Context) error {
	if w.ended {
		return store.ErrClosed
	}
	if w.written != w.size {
		w.Abort()
		return fmt.Errorf("%d bytes written of a page of %d", w.written, w.size)
	}
	w.ended = true
	if w.n == 0 {
		return nil
	}
	return w.s.publish(w.n, &w.key, &w.attr)
}

func (w *writer) Abort() {
	if !w.ended && w.n != 0 {
		w.s.ReleasePage(uint64(w.n))
	}
	w.ended = true
}

// Open reads a page.
func (s *Store) Open(ctx context.Context, key store.Key) (store.Reader, error) {
	p, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return store.ReadPage(p), nil
}
