package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/disk"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/memory"
)

// Two levels: what is evicted from memory goes to the disk, and comes back when it is asked for.
func ExampleNewTiered() {
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	fast, err := memory.New(memory.Options{CapacityBytes: 32 << 20, Policy: evict.PrefixCost})
	if err != nil {
		fmt.Println(err)
		return
	}
	slow, err := disk.Open(ctx, disk.Options{Dir: dir, CapacityBytes: 128 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{
		{Name: "cpu", Store: fast},
		{Name: "disk", Store: slow, Write: store.WriteBack},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	key := func(n int) store.Key {
		return store.Key{Namespace: "llama", Hash: fmt.Sprintf("block %03d", n)}
	}
	for n := range 50 {
		if err := s.Put(ctx, key(n), make([]byte, 900<<10), store.Attr{}); err != nil {
			fmt.Println(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		fmt.Println(err)
	}
	info, err := s.Stat(ctx, key(0))
	fmt.Println(info.Level, err)

	page, err := s.Get(ctx, key(0))
	fmt.Println(len(page.Bytes()), err)
	page.Release()
	_, err = s.Get(ctx, store.Key{Namespace: "another tenant", Hash: key(0).Hash})
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// disk <nil>
	// 921600 <nil>
	// true
}
