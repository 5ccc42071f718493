package main

import (
	"syscall"
	"time"
)

// sleep sleeps for a short time in the kernel: timers of the runtime can be a millisecond late while nothing else happens.
func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // woken early by a signal: what is too early is then waited for again
}
