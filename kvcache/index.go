package kvcache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	DefaultMaxBytes = 256 << 20
	DefaultMaxPods  = 1024
)

// Options are the parameters of an Index. The zero value works.
type Options struct {
	// MaxBytes bounds the index's memory; 0 means DefaultMaxBytes. It is reserved at once and becomes resident as the index
	// fills, with 27 to 35 bytes a block where chains are long, whoever holds it.
	MaxBytes int
	// MaxPods is above all pods' IDs; 0 means DefaultMaxPods.
	MaxPods int
	// GuessesOnly is for an index without events: it takes 10 bytes a block.
	GuessesOnly bool
	// GuessFor is how long a guess is believed that no event has settled; 0 means for ever, within the pod's capacity.
	GuessFor time.Duration
	// Now is the clock of GuessFor; nil means time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	var problems []error
	if o.MaxBytes < 0 {
		problems = append(problems, fmt.Errorf("max bytes %d: negative", o.MaxBytes))
	}
	if o.MaxPods < 0 || o.MaxPods > 1<<16 {
		problems = append(problems, fmt.Errorf("max pods %d: want 1 to %d", o.MaxPods, 1<<16))
	}
	if o.GuessFor < 0 {
		problems = append(problems, fmt.Errorf("guess for %v: negative", o.GuessFor))
	}
	return errors.Join(problems...)
}

// ErrClosed is returned for a pod that is not open under its generation.
var ErrClosed = errors.New("kvcache: pod is not open under that generation")

// Stats is the size of an index and what it has seen.
type Stats struct {
	// Blocks counts a block once for each pod that holds it, in whatever tiers and groups. Guesses counts guesses likewise.
	Blocks, Guesses int
	// Distinct is the number of different blocks; Runs is the number of pieces that they are stored in.
	Distinct, Runs int
	// Waiting is the number of blocks whose parent is not known, or of which only the engine's hash is known.
	Waiting int
	// Bytes is the memory in use, MaxBytes its bound.
	Bytes, MaxBytes int

	Stored, Removed, Cleared uint64 // blocks, blocks, pods
	Spliced                  uint64 // blocks whose parent has appeared
	Unknown                  uint64 // removals of blocks that the pod is not known to hold
	Skipped                  uint64 // stored blocks that cannot be placed: partial ones, unknown tiers or places, too many groups
	Gaps, Duplicates         uint64 // batches
	Late                     uint64 // batches and events for past generations
	Forgotten                uint64 // blocks that gave way to others
}

// Index is safe for concurrent use.
type Index struct {
	// Readers go through these with atomic loads.
	byFirst table // first hash of a run -> run
	runs    []run
	hashes  []uint64 // segments
	sets    sets
	stores  atomic.Pointer[[]store]
	groups  atomic.Pointer[groupsOf]
	walks   sync.Pool

	contents sync.Pool // of *[]uint64
	now      func() time.Time
	began    time.Time
	guessFor uint32 // ticks
	maxBytes int
	fixed    int // bytes that do not grow

	_            [128]byte  // what writers change is on cache lines of its own
	mu           sync.Mutex // held by writers
	pods         []pod
	opened       int
	names        names
	links        []link
	waits        []wait
	byParent     table // name of the block that a run waits for -> run
	leases       leases
	copies       map[uint64]uint32 // how many copies beyond one a pod has of a block
	maxCopies    int
	freeRuns     free
	freeSegments free
	freeLinks    free
	hand         uint32 // the run that was last considered for forgetting
	expired      uint32
	scattered    bool // there may be blocks without those before them

	distinct, waitingBlocks, waitingRuns int
	stats                                Stats

	// Scratch.
	pending        []uint64 // names that others wait for
	chain, engine  []uint64
	uprooted       []holding
	uprootedCopies []uint32
	path           []stretch
	before, after  spanList // of paint
	trimmed        spanList // of trim
}

