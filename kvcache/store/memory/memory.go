package memory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
	"github.com/inferloom/inferloom/kvcache/store/internal/ledger"
)

// Options are the parameters of a Store. CapacityBytes is required.
type Options struct {
	// CapacityBytes is the size of the arena, all included. It is rounded down to whole slabs; the least is 32 MiB.
	CapacityBytes int64
	// Policy says what is evicted. The zero value is LRU.
	Policy evict.Kind
	// Quota returns how many bytes of the capacity a namespace may take, 0 for as many as there are. It is asked once for a
	// namespace that has a quota. A namespace at its quota evicts its own pages. Nil means no quotas.
	Quota func(namespace string) int64
	// Prefault touches the whole arena at once, so that no Put has to wait for the kernel to do so.
	Prefault bool
	// Watcher is told of pages that are stored and removed; nil tells nobody.
	Watcher store.Watcher
	// Now is the clock of leases; nil is time.Now.
	Now func() time.Time
}

// Store is pages in memory. It implements store.Store, store.Streamer, store.Sized and store.Evicter.
type Store struct {
	o       Options
	arena   []byte
	ids     ledger.Hasher
	index   *index
	uses    ring
	onEvict func(store.Key, store.Page)

	mu       sync.Mutex
	closed   atomic.Bool // changed under mu
	slabs    *slabs
	ledger   *ledger.Ledger
	places   int   // that are allocated; after Close the last one frees the arena
	lapsed   int64 // leases that end before it are over
	skipping func(evict.ID) bool
}

var (
	_ store.Streamer = (*Store)(nil)
	_ store.Sized    = (*Store)(nil)
	_ store.Evicter  = (*Store)(nil)
)

const (
	minCapacity = 32 << 20
	minSlab     = 1 << 20
	maxSlab     = 64 << 20
)

