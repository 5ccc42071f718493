package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// recover reads what is in the files.
func (s *Store) recover(ctx context.Context) error {
	names, err := s.files.list()
	if err != nil {
		return err
	}
	type found struct {
		record
		header frame.Header
		grave  bool
	}
	newest := map[evict.ID]found{}
	slices.Sort(names)
	for _, name := range names {
		number, ok := numberOf(name)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		g, err := s.load(name, number)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.number = max(s.number, number)
		if g == nil {
			continue
		}
		s.segments[number] = g
		err = entries(g.headers, func(e entry) {
			s.stamp = max(s.stamp, e.stamp())
			g.first = min(g.first, e.stamp())
			id := s.ids.ID(&e.header.Key)
			if old, ok := newest[id]; ok && old.stamp > e.stamp() || e.header.Bytes > g.size || e.length()+e.offset > g.size {
				return
			}
			newest[id] = found{
				record{
					segment: number, offset: e.offset, bytes: e.header.Bytes, stamp: e.stamp(),
					at: uint32(e.at), header: uint32(e.size),
				}, e.header, e.grave(),
			}
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	// The oldest first, so that they are the first to go.
	ids := make([]evict.ID, 0, len(newest))
	for id, f := range newest {
		if !f.grave {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b evict.ID) int { return cmp.Compare(newest[a].stamp, newest[b].stamp) })
	for _, id := range ids {
		f := newest[id]
		if s.makeRoom(s.ledger.Partition(f.header.Key.Namespace), f.length()) == nil {
			s.enter(id, f.record, &f.header)
			s.stats.Recovered++
		}
	}
	return nil
}

// load opens one segment. It is nil, and deleted, if there is no whole record in it.
func (s *Store) load(name string, number uint64) (*segment, error) {
	f, err := s.files.open(name)
	if err != nil {
		return nil, err
	}
	g := &segment{number: number, file: f, first: math.MaxUint64, sealed: true}
	err = func() error {
		if g.size, err = f.size(); err != nil {
			return err
		}
		g.end = g.size
		if g.headers, err = readFooter(f, g.size); err == nil {
			// A footer that is whole but not what this version writes is no reason to lose the records.
			if err = entries(g.headers, func(entry) {}); err == nil {
				return nil
			}
		}
		if !errors.Is(err, store.ErrCorrupt) {
			return err
		}
		s.stats.Scanned++
		if err := s.scan(g); err != nil {
			return err
		}
		if len(g.headers) > 0 {
			// The next time it need not be scanned. If this fails, it must be.
			_ = s.seal(g)
		}
		return nil
	}()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if len(g.headers) == 0 {
		return nil, errors.Join(f.Close(), s.files.remove(name))
	}
	return g, nil
}

// scan finds the whole records at the start of a segment.
func (s *Store) scan(g *segment) error {
	g.headers, g.end = nil, 0
	first := aligned(block)
	for g.end+block <= g.size {
		if _, err := g.file.ReadAt(first, g.end); err != nil {
			return err
		}
		h, n, err := frame.Parse(first)
		if err != nil {
			return nil
		}
		length := blocks(int64(n) + h.Bytes)
		if h.Bytes > g.size || g.end+length > g.size {
			return nil
		}
		b := s.bufs.get(length)
		_, err = g.file.ReadAt(b.bytes[:length], g.end)
		if err == nil {
			if h.Check(b.bytes[n:int64(n)+h.Bytes]) != nil {
				b.free()
				return nil
			}
			g.headers = appendEntry(g.headers, g.end, first[:n])
			g.end += length
		}
		b.free()
		if err != nil {
			return err
		}
	}
	return nil
}
