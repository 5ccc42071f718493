package record_test

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway/record"
)

// The file is a pipe that nobody reads: the disk stands still, and requests do not.
func TestASlowDiskHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	r := recorder(t, record.Options{Path: path, Queue: 100})
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	const n = 5000 // about 500 KB, where a pipe takes 64 KB
	began := time.Now()
	for i := range n {
		r.Observe(answered(i, uint32(i), 64))
	}
	require.Less(t, time.Since(began), 5*time.Second)
	require.Greater(t, r.Stats().Dropped, uint64(n/2))

	content := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(pipe)
		content <- b
	}()
	require.NoError(t, r.Close())
	require.NoError(t, pipe.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	require.NotEmpty(t, <-content)
	require.NoError(t, pipe.Close())
	stats := r.Stats()
	require.EqualValues(t, n, stats.Written+stats.Dropped)
}
