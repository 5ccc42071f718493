package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/inferloom/inferloom/kvcache/store/internal/workers"
)

// CleanerOptions are the parameters of a Cleaner. One of MaxBytes and HighUse is required.
type CleanerOptions struct {
	// MaxBytes is what the pages may take together. Cleaning goes on until they take a tenth less.
	MaxBytes int64
	// HighUse is the part of the file system in use, by anybody, from which on to clean, and LowUse the part at which to stop;
	// both between 0 and 1, and LowUse by default HighUse less a tenth.
	HighUse, LowUse float64
	// MinAge keeps files that were used so recently; 0 means a minute.
	MinAge time.Duration
	// Interval is between two looks; 0 means a minute. Several Cleaners of one folder do no harm.
	Interval time.Duration
}

// Cleaner deletes the files that were not used for the longest time.
type Cleaner struct {
	o    CleanerOptions
	tree tree
	// use returns the part of the file system that is in use, and its size.
	use func(path string) (used float64, bytes int64, err error)
}

// tree is a layout, as a Cleaner sees it.
type tree struct {
	root string
	io   *workers.Pool
	now  func() time.Time
	ours func(path string) bool // a page
	dead func(path string) bool // a file that nobody will finish, if it is old
	drop func(path string) bool // reports whether it did
}

// Cleaned is what a Cleaner did.
type Cleaned struct {
	Pages, Bytes               int64 // that are there now
	DeletedPages, DeletedBytes int64
	Abandoned                  int64 // unfinished files of writers that have died, deleted
}

// Cleanable is a Store or an Offload.
type Cleanable interface{ tree() tree }

// NewCleaner makes a Cleaner of what is in a store's folder. It reports every invalid option at once.
func NewCleaner(s Cleanable, o CleanerOptions) (*Cleaner, error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.MaxBytes < 0 {
		wrong("MaxBytes is %d, want 0 or more", o.MaxBytes)
	}
	if !(o.HighUse >= 0 && o.HighUse <= 1) {
		wrong("HighUse is %v, want 0 to 1", o.HighUse)
	}
	if o.MaxBytes == 0 && o.HighUse == 0 {
		wrong("MaxBytes and HighUse are 0, want one of them")
	}
	if o.LowUse == 0 {
		o.LowUse = max(o.HighUse-0.1, 0)
	}
	if !(o.LowUse >= 0 && o.LowUse <= o.HighUse) {
		wrong("LowUse is %v, want 0 to HighUse", o.LowUse)
	}
	if o.MinAge < 0 || o.Interval < 0 {
		wrong("MinAge is %v and Interval %v, want 0 or more", o.MinAge, o.Interval)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("cleaner: %w", err)
	}
	o.MinAge, o.Interval = cmp.Or(o.MinAge, time.Minute), cmp.Or(o.Interval, time.Minute)
	return &Cleaner{o: o, tree: s.tree(), use: fileSystemUse}, nil
}

// Run cleans at intervals until the context ends, whose error it returns. Errors of the file system are handed to report, which
// may be nil, and do not end it.
func (c *Cleaner) Run(ctx context.Context, report func(Cleaned, error)) error {
	t := time.NewTicker(c.o.Interval)
	defer t.Stop()
	for {
		done, err := c.Clean(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if report != nil {
			report(done, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Clean looks once, and deletes what it must. It holds 100 bytes or so a file in memory while it looks.
func (c *Cleaner) Clean(ctx context.Context) (Cleaned, error) {
	var d Cleaned
	now := c.tree.now()
	var files []found
	for f, err := range walk(ctx, c.tree.io, c.tree.root, func(name string) bool { return c.tree.ours(name) || c.tree.dead(name) }) {
		if err != nil {
			return d, err
		}
		if !c.tree.ours(f.path) {
			if f.used.Before(now.Add(-abandonedAfter)) && os.Remove(f.path) == nil {
				d.Abandoned++
			}
			continue
		}
		d.Pages++
		d.Bytes += f.bytes
		if f.used.Before(now.Add(-c.o.MinAge)) {
			files = append(files, f)
		}
	}
	excess, err := c.excess(d.Bytes)
	if err != nil || excess <= 0 {
		return d, err
	}
	slices.SortFunc(files, func(a, b found) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if excess <= 0 {
			break
		}
		deleted := make(chan bool, 1)
		err := c.tree.io.Do(ctx, func() error {
			// It may have been used or pinned since it was listed.
			i, err := os.Stat(f.path)
			deleted <- err == nil && i.ModTime().Equal(f.used) && c.tree.drop(f.path)
			return nil
		}, nil, nil)
		if err != nil {
			return d, err
		}
		if !<-deleted {
			continue
		}
		d.DeletedPages++
		d.DeletedBytes += f.bytes
		excess -= f.bytes
	}
	d.Pages -= d.DeletedPages
	d.Bytes -= d.DeletedBytes
	return d, nil
}

// excess is how many bytes have to go.
func (c *Cleaner) excess(bytes int64) (int64, error) {
	excess := int64(0)
	if c.o.MaxBytes > 0 && bytes > c.o.MaxBytes {
		excess = bytes - c.o.MaxBytes/10*9
	}
	if c.o.HighUse > 0 {
		used, size, err := c.use(c.tree.root)
		if err != nil {
			return 0, err
		}
		if used >= c.o.HighUse {
			excess = max(excess, int64((used-c.o.LowUse)*float64(size)))
		}
	}
	return excess, nil
}
