package storetest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Map is a Store without limits that keeps pages in a map. The zero value is ready.
type Map struct {
	mu     sync.Mutex
	pages  map[store.Key]mapped
	closed bool
}

type mapped struct {
	value []byte
	attr  store.Attr
}

func (m *Map) begin(ctx context.Context, key store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed {
		return store.ErrClosed
	}
	return nil
}

// Put stores a copy of the value.
func (m *Map) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := attr.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, key); err != nil {
		return err
	}
	if m.pages == nil {
		m.pages = map[store.Key]mapped{}
	}
	key.Namespace, key.Hash, attr.Parent = strings.Clone(key.Namespace), strings.Clone(key.Hash), strings.Clone(attr.Parent)
	m.pages[key] = mapped{bytes.Clone(value), attr}
	return nil
}

// Get returns a page.
func (m *Map) Get(ctx context.Context, key store.Key) (store.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, key); err != nil {
		return store.Page{}, err
	}
	p, ok := m.pages[key]
	if !ok {
		return store.Page{}, store.ErrNotFound
	}
	return store.NewPage(p.value, p.attr, nil, 0), nil
}

// Stat tells of a page.
func (m *Map) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	p, err := m.Get(ctx, key)
	return store.Info{Bytes: int64(len(p.Bytes())), Attr: p.Attr()}, err
}

// Delete removes a page.
func (m *Map) Delete(ctx context.Context, key store.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, key); err != nil {
		return err
	}
	delete(m.pages, key)
	return nil
}

// Pin has nothing to do: a Map evicts nothing.
func (m *Map) Pin(ctx context.Context, key store.Key, _ time.Duration) error {
	p, err := m.Get(ctx, key)
	p.Release()
	return err
}

// Scan lists the pages that are there when it begins.
func (m *Map) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		m.mu.Lock()
		pages, closed := maps.Clone(m.pages), m.closed
		m.mu.Unlock()
		if closed {
			yield(store.Entry{}, store.ErrClosed)
			return
		}
		for k, p := range pages {
			if namespace != "" && k.Namespace != namespace {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(store.Entry{Key: k, Info: store.Info{Bytes: int64(len(p.value)), Attr: p.attr}}, nil) {
				return
			}
		}
	}
}

// Close forgets all pages.
func (m *Map) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages, m.closed = nil, true
	return nil
}

// Keys lists what is there, sorted by name.
func (m *Map) Keys() []store.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Keys(m.pages), func(a, b store.Key) int { return strings.Compare(a.String(), b.String()) })
}
