//go:build !linux

package kvcache

func slab[T any](n int) []T { return make([]T, n) }
