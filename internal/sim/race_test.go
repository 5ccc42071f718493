//go:build race

package sim

// A simulation is single-threaded: long ones would only be slow under the race detector.
const racing = true
