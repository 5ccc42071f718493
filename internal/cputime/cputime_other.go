//go:build !unix

package cputime

import "time"

// Used is the processor time that this process has used; false where the system does not tell.
func Used() (time.Duration, bool) { return 0, false }
