//go:build !linux

package prefix

func slab[T any](n int) []T { return make([]T, n) }
