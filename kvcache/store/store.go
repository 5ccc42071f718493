package store

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Store is a place for pages. See the package's comment for what all of them guarantee.
type Store interface {
	// Put stores a page. The value is only read, and no longer needed when Put returns. Attr is kept with the page.
	// An error that is ErrFull, ErrTooLarge, ErrQuota or ErrShed says that the page was not wanted: nothing is broken.
	Put(ctx context.Context, key Key, value []byte, attr Attr) error
	// Get returns a page, to be released. An absent page is ErrNotFound.
	Get(ctx context.Context, key Key) (Page, error)
	// Stat tells of a page without reading it. It does not count as a use.
	Stat(ctx context.Context, key Key) (Info, error)
	// Delete removes a page, pinned or not. An absent page is no error.
	Delete(ctx context.Context, key Key) error
	// Pin keeps a page from being evicted for as long as the lease says, and so bridges the time between finding a page and
	// reading it. A lease replaces the one before; 0 ends it. A store that cannot promise it answers ErrUnsupported.
	Pin(ctx context.Context, key Key, lease time.Duration) error
	// Scan lists the pages of a namespace, or of all if it is empty, in no order. What is put or removed meanwhile may
	// be listed or not. After an error it ends.
	Scan(ctx context.Context, namespace string) iter.Seq2[Entry, error]
	// Close frees what the store holds, after writing what it must.
	Close() error
}

// Attr is what is known of a page beside its bytes. The zero Attr knows nothing.
type Attr struct {
	// Chained says that the page is a block of a prefix whose Parent is known.
	Chained bool
	// Parent is the Hash of the block before it, of the same namespace, group and rank; empty for the first block.
	Parent string
	// Depth is the number of blocks before it.
	Depth int
	// Tokens is the number of tokens in the block.
	Tokens int
	// Cost is the time to compute the block again when all before it are there.
	Cost time.Duration
}

// Validate reports what is wrong with an Attr, as an error that is ErrAttr.
func (a *Attr) Validate() error {
	if *a == (Attr{}) {
		return nil
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrAttr}, args...)...)
	}
	switch {
	case !a.Chained && (a.Parent != "" || a.Depth != 0):
		return wrong("Parent and Depth need Chained")
	case len(a.Parent) > MaxHashBytes:
		return wrong("Parent has %d bytes, want at most %d", len(a.Parent), MaxHashBytes)
	case a.Depth < 0 || a.Depth > maxCount:
		return wrong("Depth is %d, want 0 to %d", a.Depth, maxCount)
	case a.Tokens < 0 || a.Tokens > maxCount:
		return wrong("Tokens is %d, want 0 to %d", a.Tokens, maxCount)
	case a.Cost < 0:
		return wrong("Cost is %v, want 0 or more", a.Cost)
	}
	return nil
}

// maxCount is the largest Depth and number of Tokens.
const maxCount = 1<<31 - 1

// Info is what Stat tells.
type Info struct {
	Bytes int64
	Attr  Attr
	// Level is the name of the level that has the page, empty in a Store that is not a Tiered.
	Level string
}

// Entry is a page that Scan lists.
type Entry struct {
	Key  Key
	Info Info
}

// Flusher is a Store that holds writes back.
type Flusher interface {
	// Flush returns when all that was put before will survive the end of the process and the machine.
	Flush(ctx context.Context) error
}

// Sized is a Store that knows how much it holds.
type Sized interface {
	Usage() Usage
}

// Usage is how full a store is.
type Usage struct {
	Pages         int64
	Bytes         int64 // of pages' contents
	UsedBytes     int64 // of the capacity, with all overhead
	CapacityBytes int64
}

// Evicter is a Store that drops pages to make room, and can hand them on.
type Evicter interface {
	// OnEvict sets what is called with each page that is evicted, before its memory is reused. The callee must release
	// the page and must not wait for the store. It is set once, before the store is used.
	OnEvict(func(key Key, page Page))
}

// Change is a page that a level has stored or removed.
type Change struct {
	Removed bool
	Key     Key
	Attr    Attr
	Bytes   int64
}

// Watcher is told of changes, in the order in which they happen to a key. It must not wait, nor call the store. Levels take
// one in their options; Reporter turns changes into KV events.
type Watcher interface {
	Changed(c Change)
}
