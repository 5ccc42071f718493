package fs

import (
	"fmt"
	"syscall"
)

func fileSystemUse(path string) (used float64, bytes int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	// What the superuser keeps back is not there for us.
	total := s.Blocks - s.Bfree + s.Bavail
	if total == 0 {
		return 0, 0, fmt.Errorf("statfs %s: no blocks", path)
	}
	return float64(s.Blocks-s.Bfree) / float64(total), int64(total) * s.Bsize, nil
}