// New makes an empty Store. It reports every invalid option at once.
func New(o Options) (*Store, error) {
	var errs []error
	if o.CapacityBytes < minCapacity {
		errs = append(errs, fmt.Errorf("CapacityBytes is %d, want at least %d", o.CapacityBytes, minCapacity))
	}
	if _, err := evict.New(o.Policy, 1); err != nil {
		errs = append(errs, fmt.Errorf("Policy: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("memory store: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	slabBytes := minSlab
	for slabBytes < maxSlab && int64(slabBytes)*64 <= o.CapacityBytes {
		slabBytes *= 2
	}
	capacity := int(o.CapacityBytes) / slabBytes * slabBytes
	l, err := ledger.New(o.Policy, int64(capacity), o.Quota)
	if err != nil {
		return nil, fmt.Errorf("memory store: %w", err)
	}
	arena, err := mapArena(capacity)
	if err != nil {
		return nil, fmt.Errorf("memory store: mapping %d bytes: %w", capacity, err)
	}
	advise(arena)
	if o.Prefault {
		for i := 0; i < len(arena); i += unit {
			arena[i] = 0
		}
	}
	s := &Store{
		o: o, arena: arena, ids: ledger.NewHasher(), index: newIndex(capacity / (64 << 10)),
		slabs: newSlabs(capacity, slabBytes), ledger: l,
	}
	s.skipping = s.skip
	return s, nil
}

// skip reports whether a page is being read or is pinned.
func (s *Store) skip(id evict.ID) bool {
	x := s.index.slot(s.index.find(id))
	return uint32(x.state.Load()) > 1 || x.lease.Load() > s.lapsed
}

// OnEvict sets who gets evicted pages.
func (s *Store) OnEvict(f func(key store.Key, page store.Page)) { s.onEvict = f }

func (s *Store) begin(ctx context.Context, key *store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	return nil
}

// Put stores a page.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	n, kept, err := s.reserve(ctx, &key, len(value), &attr)
	if err != nil || kept {
		return err
	}
	x := s.index.slot(n)
	copy(s.arena[x.offset:], value)
	return s.publish(n, &key, &attr)
}

// reserve makes a slot and a place for a page, of which the caller has the only reference. kept says that the page is there.
func (s *Store) reserve(ctx context.Context, key *store.Key, bytes int, attr *store.Attr) (n uint32, kept bool, err error) {
	if err := s.begin(ctx, key); err != nil {
		return 0, false, err
	}
	if err := attr.Validate(); err != nil {
		return 0, false, err
	}
	header := frame.Size(*key, attr)
	size := sizeOf(bytes + header)
	if size > s.slabs.slabBytes {
		return 0, false, fmt.Errorf("%w: %d bytes, the largest place has %d", store.ErrTooLarge, bytes, s.slabs.slabBytes)
	}
	id := s.ids.ID(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return 0, false, store.ErrClosed
	}
	s.drain()
	if n := s.index.find(id); n != 0 && s.named(n, key) && int(s.index.slot(n).bytes) == bytes {
		s.ledger.Hit(s.index.slot(n).part, id)
		return 0, true, nil
	}
	part := s.ledger.Partition(key.Namespace)
	offset, err := s.room(part, size)
	if err != nil {
		return 0, false, err
	}
	n = s.index.make()
	if n == 0 {
		s.slabs.release(offset)
		return 0, false, fmt.Errorf("%w: %d pages", store.ErrFull, maxSlots)
	}
	s.places++
	x := s.index.slot(n)
	x.part, x.bytes, x.header, x.offset = part, uint32(bytes), uint32(header), offset
	return n, false, nil
}

// publish makes a page whose bytes are in place visible.
func (s *Store) publish(n uint32, key *store.Key, attr *store.Attr) error {
	x := s.index.slot(n)
	end := x.offset + int(x.bytes)
	frame.Append(s.arena[end:end:end+int(x.header)], &frame.Header{Key: *key, Attr: *attr, Bytes: int64(x.bytes)})
	id := s.ids.ID(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		s.unref(n)
		return store.ErrClosed
	}
	if old := s.index.find(id); old != 0 {
		if s.named(old, key) && s.index.slot(old).bytes == x.bytes {
			// Another writer was first.
			s.unref(n)
			return nil
		}
		s.remove(old, true)
	}
	s.index.insert(n, id)
	size := sizeOf(int(x.bytes) + int(x.header))
	s.ledger.Add(x.part, id, int64(size), int64(x.bytes), s.ids.Meta(*key, attr, int64(size)))
	if s.o.Watcher != nil {
		s.o.Watcher.Changed(store.Change{Key: *key, Attr: *attr, Bytes: int64(x.bytes)})
	}
	return nil
}

// A page of a size that is new to a full store needs a whole slab. After so many pages that the policy chose, and none of which
// made room, the emptiest slab is taken; after patience of them the store gives up rather than lose all it has.
const (
	tries    = 32
	patience = 8 * tries
)

// room finds a place, evicting as it must. It lets go of the lock while it hands evicted pages on.
func (s *Store) room(part uint32, size int) (int, error) {
	s.lapsed = s.o.Now().UnixNano()
	if int64(size) > s.ledger.Limit(part) {
		return 0, fmt.Errorf("%w: a page of %d bytes, the quota is %d", store.ErrQuota, size, s.ledger.Limit(part))
	}
	for part != 0 && s.ledger.Excess(part, int64(size)) > 0 {
		id, ok := s.ledger.Victim(part, s.skipping)
		if !ok {
			return 0, fmt.Errorf("%w: %d bytes", store.ErrQuota, s.ledger.Limit(part))
		}
		s.evict(s.index.find(id), false)
	}
	for i := 1; ; i++ {
		if s.closed.Load() {
			return 0, store.ErrClosed
		}
		if offset, ok := s.slabs.alloc(size); ok {
			return offset, nil
		}
		if i%tries == 0 && s.clear(size) {
			continue
		}
		id, _, ok := s.ledger.AnyVictim(s.skipping)
		if !ok || i == patience {
			return 0, fmt.Errorf("%w: what is left is pinned, being read or being moved", store.ErrFull)
		}
		s.evict(s.index.find(id), false)
	}
}

// clear evicts what is in the emptiest slab of another size, and reports whether it did.
func (s *Store) clear(size int) bool {
	i, ok := s.slabs.emptiest(size)
	if !ok {
		return false
	}
	var victims []evict.ID
	for n := uint32(1); n < s.index.next; n++ {
		x := s.index.slot(n)
		if uint32(x.state.Load()) == 0 || x.offset/s.slabs.slabBytes != i {
			continue
		}
		id := evict.ID(x.id.Load())
		if s.index.find(id) != n || s.skip(id) {
			return false
		}
		victims = append(victims, id)
	}
	for _, id := range victims {
		// While one was handed on, another may have gone or come to be read.
		if n := s.index.find(id); n != 0 && !s.skip(id) {
			s.evict(n, true)
		}
	}
	return true
}

// evict takes a page out and hands it on. known is set if its policy still knows it.
func (s *Store) evict(n uint32, known bool) {
	if s.onEvict == nil {
		s.remove(n, known)
		return
	}
	key, _ := s.describe(n)
	s.index.slot(n).ref()
	s.remove(n, known)
	s.mu.Unlock()
	defer s.mu.Lock()
	s.onEvict(key, s.page(n))
}

// remove takes a page out of the index and the account. known is set if its policy still knows it.
func (s *Store) remove(n uint32, known bool) {
	x := s.index.slot(n)
	id := evict.ID(x.id.Load())
	size := int64(sizeOf(int(x.bytes) + int(x.header)))
	if known {
		s.ledger.Remove(x.part, id, size, int64(x.bytes))
	} else {
		s.ledger.Evicted(x.part, size, int64(x.bytes))
	}
	if s.o.Watcher != nil {
		key, attr := s.describe(n)
		s.o.Watcher.Changed(store.Change{Removed: true, Key: key, Attr: attr, Bytes: int64(x.bytes)})
	}
	s.index.remove(n)
	s.unref(n)
}

// unref gives a reference back under the lock.
func (s *Store) unref(n uint32) {
	if s.index.slot(n).unref() {
		s.free(n)
	}
}

// free frees the place and the slot of a page without references.
func (s *Store) free(n uint32) {
	s.slabs.release(s.index.slot(n).offset)
	s.index.recycle(n)
	if s.places--; s.places == 0 && s.closed.Load() {
		s.unmap()
	}
}

func (s *Store) unmap() {
	_ = unmapArena(s.arena)
	s.arena = nil
}

// record is where a page's key is.
func (s *Store) record(n uint32) []byte {
	x := s.index.slot(n)
	end := x.offset + int(x.bytes)
	return s.arena[end : end+int(x.header)]
}

func (s *Store) named(n uint32, key *store.Key) bool { return frame.Names(s.record(n), key) }

func (s *Store) describe(n uint32) (store.Key, store.Attr) {
	h, _, err := frame.Parse(s.record(n))
	if err != nil {
		panic(fmt.Sprintf("memory store: the record of a resident page was overwritten: %v", err))
	}
	return h.Key, h.Attr
}

func (s *Store) page(n uint32) store.Page {
	x := s.index.slot(n)
	end := x.offset + int(x.bytes)
	return store.NewPage(s.arena[x.offset:end:end], store.Attr{}, s, uint64(n))
}

// acquire takes a reference to a key's page.
func (s *Store) acquire(key *store.Key) (uint32, error) {
	id := s.ids.ID(key)
	n, sure := s.index.acquire(id)
	if sure {
		if n == 0 {
			return 0, store.ErrNotFound
		}
		if s.named(n, key) {
			return n, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != 0 {
		s.unref(n)
	}
	if s.closed.Load() {
		return 0, store.ErrClosed
	}
	if n = s.index.find(id); n == 0 || !s.named(n, key) || !s.index.slot(n).ref() {
		return 0, store.ErrNotFound
	}
	return n, nil
}

// Get returns a page without copying it.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Page{}, err
	}
	n, err := s.acquire(&key)
	if err != nil {
		return store.Page{}, err
	}
	if s.uses.add(n) && s.mu.TryLock() {
		s.drain()
		s.mu.Unlock()
	}
	return s.page(n), nil
}

// ReleasePage is called by pages.
func (s *Store) ReleasePage(token uint64) {
	if n := uint32(token); s.index.slot(n).unref() {
		s.mu.Lock()
		s.free(n)
		s.mu.Unlock()
	}
}

// PageAttr is called by pages.
func (s *Store) PageAttr(token uint64) store.Attr {
	_, attr := s.describe(uint32(token))
	return attr
}

// Stat tells of a page.
func (s *Store) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	if err := s.begin(ctx, &key); err != nil {
		return store.Info{}, err
	}
	n, err := s.acquire(&key)
	if err != nil {
		return store.Info{}, err
	}
	defer s.ReleasePage(uint64(n))
	_, attr := s.describe(n)
	return store.Info{Bytes: int64(s.index.slot(n).bytes), Attr: attr}, nil
}

// Delete removes a page.
func (s *Store) Delete(ctx context.Context, key store.Key) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	id := s.ids.ID(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.index.find(id); !s.closed.Load() && n != 0 && s.named(n, &key) {
		s.remove(n, true)
	}
	return nil
}

// Pin keeps a page from being evicted.
func (s *Store) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	if err := s.begin(ctx, &key); err != nil {
		return err
	}
	n, err := s.acquire(&key)
	if err != nil {
		return err
	}
	defer s.ReleasePage(uint64(n))
	s.index.slot(n).lease.Store(s.o.Now().Add(lease).UnixNano())
	return nil
}

