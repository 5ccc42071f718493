package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

var errCrashed = errors.New("the machine is down")

// faulty is files in memory that tell apart what is durable and what is not, and fail as a test wants.
type faulty struct {
	mu     sync.Mutex
	now    map[string]*faultyFile // as the process sees it
	safe   map[string]*faultyFile // as the directory was when it was last synced
	steps  int                    // operations that change something, up to now
	until  int                    // the step that the machine does not survive; 0 for none
	before func(op, name string) error
}

type faultyFile struct {
	in      *faulty
	name    string
	durable []byte
	content []byte
	pending []pendingWrite // since the last sync
}

type pendingWrite struct {
	offset int64
	bytes  []byte
}

func newFaulty() *faulty {
	return &faulty{now: map[string]*faultyFile{}, safe: map[string]*faultyFile{}}
}

// step counts a change, and reports whether the machine still runs.
func (f *faulty) step(op, name string) error {
	if f.before != nil {
		do := f.before
		f.mu.Unlock()
		err := do(op, name)
		f.mu.Lock()
		if err != nil {
			return err
		}
	}
	f.steps++
	if f.until > 0 && f.steps >= f.until {
		return errCrashed
	}
	return nil
}

// crash returns what is left for the next process. If only the process has died, everything that was written is there, and a part of
// the write it died in. If the machine has, anything that was not synced may be there, or a part of it.
func (f *faulty) crash(machine bool, random *rand.Rand) *faulty {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := newFaulty()
	names := f.now
	if machine {
		names = maps.Clone(f.safe)
		for _, which := range []map[string]*faultyFile{f.now, f.safe} {
			for name, file := range which {
				if delete(names, name); random.IntN(2) == 0 || f.now[name] == f.safe[name] {
					names[name] = file
				}
			}
		}
	}
	for name, file := range names {
		content := slices.Clone(file.content)
		if machine {
			content = slices.Clone(file.durable)
			for _, w := range file.pending {
				for at := 0; at < len(w.bytes); at += 512 {
					if random.IntN(3) > 0 {
						copy(content[w.offset+int64(at):], w.bytes[at:min(at+512, len(w.bytes))])
					}
				}
			}
		}
		n := &faultyFile{in: left, name: name, durable: slices.Clone(content), content: content}
		left.now[name], left.safe[name] = n, n
	}
	return left
}

func (f *faulty) list() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.now)), nil
}

func (f *faulty) create(name string, size int64) (file, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("create", name); err != nil {
		return nil, err
	}
	n := &faultyFile{in: f, name: name, durable: make([]byte, size), content: make([]byte, size)}
	f.now[name] = n
	return n, nil
}

func (f *faulty) open(name string) (file, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.now[name]; ok {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

func (f *faulty) remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("remove", name); err != nil {
		return err
	}
	delete(f.now, name)
	return nil
}

func (f *faulty) sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step("syncdir", ""); err != nil {
		return err
	}
	f.safe = maps.Clone(f.now)
	return nil
}

func (f *faulty) close() error { return nil }

func (n *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	n.in.mu.Lock()
	defer n.in.mu.Unlock()
	if n.in.before != nil {
		do := n.in.before
		n.in.mu.Unlock()
		err := do("read", n.name)
		n.in.mu.Lock()
		if err != nil {
			return 0, err
		}
	}
	if off%block != 0 || len(p)%block != 0 {
		return 0, fmt.Errorf("read of %d bytes at %d is not aligned", len(p), off)
	}
	if off >= int64(len(n.content)) {
		return 0, io.EOF
	}
	return copy(p, n.content[off:]), nil
}

func (n *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	n.in.mu.Lock()
	defer n.in.mu.Unlock()
	if off%block != 0 || len(p)%block != 0 || off+int64(len(p)) > int64(len(n.content)) {
		return 0, fmt.Errorf("write of %d bytes at %d is not aligned or beyond the end", len(p), off)
	}
	err := n.in.step("write", n.name)
	p = slices.Clone(p)
	if err != nil && errors.Is(err, errCrashed) {
		if n.in.steps > n.in.until {
			return 0, err
		}
		p = p[:len(p)/2/512*512] // this is the write that it died in
	} else if err != nil {
		return 0, err
	}
	copy(n.content[off:], p)
	n.pending = append(n.pending, pendingWrite{off, p})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (n *faultyFile) size() (int64, error) { return int64(len(n.content)), nil }

func (n *faultyFile) sync() error {
	n.in.mu.Lock()
	defer n.in.mu.Unlock()
	if err := n.in.step("sync", n.name); err != nil {
		return err
	}
	n.durable = slices.Clone(n.content)
	n.pending = nil
	return nil
}

func (n *faultyFile) Close() error { return nil }
