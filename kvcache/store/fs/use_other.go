//go:build !linux

package fs

import "github.com/inferloom/inferloom/kvcache/store"

func fileSystemUse(string) (used float64, bytes int64, err error) { return 0, 0, store.ErrUnsupported }
