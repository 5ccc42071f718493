// Package disk is the level of a store.Tiered that keeps pages on a local disk, in a log of checksummed segments.
//
//	s, err := disk.Open(ctx, disk.Options{Dir: "/nvme/kv", CapacityBytes: 200 << 30})
//
// # How it works
//
// Pages are appended to segment files of fixed size, past the page cache where the file system can (O_DIRECT), each behind a header
// that names it and has its checksum (package frame), aligned to 4 KiB. A full segment gets a footer with all its headers.
// What is resident, and where, is in memory: about 250 bytes a page, most of them the headers of the footers to be.
//
// The policy evicts pages one by one, which leaves holes in segments. The segment with the least left in it is emptied by copying
// that to another segment, and deleted. It is copied only if it is at most half full; otherwise the policy first evicts more.
// So at most as many bytes are written for copies as for new pages: write amplification is at most 2, and Stats has what it is.
//
// Open reads the footers, and of segments without one the headers, checking the pages behind them, up to the first that is not
// whole.
//
// Reads and writes are done by Depth goroutines. A caller whose context ends leaves at once, even if the device hangs.
//
// # Guarantees
//
//   - Get checks the whole key and the checksum. What is not exactly what was put is store.ErrCorrupt, and gone.
//   - After Flush, what was put or deleted before survives a crash of the process and the machine, as long as it is not evicted.
//     Without Flush, pages survive the process, and segments the machine once they are full.
//   - After a crash at any moment Open finds some of what was put, whole. A page that was deleted may be back if the delete was not
//     flushed; one that was evicted may be back, and so may one that was deleted after it was evicted.
//   - An error of the device is returned with the file's name, and is errors.Is its errno. A segment that could not be written
//     is closed and its whole pages stay readable. A full file system is store.ErrFull.
//   - One process has the directory at a time.
package disk
