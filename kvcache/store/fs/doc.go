// Package fs is the level of a store.Tiered that keeps pages on a file system that machines share: NFS, Lustre, a Kubernetes
// volume. It also reads and cleans the files that vLLM's and llm-d's file-system offloading writes.
//
//	s, err := fs.Open(fs.Options{Dir: "/mnt/kv"})
//	c, err := fs.NewCleaner(s, fs.CleanerOptions{MaxBytes: 10 << 40}) // one of the machines, or several
//	go c.Run(ctx)
//
// # How it works
//
// A page is a file: its header and checksum (package frame), then its bytes. It is written under a temporary name and renamed,
// so many writers need no lock, and readers see a whole file or none. File names are digests of keys; the keys are in the
// files. A file's modification time is when its page was last used, to within ten minutes, or until when it is pinned, so that
// all machines know; a Cleaner deletes the oldest files until there is room.
//
// [Offload] is a store.Store of the other layout: <root>/<model>_<fingerprint>_r<rank>/<hhh>/<hh>_g<group>/<hash>.bin. A
// namespace is the folder's name without the rank, and a key's Hash the digest in bytes. It does not write. Those files have
// no checksum: what a disk has damaged is returned as it is.
//
// Calls into the file system are made by Depth goroutines. A caller whose context ends leaves at once, even if a server hangs.
//
// # Guarantees and caveats
//
//   - A Store returns exactly the bytes that were put, or an error; a damaged file is deleted.
//   - What was put is durable when the file system says so: Sync makes each Put wait for that.
//   - A page that is pinned or was used within the Cleaner's MinAge is not deleted, by Cleaners that see the same clock.
//   - Changes that another machine makes are not told to the Watcher.
//   - Stat, Scan and Clean read the file system each time: nothing is remembered.
package fs
