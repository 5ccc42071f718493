package store

import (
	"context"
	"fmt"
)

// Create begins a page in the first level if that is a Streamer, so that the bytes are not collected elsewhere before; then a
// Commit that the first level refuses is not tried at the next one. Else the page is collected in memory.
func (t *Tiered) Create(ctx context.Context, key Key, size int64, attr Attr) (Writer, error) {
	if err := t.begin(ctx, &key); err != nil {
		return nil, err
	}
	if err := attr.Validate(); err != nil {
		return nil, err
	}
	if size < 0 || size > maxBuffered {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	if first, ok := t.levels[0].Store.(Streamer); ok {
		if w, err := first.Create(ctx, key, size, attr); err == nil {
			return &tieredWriter{w, t, key}, nil
		}
	}
	return &buffered{store: t, key: key, attr: attr, size: size}, nil
}

// Open reads the whole page and gives it out as a stream.
func (t *Tiered) Open(ctx context.Context, key Key) (Reader, error) {
	page, err := t.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return ReadPage(page), nil
}

// tieredWriter is a page being written to the first level.
type tieredWriter struct {
	Writer
	tiered *Tiered
	key    Key
}

func (w *tieredWriter) Commit(ctx context.Context) error {
	if err := w.Writer.Commit(ctx); err != nil {
		return err
	}
	w.tiered.saw(w.key)
	w.tiered.absent.remove(w.key)
	w.tiered.writeThrough(ctx, 0, w.key)
	return nil
}
