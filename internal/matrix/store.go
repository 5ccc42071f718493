package matrix

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// entry is a line of a store: a run, or a capacity that was found.
type entry struct {
	key
	Capacity float64 `json:"capacity,omitempty"`
	Figures
}

// store is a file of runs, a JSON object a line, in the order in which they ended.
type store struct {
	mu    sync.Mutex
	file  *os.File // nil: nothing is kept
	known map[key]entry
}

// openStore reads what a file has, or makes it. A last line without an end, which an interrupt leaves behind, is cut off. Lines are
// appended whole, so that two matrices can share a file.
func openStore(path string) (*store, error) {
	s := &store{known: map[key]entry{}}
	if path == "" {
		return s, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	s.file = file
	whole := int64(0)
	in := bufio.NewReader(file)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		var e entry
		if err == nil {
			err = json.NewDecoder(bytes.NewReader(line)).Decode(&e)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("%s line %d: %w", path, number, err)
		}
		whole += int64(len(line))
		s.known[e.key] = e
	}
	if err := file.Truncate(whole); err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

func (s *store) get(k key) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.known[k]
	return e, ok
}

func (s *store) put(e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[e.key] = e
	if s.file == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = s.file.Write(append(line, '\n'))
	return err
}

// close may be called twice.
func (s *store) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
