// Package store keeps KV-cache pages that no longer fit into GPU memory: in CPU memory, on local disks, on a shared file
// system, in a remote store. A page is bytes that an engine wrote and alone understands; here it is moved, never read.
//
// A [Store] is one place for pages, called a level when it is part of a [Tiered], which is several Stores behind the same
// interface, fast and small to slow and large. The levels are packages of their own: memory, disk and fs need nothing but
// the standard library; redis, s3 and peer bring their clients.
//
//	fast, err := memory.New(memory.Options{CapacityBytes: 8 << 30})
//	slow, err := disk.Open(disk.Options{Dir: "/nvme/kv", CapacityBytes: 200 << 30})
//	s, err := store.NewTiered(store.TieredOptions{Levels: []store.Level{{Name: "cpu", Store: fast}, {Name: "disk", Store: slow}}})
//
//	err = s.Put(ctx, key, bytes, store.Attr{})
//	page, err := s.Get(ctx, key)
//	use(page.Bytes())
//	page.Release()
//
// # Keys and pages
//
// A [Key] is a namespace, the hash of a block, the number of its cache group and the rank that wrote it. The hash is that of
// the whole prefix up to the block, as engines compute it, so equal keys mean equal pages: a page is written once and never
// changed. A Put of a key that is resident may therefore keep the page that is there, or replace it; it never mixes them.
//
// [Page] is what Get returns. Its bytes may be the level's own memory, so they must not be changed, and they stay as they are
// until Release, whatever happens to the key: a page that is deleted, replaced or evicted while it is read is gone from the
// level at once, and its memory is reused only after the last Release.
//
// [Attr] says where in its prefix a page stands and what it would cost to compute again. It serves eviction and events; a
// page without it is kept and found like any other, is evicted by recency alone, and no event tells of it.
//
// # Guarantees of every Store
//
//   - Get returns exactly the bytes of a Put under the same key, or an error. A page that a disk, a network or a peer has
//     damaged is an error that is [ErrCorrupt], and is removed.
//   - No key reads a page of another namespace, whatever hashes collide.
//   - A Store is a cache: a page may be gone at any time ([ErrNotFound]), unless it is pinned.
//   - All methods are safe for concurrent use, honour the context, and may be called after Close, which they answer with
//     [ErrClosed]. Pages that were read before Close remain valid until they are released, and Close does not wait for that.
//
// # What this package does not do
//
// It moves no GPU memory: that takes the vendors' libraries and is the engine's job. [Device] is the interface of such a
// mover and comes with a simulated implementation, which says so. Nothing here is encrypted.
package store
