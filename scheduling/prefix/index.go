package prefix

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Defaults of Options.
const (
	DefaultMaxBytes     = 64 << 20
	DefaultMaxEndpoints = 1024
)

// Options are the parameters of an Index. The zero value works.
type Options struct {
	// MaxBytes bounds the index's memory; 0 means DefaultMaxBytes. About 10 bytes a block where prompts are long.
	MaxBytes int
	// MaxEndpoints is the pool's maximum; 0 means DefaultMaxEndpoints. Each costs one bit a run.
	MaxEndpoints int
}

// A run keeps its hashes in segments of a fixed size, so that memory never fragments.
const (
	segmentBlocks = 32
	runSegments   = 16
	runBlocks     = segmentBlocks * runSegments
)

// run is a stretch of a chain that is held as a whole by each of its holders. Who holds a run holds those before it. What
// lookups and evictions need of a short run, and the lease of one holder, are in the first cache line.
type run struct {
	version     atomic.Uint32 // odd while blocks that a reader may have seen change
	length      atomic.Uint32 // blocks
	first, last atomic.Uint64 // its hashes at either end
	holders     int32         // how many; writer only
	own         lease         // of one holder, if it has a run; writer only
	segments    [runSegments]atomic.Uint32
	_           [12]byte
}

// holders is a set of slots for each run, words words long.
type holders struct {
	words int
	bits  []uint64
}

func (h *holders) of(run uint32) []uint64 {
	return h.bits[int(run)*h.words : (int(run)+1)*h.words]
}

const none = ^uint32(0)

// lease is one endpoint's hold on one run. Leases of an endpoint are a list from the least to the most recently used, and
// a tree along the chain. A lease is used whenever one behind it is, and just after, so the oldest has none behind it.
//
// Leases are numbered: those below len(Index.runs) are the own leases of the runs with these numbers, which saves most runs
// a second cache line and an entry in a table; the others are in Index.more.
type lease struct {
	run, slot    uint32 // run is none if nobody has the lease
	parent       uint32 // on the run before
	children     int32
	older, newer uint32
}

// holding is what one endpoint holds.
type holding struct {
	generation     uint32
	open           bool
	capacity       int // blocks
	blocks         int
	oldest, newest uint32
}

const (
	runBytes   = 128
	leaseBytes = 24
)

// Index is an approximate prefix index. It is safe for concurrent use.
type Index struct {
	// Readers go through these with atomic loads.
	byFirst table // first hash of a run -> run
	runs    []run
	hashes  []uint64 // segments
	holders atomic.Pointer[holders]
	walks   sync.Pool

	_            [128]byte  // what writers change is on cache lines of its own
	mu           sync.Mutex // held by writers
	byHolder     table      // run and slot -> lease, of those in more
	more         []lease
	held         []holding
	freeRuns     free
	freeSegments free
	freeLeases   free
	blocks       int      // summed over endpoints
	open         int      // endpoints
	path         []uint32 // scratch of Insert
}

// free hands out numbers below max: those given back first, then ones never used.
type free struct {
	back []uint32
	next uint32
	max  uint32
}

func (f *free) take() uint32 {
	if n := len(f.back); n > 0 {
		v := f.back[n-1]
		f.back = f.back[:n-1]
		return v
	}
	f.next++
	return f.next - 1
}

func (f *free) give(v uint32) { f.back = append(f.back, v) }
func (f *free) left() int     { return int(f.max-f.next) + len(f.back) }

// New makes an index.
func New(o Options) (*Index, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxEndpoints == 0 {
		o.MaxEndpoints = DefaultMaxEndpoints
	}
	if o.MaxEndpoints < 0 {
		return nil, fmt.Errorf("max endpoints %d: negative", o.MaxEndpoints)
	}
	x := &Index{held: make([]holding, o.MaxEndpoints)}
	words := (o.MaxEndpoints + 63) / 64
	x.walks.New = func() any { return &walk{alive: make([]uint64, words), held: make([]uint64, words)} }

	// A unit is a run of two segments with two holders. The sets of holders may be there twice, while they grow.
	unit := runBytes + 3*8*words/2 + 2*(8*segmentBlocks+4) + leaseBytes + 4 + 4
	least := 2*o.MaxEndpoints + 4*runSegments
	units := o.MaxBytes / unit
	for units*unit+2*tableBytes(units) > o.MaxBytes {
		units -= units/32 + 1
	}
	if units < least {
		return nil, fmt.Errorf("max bytes %d: at least %d are needed for %d endpoints",
			o.MaxBytes, least*unit+2*tableBytes(least), o.MaxEndpoints)
	}
	x.runs = slab[run](units)
	x.hashes = slab[uint64](2 * units * segmentBlocks)
	x.more = slab[lease](units)
	x.holders.Store(&holders{1, slab[uint64](units)})
	x.byFirst.init(func(id uint32) uint64 { return x.runs[id].first.Load() })
	x.byHolder.init(func(l uint32) uint64 { return holderKey(x.lease(l).run, x.lease(l).slot) })
	x.freeRuns.max, x.freeSegments.max, x.freeLeases.max = uint32(units), uint32(2*units), uint32(units)
	return x, nil
}

