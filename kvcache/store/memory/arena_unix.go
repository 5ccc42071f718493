//go:build unix

package memory

import "syscall"

func mapArena(bytes int) ([]byte, error) {
	return syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

func unmapArena(b []byte) error { return syscall.Munmap(b) }
