//go:build race

package disk

// crashStride is how many moments are passed over: the race detector looks for other mistakes than TestCrashes, and is slow.
const crashStride = 7
