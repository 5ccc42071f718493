//go:build !unix

package memory

func mapArena(bytes int) ([]byte, error) { return make([]byte, bytes), nil }

func unmapArena([]byte) error { return nil }
