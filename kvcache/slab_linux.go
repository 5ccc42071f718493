package kvcache

import (
	"syscall"
	"unsafe"
)

// slab makes a slice that is filled over time and read at random. Where it is large the kernel is asked for huge pages: a
// lookup touches a handful of random places, and without them most of its time goes to page-table walks.
func slab[T any](n int) []T {
	s := make([]T, n)
	const page, huge = 4096, 2 << 20
	if size := uintptr(n) * unsafe.Sizeof(s[0]); size >= huge {
		base := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
		skip := -base & (page - 1)
		whole := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), skip)), (size-skip)&^(page-1))
		_ = syscall.Madvise(whole, syscall.MADV_HUGEPAGE) // advice: nothing depends on it
	}
	return s
}
