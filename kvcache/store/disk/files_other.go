//go:build !linux

package disk

import "os"

const directFlag = 0

func allocate(f *os.File, size int64) error { return f.Truncate(size) }

func syncData(f *os.File) error { return f.Sync() }
