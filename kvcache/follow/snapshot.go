package follow

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// A snapshot is this line, the length of the members' JSON, the JSON, and the index's own snapshot.
const magic = "inferloom-kvfollow-1\n"

const maxMembers = 64 << 20 // bytes of JSON

// member is an engine in a snapshot, and how far its events are in it.
type member struct {
	Engine Engine
	Cursor events.Cursor
}

// WriteSnapshot writes the index, and for each engine how far its events are in it. Events wait while the snapshot is made in
// memory, not while it is written.
func (f *Follower) WriteSnapshot(w io.Writer) error {
	b, err := f.snapshot()
	if err != nil {
		return fmt.Errorf("follow: snapshot: %w", err)
	}
	_, err = w.Write(b)
	return err
}

func (f *Follower) snapshot() ([]byte, error) {
	var members []member
	for _, d := range f.sorted() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closed {
			members = append(members, member{d.engine, d.cursor})
		}
	}
	head, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(binary.AppendUvarint([]byte(magic), uint64(len(head))))
	b.Write(head)
	err = f.o.Index.Snapshot(b)
	return b.Bytes(), err
}

func readMembers(r *bufio.Reader) ([]member, error) {
	line := make([]byte, len(magic))
	if _, err := io.ReadFull(r, line); err != nil || string(line) != magic {
		return nil, fmt.Errorf("it does not begin with %q", magic)
	}
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxMembers {
		return nil, errors.New("its list of engines has no sound length")
	}
	head := make([]byte, 0, min(n, 1<<20)) // a length alone reserves nothing
	for buf := make([]byte, 4096); uint64(len(head)) < n; {
		part := buf[:min(uint64(len(buf)), n-uint64(len(head)))]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, fmt.Errorf("its list of engines: %w", err)
		}
		head = append(head, part...)
	}
	var members []member
	if err := json.Unmarshal(head, &members); err != nil {
		return nil, fmt.Errorf("its list of engines: %w", err)
	}
	return members, nil
}

// Release lets go what Options.Hold holds, without a snapshot.
func (f *Follower) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.hold {
		return
	}
	f.hold = false
	for _, d := range f.feeds {
		close(d.gate.open)
	}
}

// The waits of Join: for engines without a replay to be heard of, and between two attempts to get a snapshot that is as far as
// what was heard.
const (
	joinSettle  = time.Second
	joinPause   = 100 * time.Millisecond
	joinPatient = 20
)

// Join begins with somebody else's snapshot, which fetch opens, a new one each time. It needs Options.Hold, and Run to be
// running. Adopt, if not nil, is asked about engines of the snapshot that are not followed, and returns how they are to be.
//
// Engines without a replay endpoint are listened to first, so that the snapshot and what is heard overlap. With an error,
// everything is held still: Join can be tried again, or Release begin with nothing. Set, Add and Remove wait while the index is
// loaded.
func (f *Follower) Join(ctx context.Context, fetch func(context.Context) (io.ReadCloser, error), adopt func(Engine) (Engine, bool)) error {
	if err := f.join(ctx, fetch, adopt); err != nil {
		return fmt.Errorf("follow: join: %w", err)
	}
	return nil
}

func (f *Follower) join(ctx context.Context, fetch func(context.Context) (io.ReadCloser, error), adopt func(Engine) (Engine, bool)) error {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if !hold {
		return errors.New("nothing is held: Options.Hold is off, or it was let go")
	}
	if adopt != nil {
		if err := f.adopt(ctx, fetch, adopt); err != nil {
			return err
		}
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		again, err := f.load(ctx, fetch, attempt < joinPatient)
		if err != nil || !again {
			return err
		}
		if err := sleep(ctx, joinPause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// adopt follows the engines of a snapshot that are not followed yet.
func (f *Follower) adopt(ctx context.Context, fetch func(context.Context) (io.ReadCloser, error), adopt func(Engine) (Engine, bool)) error {
	body, err := fetch(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	members, err := readMembers(bufio.NewReader(body))
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	known := map[string]bool{}
	for _, e := range f.Engines() {
		known[e.Name] = true
	}
	for _, m := range members {
		if known[m.Engine.Name] {
			continue
		}
		if e, ok := adopt(m.Engine); ok {
			if err := f.Add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle waits until each engine without a replay has been heard, or has had time enough to know of the subscription.
func (f *Follower) settle(ctx context.Context) error {
	t := time.NewTimer(joinSettle)
	defer t.Stop()
	for _, d := range f.sorted() {
		if d.engine.Replay != "" {
			continue
		}
		select {
		case <-d.gate.held:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
	return nil
}

// load fetches a snapshot and begins with it. It asks for another one if, and only if it may, this one ends before what is held.
func (f *Follower) load(ctx context.Context, fetch func(context.Context) (io.ReadCloser, error), more bool) (again bool, err error) {
	body, err := fetch(ctx)
	if err != nil {
		return false, err
	}
	defer body.Close()
	r := bufio.NewReaderSize(body, 1<<16)
	members, err := readMembers(r)
	if err != nil {
		return false, fmt.Errorf("snapshot: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cursors := map[string]events.Cursor{}
	for _, m := range members {
		cursors[m.Engine.Name] = m.Cursor
		if d := f.feeds[m.Engine.Name]; d != nil && more && d.ahead(m.Cursor) {
			return true, nil
		}
	}
	err = f.o.Index.Restore(r, func(name string) (kvcache.Pod, bool) {
		if d := f.feeds[name]; d != nil {
			return d.engine.Pod, true
		}
		return kvcache.Pod{}, false
	})
	if err != nil {
		for _, d := range f.feeds {
			f.o.Index.Lost(d.engine.Pod)
		}
		return false, fmt.Errorf("snapshot: %w", err)
	}
	f.hold = false
	for name, d := range f.feeds {
		d.mu.Lock()
		d.cursor = cursors[name]
		d.joined = d.cursor.Next > 0
		d.mu.Unlock()
		close(d.gate.open)
	}
	return false, nil
}

// ahead reports whether what a feed holds back begins behind a cursor.
func (d *feed) ahead(c events.Cursor) bool {
	select {
	case <-d.gate.held:
		return d.gate.first > c.Next
	default:
		return false
	}
}
