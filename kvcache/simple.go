package kvcache

import (
	"io"
	"slices"
	"sync"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Index is safe for concurrent use.
type Index struct {
	mu sync.Mutex
	n  *naive
}

// New makes an index, or reports every problem with the options.
func New(o Options) (*Index, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Index{n: newNaive()}, nil
}

// Open begins a pod, or changes the options of one that is open. A new generation of an ID ends the one before.
func (x *Index) Open(p Pod, o PodOptions) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.open(p, o)
	return nil
}

// Close forgets a pod. Events for it that come later do nothing.
func (x *Index) Close(p Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.close(p)
}

// ApplyBatch applies the events of a publisher's message, each message once and in order of their sequence numbers.
func (x *Index) ApplyBatch(p Pod, sequence uint64, b *events.Batch) Verdict {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.n.applyBatch(p, sequence, b)
}

// Apply applies one event, where there are no sequence numbers.
func (x *Index) Apply(p Pod, e *events.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.apply(p, e)
}

// Lost forgets what a pod holds, because events of it are missing or it began anew. The next batch may have any sequence number.
func (x *Index) Lost(p Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.lost(p)
}

// Cursor returns the sequence number of the last batch applied.
func (x *Index) Cursor(p Pod) (sequence uint64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.n.pod(p); e != nil {
		return e.sequence, e.follows
	}
	return 0, false
}

// Speculate records that a pod was sent a prompt, whose blocks it will have unless an event tells otherwise.
func (x *Index) Speculate(p Pod, chain []uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.speculate(p, chain)
}

// Match finds how much of a prompt pods hold. Among is a set of bits by Pod.ID: those that are asked for.
func (x *Index) Match(chain []uint64, blockTokens int, among []uint64, m *Matches) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n.match(chain, blockTokens, among, m)
}

// Inspect tells what a pod holds of each block of a prompt.
func (x *Index) Inspect(p Pod, chain []uint64, dst []Block) []Block {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range chain {
		var b Block
		for engine := range x.n.facts {
			for _, r := range x.n.requests(engine) {
				if r == h {
					b.Known, b.Engine, b.HasEngine = true, engine, true
				}
			}
		}
		if e := x.n.pod(p); e != nil {
			b.Held = x.n.holds(e, h, 0)
		}
		dst = append(dst, b)
	}
	return dst
}

// Resolve appends the request hashes of blocks that are known by engines' hashes, up to the first that is not.
func (x *Index) Resolve(dst, engine []uint64) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range engine {
		r := x.n.requests(h)
		if len(r) == 0 {
			break
		}
		dst = append(dst, r[0])
	}
	return dst
}

// Share says who can read a store: for them its blocks are in the Remote tier. Readers is a set of bits by Pod.ID.
func (x *Index) Share(store Pod, readers []uint64) {}

// Expire ends guesses that are too old. Updates do so too; call it where there may be none for long.
func (x *Index) Expire() {}

// Groups returns the groups of layers that a pod's events have told of.
func (x *Index) Groups(p Pod) []Group {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.n.pod(p); e != nil {
		return slices.Clone(e.groups)
	}
	return nil
}

// Stats returns the index's size and counters.
func (x *Index) Stats() Stats { return Stats{} }

// Snapshot writes what pods hold and how far their events are applied.
func (x *Index) Snapshot(w io.Writer) error { return nil }

// Restore reads a snapshot into an index that holds nothing yet. Bind opens a pod for one in the snapshot, or returns false if
// there is none. Events after the cursors follow without a gap.
func (x *Index) Restore(r io.Reader, bind func(name string) (Pod, bool)) error { return nil }
