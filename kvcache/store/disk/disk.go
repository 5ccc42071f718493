package disk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
	"github.com/inferloom/inferloom/kvcache/store/internal/ledger"
	"github.com/inferloom/inferloom/kvcache/store/internal/workers"
)

// Options are the parameters of a Store. Dir and CapacityBytes are required.
type Options struct {
	// Dir belongs to the Store, which makes it if need be.
	Dir string
	// CapacityBytes bounds the segments' files, at least 8 of them, but for one that is short-lived.
	CapacityBytes int64
	// SegmentBytes is the size of a segment and the bound of a page; 0 means a 32nd of the capacity, 4 to 256 MiB.
	SegmentBytes int64
	// Policy says what is evicted. The zero value is LRU.
	Policy evict.Kind
	// Quota returns how many bytes a namespace may take, 0 for as many as there are; nil means no quotas.
	Quota func(namespace string) int64
	// Depth is how many reads and writes are under way at once; 0 means 32.
	Depth int
	// Buffered uses the page cache even where O_DIRECT works.
	Buffered bool
	// CloseTimeout bounds how long Close waits for a device that hangs; 0 means 10 seconds.
	CloseTimeout time.Duration
	// Watcher is told of pages that are found by Open, stored and removed; nil tells nobody.
	Watcher store.Watcher
	// Now is the clock of leases; nil is time.Now.
	Now func() time.Time
}

const (
	minSegments = 8
	minSegment  = 64 << 10
)

func (o *Options) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Dir == "" {
		wrong("Dir is empty")
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(max(o.CapacityBytes/32, 4<<20), 256<<20) / block * block
	}
	if o.SegmentBytes < minSegment || o.SegmentBytes > 1<<40 || o.SegmentBytes%block != 0 {
		wrong("SegmentBytes is %d, want %d to %d in blocks of %d", o.SegmentBytes, minSegment, int64(1<<40), block)
	} else if o.CapacityBytes < minSegments*o.SegmentBytes {
		wrong("CapacityBytes is %d, want at least %d segments of %d", o.CapacityBytes, minSegments, o.SegmentBytes)
	}
	if _, err := evict.New(o.Policy, 1); err != nil {
		wrong("Policy: %w", err)
	}
	if o.Depth < 0 {
		wrong("Depth is %d, want 0 or more", o.Depth)
	}
	if o.CloseTimeout < 0 {
		wrong("CloseTimeout is %v, want 0 or more", o.CloseTimeout)
	}
	o.Depth = cmp.Or(o.Depth, 32)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}

// Store is pages on a disk. It implements store.Store, store.Flusher and store.Sized.
type Store struct {
	o     Options
	files files
	ids   ledger.Hasher
	io    *workers.Pool
	bufs  buffers

	kick    chan struct{} // wakes maintain
	syncing chan struct{} // holds one while syncAll runs
	stop    context.CancelFunc
	stopped chan struct{} // maintain has ended

	mu       sync.Mutex
	closed   bool
	ledger   *ledger.Ledger
	index    map[evict.ID]record
	segments map[uint64]*segment
	active   *segment // for new pages, nil if there is none
	copies   *segment // for pages that move
	spare    *segment // the next active one
	spareErr error    // why there is no spare
	retired  []*segment
	room     chan struct{} // closed when spare or spareErr has changed
	progress chan struct{} // closed when a write has ended; nil if nobody waits
	writes   map[uint64]struct{}
	stamp    uint64 // of the last record
	number   uint64 // of the last segment
	unsynced bool   // files were created since the directory was synced
	lapsed   int64
	stats    Stats
}

// record says where a page is. It holds no pointer, so that the collector does not look at the index.
type record struct {
	segment uint64
	offset  int64
	bytes   int64
	stamp   uint64
	lease   int64 // Unix nanoseconds
	at      uint32
	header  uint32
	part    uint32
}

func (r *record) length() int64 { return blocks(int64(r.header) + r.bytes) }

// Stats counts what a Store has done since it was opened.
type Stats struct {
	// PutBytes is of pages that were put, WrittenBytes all that was written: pages, padding, headers, footers, and copies.
	PutBytes, WrittenBytes int64
	CopiedBytes            int64 // moved to empty segments
	Recovered              int64 // pages that Open found
	Scanned                int64 // segments without a footer, of those that Open found
	Evicted, Corrupt       int64 // pages
	Segments               int64
	Direct                 bool // the page cache is not used
}

// WriteAmplification is the bytes written for a byte put.
func (s Stats) WriteAmplification() float64 {
	return float64(s.WrittenBytes) / float64(max(s.PutBytes, 1))
}