// Match finds how much of a chain endpoints hold. For each endpoint in among, a set of bits by slot, that holds the first
// block, it sets cached[slot] to the tokens in the leading blocks that it holds; other elements stay as they are.
func (x *Index) Match(chain []uint64, blockTokens int, among []uint64, cached []int32) {
	w := x.walks.Get().(*walk)
	defer x.walks.Put(w)
	holders := x.holders.Load()
	alive, held := w.alive[:min(len(among), holders.words)], w.held[:min(len(among), holders.words)]
	copy(alive, among)
	pos := 0
	for pos < len(chain) {
		n := x.read(chain[pos:], holders, held)
		if n == 0 {
			break
		}
		left := uint64(0)
		for i := range held {
			if gone := alive[i] &^ held[i]; gone != 0 && pos > 0 {
				record(cached, i, gone, pos*blockTokens)
			}
			alive[i] &= held[i]
			left |= alive[i]
		}
		if left == 0 {
			return
		}
		pos += n
	}
	if pos > 0 {
		for i, word := range alive {
			record(cached, i, word, pos*blockTokens)
		}
	}
}

// walk is the scratch memory of one Match.
type walk struct{ alive, held []uint64 }

// record sets the tokens of the slots in the i-th word of a set.
func record(cached []int32, i int, word uint64, tokens int) {
	for ; word != 0; word &= word - 1 {
		if slot := 64*i + bits.TrailingZeros64(word); slot < len(cached) {
			cached[slot] = int32(tokens)
		}
	}
}

// read finds the run that begins with the chain's first hash, and returns how many blocks they have in common and who
// holds the run. It retries where a writer got in between; a writer that does so eight times running is waited for.
func (x *Index) read(chain []uint64, holders *holders, held []uint64) int {
	for range 8 {
		id, found, settled := x.byFirst.find(chain[0])
		if !found {
			if settled {
				return 0
			}
			continue
		}
		r := &x.runs[id]
		version := r.version.Load()
		if version&1 != 0 {
			continue
		}
		n := x.common(r, chain)
		row := holders.of(id)
		for i := range held {
			held[i] = atomic.LoadUint64(&row[i])
		}
		if n > 0 && r.version.Load() == version {
			return n
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	id, found := x.byFirst.get(chain[0])
	if !found {
		return 0
	}
	copy(held, x.holders.Load().of(id))
	return x.common(&x.runs[id], chain)
}

// common returns how many leading blocks a run and a chain share. Hashes are chained: where two are equal, so are all
// before them.
func (x *Index) common(r *run, chain []uint64) int {
	n := int(r.length.Load())
	if n > 0 && n <= len(chain) && r.last.Load() == chain[n-1] {
		return n
	}
	low, high := 0, min(n, len(chain), runBlocks) // low blocks are shared, more than high are not
	for low < high {
		mid := (low + high) / 2
		if x.hash(r, mid) == chain[mid] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (x *Index) hash(r *run, i int) uint64 {
	segment := int(r.segments[i/segmentBlocks].Load())
	return atomic.LoadUint64(&x.hashes[segment*segmentBlocks+i%segmentBlocks])
}

// Stats is the size of an index.
type Stats struct {
	// Blocks counts a block once for each endpoint that holds it.
	Blocks int
	// Runs is the number of pieces that they are stored in.
	Runs int
}

// Stats returns the index's size.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	return Stats{Blocks: x.blocks, Runs: int(x.freeRuns.next) - len(x.freeRuns.back)}
}
