//go:build race

package accel_test

// The race detector allocates, and makes long searches slow.
const racing = true