// Open opens the store in a directory, with what is in it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("disk store: %w", err)
	}
	d, err := openDirectory(o.Dir, o.Buffered)
	if err != nil {
		return nil, fmt.Errorf("disk store: %w", err)
	}
	s, err := openFiles(ctx, o, d)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disk store: %w", err), d.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Direct = d.direct
	return s, nil
}

// openFiles opens a store in any files. The options are valid.
func openFiles(ctx context.Context, o Options, f files) (*Store, error) {
	// Some segments are being filled, written or emptied, or wait.
	n := o.CapacityBytes / o.SegmentBytes
	l, err := ledger.New(o.Policy, (n-4)*o.SegmentBytes, o.Quota)
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: o, files: f, ids: ledger.NewHasher(), ledger: l,
		kick: make(chan struct{}, 1), syncing: make(chan struct{}, 1), stopped: make(chan struct{}),
		index: map[evict.ID]record{}, segments: map[uint64]*segment{},
		room: make(chan struct{}), writes: map[uint64]struct{}{},
	}
	if err := s.recover(ctx); err != nil {
		for _, g := range s.segments {
			err = errors.Join(err, g.file.Close())
		}
		return nil, err
	}
	s.io = workers.New(o.Depth)
	ctx, s.stop = context.WithCancel(context.Background())
	go s.maintain(ctx)
	s.wake()
	return s, nil
}

func (s *Store) begin(ctx context.Context, key *store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return ctx.Err()
}

// find returns a key's record. The lock is held.
func (s *Store) find(key *store.Key) (evict.ID, record, bool) {
	id := s.ids.ID(key)
	r, ok := s.index[id]
	if !ok {
		return id, r, false
	}
	return id, r, frame.Names(s.header(&r), key)
}

// header is a record's, as it is in the footer to be.
func (s *Store) header(r *record) []byte {
	return s.segments[r.segment].headers[r.at : r.at+r.header]
}

// Put writes a page.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	header := frame.Size(key, &attr)
	length := blocks(int64(header + len(value)))
	if length+footerBytes(entryPrefix+header) > s.o.SegmentBytes {
		return fmt.Errorf("%w: %d bytes, a segment has %d", store.ErrTooLarge, len(value), s.o.SegmentBytes)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	id, r, ok := s.find(&key)
	if ok && r.bytes == int64(len(value)) {
		s.ledger.Hit(r.part, id)
		s.mu.Unlock()
		return nil
	}
	err := s.makeRoom(s.ledger.Partition(key.Namespace), length)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.append(ctx, &frame.Header{Key: key, Attr: attr, Bytes: int64(len(value)), Checksum: frame.Checksum(value)}, value)
}

// makeRoom evicts until a record of a length is within the limits. The lock is held.
func (s *Store) makeRoom(part uint32, length int64) error {
	s.lapsed = s.o.Now().UnixNano()
	if length > s.ledger.Limit(part) {
		return fmt.Errorf("%w: a page of %d bytes, the quota is %d", store.ErrQuota, length, s.ledger.Limit(part))
	}
	for part != 0 && s.ledger.Excess(part, length) > 0 {
		id, ok := s.ledger.Victim(part, s.pinned)
		if !ok {
			return fmt.Errorf("%w: %d bytes", store.ErrQuota, s.ledger.Limit(part))
		}
		s.forget(id, false)
		s.stats.Evicted++
	}
	for u := s.ledger.Usage(); u.UsedBytes+length > u.CapacityBytes; u = s.ledger.Usage() {
		if !s.evict() {
			return fmt.Errorf("%w: what is left is pinned", store.ErrFull)
		}
	}
	return nil
}

func (s *Store) pinned(id evict.ID) bool { return s.index[id].lease > s.lapsed }

// evict drops one page by policy.
func (s *Store) evict() bool {
	id, _, ok := s.ledger.AnyVictim(s.pinned)
	if ok {
		s.forget(id, false)
		s.stats.Evicted++
	}
	return ok
}

// forget takes a page out of the index and the account. known is set if its policy still knows it. The lock is held.
func (s *Store) forget(id evict.ID, known bool) {
	r := s.index[id]
	if known {
		s.ledger.Remove(r.part, id, r.length(), r.bytes)
	} else {
		s.ledger.Evicted(r.part, r.length(), r.bytes)
	}
	if s.o.Watcher != nil {
		if h, _, err := frame.Parse(s.header(&r)); err == nil {
			s.o.Watcher.Changed(store.Change{Removed: true, Key: h.Key, Attr: h.Attr, Bytes: r.bytes})
		}
	}
	s.segments[r.segment].live -= r.length()
	delete(s.index, id)
}

