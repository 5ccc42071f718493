package disk

import (
	"errors"
	"os"
	"syscall"
)

const directFlag = syscall.O_DIRECT

// allocate reserves the space of a file, so that a full disk shows now and not at some later page.
func allocate(f *os.File, size int64) error {
	err := control(f, func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return f.Truncate(size)
	}
	return err
}

func syncData(f *os.File) error { return control(f, syscall.Fdatasync) }

func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) {
		for {
			if failed = do(int(fd)); !errors.Is(failed, syscall.EINTR) {
				return
			}
		}
	}); err != nil {
		return err
	}
	return failed
}
