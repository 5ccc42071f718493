package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/inferloom/inferloom/kvcache/follow"
)

func openFile(name string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return os.Open(name) }
}

// keep writes the index to its file until the context ends, and once more then.
func keep(ctx context.Context, c *config, f *follow.Follower, logger *slog.Logger) {
	var due <-chan time.Time
	if c.file != "" && c.every > 0 {
		t := time.NewTicker(c.every)
		defer t.Stop()
		due = t.C
	}
	for ended := false; !ended; {
		select {
		case <-due:
		case <-ctx.Done():
			ended = true
		}
		if c.file == "" {
			continue
		}
		if err := writeFile(c.file, f); err != nil {
			logger.Warn("the index could not be written", "file", c.file, "error", err)
		}
	}
}

// writeFile replaces a file as a whole.
func writeFile(name string, f *follow.Follower) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // fails once it is renamed
	err = f.WriteSnapshot(temporary)
	if err == nil {
		err = temporary.Sync()
	}
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}
