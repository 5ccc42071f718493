// Package evict decides which page leaves a store that is full: LRU, SIEVE, S3-FIFO, W-TinyLFU, ARC, and PrefixCost, which knows
// that pages are blocks of prefixes. They are interchangeable behind Policy. Evaluate replays a trace against one and says
// what it would have saved.
//
// A Policy orders pages and holds none. A level calls it under its own lock: a Policy is used by one goroutine at a time. Pages
// are known by an ID, 64 bits of a hash of their key. Memory is some tens of bytes a page, without pointers, so that the
// garbage collector does not look at it; policies with a history remember about as many pages again as are resident, PrefixCost
// four times as many.
//
// None of the libraries of caches that were looked at fits: otter and ristretto evict on their own account and cannot be told
// that a page is pinned; the ARC of golang-lru counts pages, not bytes, and has no skip either.
package evict