// errNoRoom says that the room that was there has gone to another.
var errNoRoom = errors.New("no room in the segment")

// append writes a record and enters it. The header's stamp is set here; a tombstone's has its bit set.
func (s *Store) append(ctx context.Context, h *frame.Header, value []byte) error {
	size := frame.Size(h.Key, &h.Attr)
	length := blocks(int64(size) + h.Bytes)
	b := s.bufs.get(length)
	clear(b.bytes[size+copy(b.bytes[size:], value) : length])
	write := func() error {
		g, offset, err := s.reserve(h, length, size)
		if err != nil {
			return err
		}
		frame.Append(b.bytes[:0], h)
		_, err = g.file.WriteAt(b.bytes[:length], offset)
		s.written(g, h, offset, b.bytes[:size], err)
		b.free()
		return deviceError("write", g, err)
	}
	for {
		if err := s.waitForRoom(ctx, length, size); err != nil {
			return err
		}
		if err := s.io.Do(ctx, write, nil, nil); !errors.Is(err, errNoRoom) {
			return err
		}
	}
}

// roomy reports whether a record has room, if need be in the next segment, which then becomes the active one. The lock is held.
func (s *Store) roomy(length int64, header int) bool {
	if g := s.active; g != nil && g.fits(length, header) {
		return true
	}
	s.retire(&s.active)
	s.active, s.spare = s.spare, nil
	s.wake()
	return s.active != nil
}

// waitForRoom waits until a record has room.
func (s *Store) waitForRoom(ctx context.Context, length int64, header int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return store.ErrClosed
		}
		if s.roomy(length, header) {
			return nil
		}
		if err := s.spareErr; err != nil {
			s.spareErr = nil
			return err
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// reserve gives a record its place and stamp. It does not wait, as it has a worker that reads need too.
func (s *Store) reserve(h *frame.Header, length int64, header int) (*segment, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, store.ErrClosed
	}
	if !s.roomy(length, header) {
		return nil, 0, errNoRoom
	}
	g := s.active
	offset := g.end
	g.end += length
	g.coming += entryPrefix + header
	g.writing++
	s.stamp++
	h.Stamp = h.Stamp&tombstone | s.stamp
	s.writes[s.stamp] = struct{}{}
	return g, offset, nil
}

// retire puts a segment up for sealing, which maintain does once nobody writes to it any more.
func (s *Store) retire(which **segment) {
	if *which != nil {
		s.retired = append(s.retired, *which)
		*which = nil
		s.wake()
	}
}

// written ends a write, and enters its record if all went well.
func (s *Store) written(g *segment, h *frame.Header, offset int64, header []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamp := h.Stamp &^ tombstone
	delete(s.writes, stamp)
	s.notify()
	if g.writing--; g.writing == 0 && g != s.active {
		s.wake()
	}
	n := frame.Size(h.Key, &h.Attr)
	g.coming -= entryPrefix + n
	length := blocks(int64(n) + h.Bytes)
	if err != nil {
		if g.failed = true; g == s.active {
			s.retire(&s.active)
		}
		return
	}
	g.dirty = true
	g.first = min(g.first, stamp)
	s.stats.WrittenBytes += length
	at := len(g.headers) + entryPrefix
	g.headers = appendEntry(g.headers, offset, header)
	if h.Stamp&tombstone != 0 {
		return
	}
	s.stats.PutBytes += h.Bytes
	id := s.ids.ID(&h.Key)
	if old, ok := s.index[id]; ok {
		if old.stamp > stamp || old.bytes == h.Bytes && frame.Names(s.header(&old), &h.Key) {
			// Another Put was first, or is newer.
			return
		}
		s.forget(id, true)
	}
	r := record{segment: g.number, offset: offset, bytes: h.Bytes, stamp: stamp, at: uint32(at), header: uint32(n)}
	s.enter(id, r, h)
}

// enter adds a page to the index and the account. The lock is held.
func (s *Store) enter(id evict.ID, r record, h *frame.Header) {
	r.part = s.ledger.Partition(h.Key.Namespace)
	s.index[id] = r
	s.segments[r.segment].live += r.length()
	s.ledger.Add(r.part, id, r.length(), r.bytes, s.ids.Meta(h.Key, &h.Attr, r.length()))
	if s.o.Watcher != nil {
		s.o.Watcher.Changed(store.Change{Key: h.Key, Attr: h.Attr, Bytes: r.bytes})
	}
}

