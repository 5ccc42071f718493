package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// files is the part of a file system that a Store needs. The tests have one that forgets, fails and hangs.
type files interface {
	// list returns the names of all files, in any order.
	list() ([]string, error)
	// create makes a file of a size, all zeros.
	create(name string, size int64) (file, error)
	open(name string) (file, error)
	remove(name string) error
	// sync makes what was created and removed survive a crash of the machine.
	sync() error
	close() error
}

// file is read and written at offsets, and with buffers, that are multiples of block.
type file interface {
	io.ReaderAt
	io.WriterAt
	size() (int64, error)
	sync() error
	Close() error
}

// directory is files of the operating system.
type directory struct {
	path   string
	lock   *os.File
	direct bool
}

const lockName = "lock"

// openDirectory makes the directory if need be, takes its lock, and tries whether it can do without the page cache.
func openDirectory(path string, buffered bool) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: another process has this directory: %w", path, err)
	}
	d := &directory{path: path, lock: lock}
	d.direct = !buffered && d.probe()
	return d, nil
}

// probe writes and reads a block directly: opening the file may work where that does not.
func (d *directory) probe() bool {
	name := filepath.Join(d.path, "probe")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_TRUNC|directFlag, 0o600)
	if err != nil || directFlag == 0 {
		return false
	}
	defer os.Remove(name)
	defer f.Close()
	b := aligned(block)
	if _, err := f.WriteAt(b, 0); err != nil {
		return false
	}
	_, err = f.ReadAt(b, 0)
	return err == nil
}

func (d *directory) flags() int {
	if d.direct {
		return directFlag
	}
	return 0
}

func (d *directory) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *directory) create(name string, size int64) (file, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|d.flags(), 0o600)
	if err != nil {
		return nil, err
	}
	if err := allocate(f, size); err != nil {
		f.Close()
		os.Remove(path)
		return nil, &fs.PathError{Op: "allocate", Path: path, Err: err}
	}
	return osFile{f}, nil
}

func (d *directory) open(name string) (file, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDWR|d.flags(), 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *directory) remove(name string) error { return os.Remove(filepath.Join(d.path, name)) }

func (d *directory) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) close() error { return d.lock.Close() }

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

func (f osFile) sync() error { return syncData(f.File) }
