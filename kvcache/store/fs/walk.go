package fs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/inferloom/inferloom/kvcache/store/internal/workers"
)

// found is a file.
type found struct {
	path  string
	bytes int64
	used  time.Time
}

// walk lists the files under a folder that are wanted, folder by folder: it holds the names of one folder at each depth. What
// vanishes meanwhile is passed over.
func walk(ctx context.Context, io *workers.Pool, root string, want func(path string) bool) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		var folder func(path string) bool
		folder = func(path string) bool {
			listed := make(chan []found, 1)
			var folders []string
			err := io.Do(ctx, func() error {
				files, below, err := list(path, want)
				folders = below
				listed <- files
				return err
			}, nil, nil)
			if err != nil {
				yield(found{}, err)
				return false
			}
			for _, f := range <-listed {
				if !yield(f, nil) {
					return false
				}
			}
			for _, f := range folders {
				if !folder(f) {
					return false
				}
			}
			return true
		}
		folder(root)
	}
}

func list(path string, want func(string) bool) (files []found, folders []string, err error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if e.IsDir() {
			folders = append(folders, name)
			continue
		}
		if !e.Type().IsRegular() || !want(name) {
			continue
		}
		i, err := e.Info()
		if err != nil {
			continue // it is gone
		}
		files = append(files, found{name, i.Size(), i.ModTime()})
	}
	return files, folders, err
}
