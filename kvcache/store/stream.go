package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// Streamer is a Store that takes and gives pages piece by piece.
type Streamer interface {
	// Create begins a page of a known size. It is there once Commit has returned without an error.
	Create(ctx context.Context, key Key, size int64, attr Attr) (Writer, error)
	// Open begins to read a page. Corruption may show as late as at the end, as an error of Read: what was read before is
	// then not to be used.
	Open(ctx context.Context, key Key) (Reader, error)
}

// Writer is a page being written. It is used by one goroutine at a time.
type Writer interface {
	io.Writer
	// Commit stores the page. It is an error if fewer bytes were written than Create was told.
	Commit(ctx context.Context) error
	// Abort forgets the page. After Commit it does nothing, so it can be deferred.
	Abort()
}

// Reader is a page being read. Close releases it.
type Reader interface {
	io.ReadCloser
	Size() int64
	Attr() Attr
}

// Create begins a page of a known size: in the store itself if it is a Streamer, else in memory.
func Create(ctx context.Context, s Store, key Key, size int64, attr Attr) (Writer, error) {
	if st, ok := s.(Streamer); ok {
		return st.Create(ctx, key, size, attr)
	}
	if err := key.Validate(); err != nil {
		return nil, err
	}
	if size < 0 || size > maxBuffered {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	return &buffered{store: s, key: key, attr: attr, size: size}, nil
}

// maxBuffered is the largest page that is collected in memory.
const maxBuffered = 1 << 31

// Open begins to read a page.
func Open(ctx context.Context, s Store, key Key) (Reader, error) {
	if st, ok := s.(Streamer); ok {
		return st.Open(ctx, key)
	}
	p, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return ReadPage(p), nil
}

// ReadPage reads a page as a stream. Closing it releases the page.
func ReadPage(p Page) Reader {
	return &pageReader{*bytes.NewReader(p.Bytes()), p}
}

type pageReader struct {
	bytes.Reader
	page Page
}

func (r *pageReader) Attr() Attr { return r.page.Attr() }

func (r *pageReader) Close() error {
	r.Reader.Reset(nil)
	r.page.Release()
	return nil
}

// buffered collects a page for a store that is no Streamer. Memory grows with what is written, not with what was announced.
type buffered struct {
	store Store
	key   Key
	attr  Attr
	size  int64
	bytes bytes.Buffer
	ended bool
}

func (w *buffered) Write(p []byte) (int, error) {
	if w.ended {
		return 0, ErrClosed
	}
	if int64(w.bytes.Len()+len(p)) > w.size {
		return 0, fmt.Errorf("%d bytes written of a page of %d", w.bytes.Len()+len(p), w.size)
	}
	return w.bytes.Write(p)
}

func (w *buffered) Commit(ctx context.Context) error {
	if w.ended {
		return ErrClosed
	}
	w.ended = true
	if int64(w.bytes.Len()) != w.size {
		return fmt.Errorf("%d bytes written of a page of %d", w.bytes.Len(), w.size)
	}
	return w.store.Put(ctx, w.key, w.bytes.Bytes(), w.attr)
}

func (w *buffered) Abort() { w.ended = true; w.bytes = bytes.Buffer{} }
