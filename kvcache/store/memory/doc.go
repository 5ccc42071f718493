// Package memory is the level of a store.Tiered that keeps pages in CPU memory, in an arena that the Go garbage collector does
// not know of: it neither scans nor counts it, however large.
//
//	s, err := memory.New(memory.Options{CapacityBytes: 8 << 30})
//
// # How it works
//
// The arena is one anonymous mapping, cut into slabs of equal size. A slab serves pages of one class: sizes are rounded up by at
// most 1/64, to a multiple of 4 KiB, which is also what a small page takes. A slab that is empty can serve another
// class, and a class that finds no room evicts, by the policy and then the emptiest slab of another class. Behind its bytes each page
// holds its key and attributes, about 128 bytes.
//
// Get takes no lock and allocates nothing: it walks a chain of a hash table, takes a reference, and compares the whole key. Its
// uses are noted in a ring that the next Put reads for the policy; when there are more than the ring holds, some uses are not
// seen. Put copies the bytes without the lock.
//
// # Guarantees and caveats
//
//   - A page that is being read is never overwritten: its memory is free after its last Release, and until then it counts as used.
//   - The contents are not checksummed: they do not leave the machine's memory.
//   - A Put of a resident key keeps what is there if it has the same length.
//   - The largest page is one slab: 1/32 of the capacity, at least 1 MiB and at most 64 MiB.
//   - On the Go heap the index takes 48 bytes a page, the policy 60 to 500 (PrefixCost with its history), none of it with pointers.
//   - Where there is no mmap (Windows), the arena is one large Go allocation.
package memory
