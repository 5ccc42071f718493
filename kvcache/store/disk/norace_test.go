//go:build !race

package disk

const crashStride = 1