// Scan lists pages, a few hundred at a time.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var found []store.Entry
		for n := uint32(1); ; {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			found = found[:0]
			s.mu.Lock()
			closed, end := s.closed.Load(), s.index.next
			for ; !closed && n < end && len(found) < 256; n++ {
				x := s.index.slot(n)
				if id := x.id.Load(); uint32(x.state.Load()) == 0 || s.index.find(evict.ID(id)) != n {
					continue
				}
				key, attr := s.describe(n)
				if namespace == "" || key.Namespace == namespace {
					found = append(found, store.Entry{Key: key, Info: store.Info{Bytes: int64(x.bytes), Attr: attr}})
				}
			}
			s.mu.Unlock()
			if closed {
				yield(store.Entry{}, store.ErrClosed)
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
			if n >= end {
				return
			}
		}
	}
}

// Usage tells how full the arena is.
func (s *Store) Usage() store.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger.Usage()
}

// Close forgets all pages. The arena is unmapped when the last page that is being read is released.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	s.places++ // so that the loop does not unmap
	for n := uint32(1); n < s.index.next; n++ {
		x := s.index.slot(n)
		if id := x.id.Load(); uint32(x.state.Load()) > 0 && s.index.find(evict.ID(id)) == n {
			s.remove(n, true)
		}
	}
	if s.places--; s.places == 0 {
		s.unmap()
	}
	return nil
}

// drain tells the policies of the uses that readers have noted.
func (s *Store) drain() {
	s.uses.drain(func(n uint32) {
		x := s.index.slot(n)
		if id := x.id.Load(); uint32(x.state.Load()) > 0 && id != 0 {
			s.ledger.Hit(x.part, evict.ID(id))
		}
	})
}
