package memory

import "syscall"

// advise asks for huge pages, which make copies faster. It is only a wish.
func advise(b []byte) { _ = syscall.Madvise(b, 14 /* MADV_HUGEPAGE */) }
