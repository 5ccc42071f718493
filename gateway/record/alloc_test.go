//go:build !race

package record_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway/record"
)

// Neither the request's goroutine nor the writing one allocates once buffers have their size.
func TestObserveDoesNotAllocate(t *testing.T) {
	r := recorder(t, record.Options{Path: filepath.Join(t.TempDir(), "trace")})
	rec := answered(0, 0, 2000)
	observed := uint64(0)
	observe := func() {
		r.Observe(rec)
		for observed++; r.Stats().Written < observed; { // so that one buffer is enough
			runtime.Gosched()
		}
	}
	for range 100 {
		observe()
	}
	require.Zero(t, testing.AllocsPerRun(1000, observe))
}