// Get reads a page.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Page{}, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.Page{}, store.ErrClosed
	}
	id, r, ok := s.find(&key)
	if !ok {
		s.mu.Unlock()
		return store.Page{}, store.ErrNotFound
	}
	s.ledger.Hit(r.part, id)
	g, header := s.segments[r.segment], s.header(&r)
	g.reading++
	s.mu.Unlock()

	b := s.bufs.get(r.length())
	read := func() error {
		err := readRecord(g, &r, header, b)
		s.hasRead(g, id, &r, err)
		if err != nil {
			b.free()
		}
		return err
	}
	refuse := func() {
		s.hasRead(g, id, &r, nil)
		b.free()
	}
	if err := s.io.Do(ctx, read, b.free, refuse); err != nil {
		return store.Page{}, err
	}
	end := int64(r.header) + r.bytes
	return store.NewPage(b.bytes[r.header:end:end], store.Attr{}, b, 0), nil
}

// readRecord reads a record into a buffer and compares it with what it must be.
func readRecord(g *segment, r *record, header []byte, b *buffer) error {
	if _, err := g.file.ReadAt(b.bytes[:r.length()], r.offset); err != nil {
		return deviceError("read", g, err)
	}
	if !bytes.Equal(b.bytes[:r.header], header) {
		return fmt.Errorf("%w: %s: header at %d", store.ErrCorrupt, nameOf(g.number), r.offset)
	}
	h, _, err := frame.Parse(header)
	if err == nil {
		err = h.Check(b.bytes[r.header : int64(r.header)+r.bytes])
	}
	if err != nil {
		return fmt.Errorf("%s: record at %d: %w", nameOf(g.number), r.offset, err)
	}
	b.attr = h.Attr
	return nil
}

// hasRead ends a read, and drops a page that is corrupt.
func (s *Store) hasRead(g *segment, id evict.ID, r *record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, store.ErrCorrupt) {
		s.stats.Corrupt++
		if now, ok := s.index[id]; ok && now.segment == r.segment && now.offset == r.offset {
			s.forget(id, true)
		}
	}
	if g.reading--; g.reading == 0 && g.dropped {
		g.file.Close()
	}
}

// deviceError says where an error came from, and what it means for a store.
func deviceError(op string, g *segment, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s %s: %w", store.ErrFull, op, nameOf(g.number), err)
	}
	return fmt.Errorf("%s %s: %w", op, nameOf(g.number), err)
}

// Stat tells of a page, without the disk.
func (s *Store) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.Info{}, store.ErrClosed
	}
	_, r, ok := s.find(&key)
	if !ok {
		return store.Info{}, store.ErrNotFound
	}
	h, _, err := frame.Parse(s.header(&r))
	return store.Info{Bytes: r.bytes, Attr: h.Attr}, err
}

// Delete removes a page, and writes down that it did.
func (s *Store) Delete(ctx context.Context, key store.Key) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return store.ErrClosed
	}
	id, _, ok := s.find(&key)
	if ok {
		s.forget(id, true)
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return s.append(ctx, &frame.Header{Key: key, Stamp: tombstone, Checksum: frame.Checksum(nil)}, nil)
}

// Pin keeps a page from being evicted.
func (s *Store) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	id, r, ok := s.find(&key)
	if !ok {
		return store.ErrNotFound
	}
	r.lease = s.o.Now().Add(lease).UnixNano()
	s.index[id] = r
	return nil
}

// Scan lists pages, a segment at a time, without the disk.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		// A page that moves goes to a segment with a higher number, so it is seen again and not missed.
		seen := map[evict.ID]struct{}{}
		for after := uint64(0); ; {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			found, next, err := s.scanAfter(after, namespace, seen)
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
			if next == 0 {
				return
			}
			after = next
		}
	}
}

// scanAfter lists what is in the segment with the next higher number, which it returns, or 0 if there is none.
func (s *Store) scanAfter(after uint64, namespace string, seen map[evict.ID]struct{}) (found []store.Entry, next uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, store.ErrClosed
	}
	next = math.MaxUint64
	for n := range s.segments {
		if n > after {
			next = min(next, n)
		}
	}
	if next == math.MaxUint64 {
		return nil, 0, nil
	}
	err = entries(s.segments[next].headers, func(e entry) {
		id := s.ids.ID(&e.header.Key)
		r, ok := s.index[id]
		if _, twice := seen[id]; twice || !ok || r.segment != next || r.offset != e.offset {
			return
		}
		seen[id] = struct{}{}
		if namespace == "" || e.header.Key.Namespace == namespace {
			found = append(found, store.Entry{Key: e.header.Key, Info: store.Info{Bytes: r.bytes, Attr: e.header.Attr}})
		}
	})
	return found, next, err
}

// Usage tells how full the disk is.
func (s *Store) Usage() store.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.Usage()
}

// Stats tells what was done.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments = int64(len(s.segments))
	return st
}
