package storetest

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Fault is a Store in front of another that fails as it is told. Its methods may be called at any time.
type Fault struct {
	store.Store
	before atomic.Pointer[func(ctx context.Context, op string) error]
	calls  atomic.Int64
}

// NewFault makes a Fault that does not fail yet.
func NewFault(s store.Store) *Fault { return &Fault{Store: s} }

// Before sets what is called before each operation, which is named "put", "get", "stat", "delete", "pin" or "scan". Its error is the
// operation's. Nil ends it.
func (f *Fault) Before(do func(ctx context.Context, op string) error) {
	if do == nil {
		f.before.Store(nil)
		return
	}
	f.before.Store(&do)
}

// Fail makes all operations fail.
func (f *Fault) Fail(err error) { f.Before(func(context.Context, string) error { return err }) }

// Hang makes all operations wait until their context ends.
func (f *Fault) Hang() {
	f.Before(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
}

// Calls counts the operations.
func (f *Fault) Calls() int64 { return f.calls.Load() }

func (f *Fault) fault(ctx context.Context, op string) error {
	f.calls.Add(1)
	if do := f.before.Load(); do != nil {
		return (*do)(ctx, op)
	}
	return nil
}

// Put is the store's, if it does not fail.
func (f *Fault) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := f.fault(ctx, "put"); err != nil {
		return err
	}
	return f.Store.Put(ctx, key, value, attr)
}

// Get is the store's, if it does not fail.
func (f *Fault) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := f.fault(ctx, "get"); err != nil {
		return store.Page{}, err
	}
	return f.Store.Get(ctx, key)
}

// Stat is the store's, if it does not fail.
func (f *Fault) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	if err := f.fault(ctx, "stat"); err != nil {
		return store.Info{}, err
	}
	return f.Store.Stat(ctx, key)
}

// Delete is the store's, if it does not fail.
func (f *Fault) Delete(ctx context.Context, key store.Key) error {
	if err := f.fault(ctx, "delete"); err != nil {
		return err
	}
	return f.Store.Delete(ctx, key)
}

// Pin is the store's, if it does not fail.
func (f *Fault) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	if err := f.fault(ctx, "pin"); err != nil {
		return err
	}
	return f.Store.Pin(ctx, key, lease)
}

// Scan is the store's, if it does not fail.
func (f *Fault) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	if err := f.fault(ctx, "scan"); err != nil {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, err) }
	}
	return f.Store.Scan(ctx, namespace)
}