// New makes an index, or reports every problem with the options.
func New(o Options) (*Index, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxPods == 0 {
		o.MaxPods = DefaultMaxPods
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	x := &Index{now: o.Now, maxBytes: o.MaxBytes, guessFor: uint32((o.GuessFor + tick - 1) / tick)}
	x.began = o.Now()
	words := (o.MaxPods + 63) / 64
	x.walks.New = func() any { return newWalk(words) }
	x.contents.New = func() any { return new([]uint64) }

	var s sizes
	most := o.MaxBytes / 64
	for low := 0; low < most; { // the largest number of segments that fits
		mid := (low + most + 1) / 2
		if s = newSizes(o, mid); s.bytes <= o.MaxBytes {
			low = mid
		} else {
			most = mid - 1
		}
	}
	s = newSizes(o, most)
	if least := newSizes(o, leastSegments); most < leastSegments {
		return nil, fmt.Errorf("max bytes %d: at least %d are needed for %d pods", o.MaxBytes, least.bytes, o.MaxPods)
	}
	x.fixed = s.fixed
	x.pods = make([]pod, o.MaxPods)
	x.runs = slab[run](s.runs)
	x.hashes = slab[uint64](s.segments * segmentBlocks)
	x.byFirst.init(func(id uint32) uint64 { return peek(&x.runs[id].first) })
	x.sets.init(s.setWords)
	x.leases.init(s.runs, s.leases)
	x.freeRuns.max, x.freeSegments.max = uint32(s.runs), uint32(s.segments)
	if x.scattered = !o.GuessesOnly; x.scattered {
		x.names.columns = slab[column](s.columns)
		x.names.hashes = slab[uint64](s.columns * segmentBlocks)
		x.names.first = slab[uint32](s.segments)
		x.names.free.max = uint32(s.columns)
		x.links = slab[link](s.links)
		x.freeLinks.max = uint32(s.links)
		x.waits = slab[wait](s.runs)
		x.byParent.init(func(id uint32) uint64 { return x.waits[id].parent })
		x.copies, x.maxCopies = map[uint64]uint32{}, s.copies
	}
	return x, nil
}

// sizes are how much there is of each thing, for a number of segments: as much as runs of two segments need, with a set of their own each
// and, where events are applied, a third of the blocks having two names.
type sizes struct {
	segments, runs, leases, setWords int
	columns, links, copies           int
	fixed, bytes                     int
}

// leastSegments is enough for the longest event that is put into place at once, and then some.
const leastSegments = 64

func newSizes(o Options, segments int) sizes {
	s := sizes{segments: segments, runs: segments/2 + 1}
	s.leases = s.runs + 4*min(o.MaxPods, segments/64)
	s.setWords = s.runs*setUnit + 1024
	const numbers = 4 // an entry of a list of free numbers
	s.fixed = segments*(8*segmentBlocks+numbers) + s.runs*(runBytes+numbers+leaseBytes) + s.leases*(leaseBytes+numbers) + 8*s.setWords +
		o.MaxPods*podBytes
	s.bytes = s.fixed + tableBytes(s.runs) + tableBytes(s.leases) + tableBytes(s.setWords/setUnit)
	if !o.GuessesOnly {
		s.columns = segments + segments/8
		s.links = 2*s.runs + 16*min(o.MaxPods, s.runs)
		s.copies = s.segments
		fixed := s.columns*(8*segmentBlocks+columnBytes+numbers) + 4*segments + s.links*(linkBytes+numbers) + s.runs*waitBytes
		s.fixed += fixed
		s.bytes += fixed + s.columns*segmentBlocks*nameBytesMax + tableBytes(s.runs) + s.copies*copyBytes
	}
	return s
}

const (
	podBytes  = 256
	copyBytes = 40 // an entry of a map
)

// Stats returns the index's size and counters.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.stats
	for i := range x.pods {
		s.Blocks += x.pods[i].blocks
		s.Guesses += x.pods[i].guesses
	}
	s.Distinct, s.Waiting, s.Runs = x.distinct, x.waitingBlocks, x.freeRuns.taken()
	s.Bytes, s.MaxBytes = x.bytes(), x.maxBytes
	return s
}

// bytes is the memory that has been touched.
func (x *Index) bytes() int {
	const numbers = 4
	touched := func(f *free, size int) int { return int(f.next)*size + numbers*cap(f.back) }
	table := func(t *table) int {
		if entries := t.current.Load(); entries != nil {
			return 8 * len(*entries)
		}
		return 0
	}
	return len(x.pods)*podBytes + touched(&x.freeRuns, runBytes+leaseBytes+waitBytes) + touched(&x.freeSegments, 8*segmentBlocks+4) +
		touched(&x.leases.free, leaseBytes) + touched(&x.names.free, 8*segmentBlocks+columnBytes) + touched(&x.freeLinks, linkBytes) +
		8*x.sets.next + x.names.bytes + len(x.copies)*copyBytes +
		table(&x.byFirst) + table(&x.sets.byHash) + table(&x.leases.byHolder) + table(&x.byParent)
}

// Inspect appends what a pod holds of each block of a prompt.
func (x *Index) Inspect(p Pod, chain []uint64, dst []Block) []Block {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := place{run: none}
	for _, h := range chain {
		var b Block
		if at.run == none || at.pos >= int(x.runs[at.run].length) || x.hash(&x.runs[at.run], at.pos) != h {
			if id, ok := x.byFirst.get(h); ok {
				at = place{id, 0}
			} else {
				at.run = none
			}
		}
		if at.run != none {
			r := &x.runs[at.run]
			b.Known = true
			if x.names.first != nil {
				b.Engine, b.HasEngine = x.nameAt(r, at.pos)
			}
			if x.pod(p) != nil {
				b.Held = uint8(x.sets.planesOf(x.at(r, at.pos), p.ID) & (1<<Tiers - 1))
			}
			at.pos++
		}
		dst = append(dst, b)
	}
	return dst
}

// Resolve appends the request hashes of blocks that are known by engines' hashes, up to the first that is not.
func (x *Index) Resolve(dst, engine []uint64) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, name := range engine {
		at, ok := x.placed(name)
		if !ok {
			break
		}
		dst = append(dst, x.hash(&x.runs[at.run], at.pos))
	}
	return dst
}
