package store

import (
	"context"
	"fmt"
	"sync"
)

// Batcher is a Store that has a better way for many keys than one after another. Results are by index of the key; a whole
// batch does not fail for one key.
type Batcher interface {
	GetBatch(ctx context.Context, keys []Key, pages []Page, errs []error)
	PutBatch(ctx context.Context, items []Item, errs []error)
	StatBatch(ctx context.Context, keys []Key, infos []Info, errs []error)
}

// Item is a page to put.
type Item struct {
	Key   Key
	Value []byte
	Attr  Attr
}

// batchWorkers is how many keys of a batch are under way at once in a store that is no Batcher.
const batchWorkers = 16

// GetBatch gets many pages: pages[i] and errs[i] are those of keys[i]. Pages without an error are to be released. It panics
// if the slices differ in length, as all functions for batches do.
func GetBatch(ctx context.Context, s Store, keys []Key, pages []Page, errs []error) {
	same(len(keys), len(pages), len(errs))
	if b, ok := s.(Batcher); ok {
		b.GetBatch(ctx, keys, pages, errs)
		return
	}
	each(len(keys), func(i int) { pages[i], errs[i] = s.Get(ctx, keys[i]) })
}

// PutBatch puts many pages.
func PutBatch(ctx context.Context, s Store, items []Item, errs []error) {
	same(len(items), len(errs), len(errs))
	if b, ok := s.(Batcher); ok {
		b.PutBatch(ctx, items, errs)
		return
	}
	each(len(items), func(i int) { errs[i] = s.Put(ctx, items[i].Key, items[i].Value, items[i].Attr) })
}

// StatBatch stats many pages.
func StatBatch(ctx context.Context, s Store, keys []Key, infos []Info, errs []error) {
	same(len(keys), len(infos), len(errs))
	if b, ok := s.(Batcher); ok {
		b.StatBatch(ctx, keys, infos, errs)
		return
	}
	each(len(keys), func(i int) { infos[i], errs[i] = s.Stat(ctx, keys[i]) })
}

// Resident returns how many keys, of a prefix in order, are there before the first that is not. An error other than of an
// absent page ends the prefix too and is returned.
func Resident(ctx context.Context, s Store, keys []Key) (int, error) {
	infos, errs := make([]Info, len(keys)), make([]error, len(keys))
	StatBatch(ctx, s, keys, infos, errs)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if Broken(err) {
			return i, err
		}
		return i, nil
	}
	return len(keys), nil
}

func same(keys, results, errs int) {
	if keys != results || keys != errs {
		panic(fmt.Sprintf("store: batch of %d keys, %d results and %d errors", keys, results, errs))
	}
}

// each calls f for 0 to n-1, some at once.
func each(n int, f func(int)) {
	if n == 1 {
		f(0)
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	next := make(chan int)
	defer close(next)
	for range min(n, batchWorkers) {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
}
