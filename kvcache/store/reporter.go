package store

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/events"
)

// ReporterOptions are the parameters of a Reporter. Publish is required.
type ReporterOptions struct {
	// Publish gets each batch, which it must not keep: Publish of an events.Publisher does.
	Publish func(*events.Batch)
	// Tier is what the level is to a router: events.CPU, Disk or Remote, or GPU of a Device.
	Tier events.Tier
	// Medium is the tier's name in the events; "" is CPU, DISK or SHARED_STORAGE by Tier.
	Medium string
	// Owner names a store that several engines share; the events then say that the blocks are elsewhere than with the
	// publisher. "" is the publisher's own.
	Owner string
	// Rank is the rank whose pages are told of. Engines tell of a block once, not once a rank.
	Rank uint32
	// Describe adds to an event what a namespace stands for, such as Model, Adapter or Salt, and reports false to not tell of
	// it; nil tells of all namespaces alike.
	Describe func(namespace string, e *events.Event) bool
	// Now is the clock of batches; nil is time.Now.
	Now func() time.Time
}

// Reporter turns the changes of one level into KV events. It is that level's Watcher. Only blocks of known prefixes are told of
// (Attr.Chained): a router cannot use others. A block's hash in the events is the last eight bytes of Key.Hash, big-endian, as
// vLLM publishes its digests.
type Reporter struct {
	o ReporterOptions

	mu      sync.Mutex
	pending []Change
	wake    chan struct{}
}

// NewReporter makes a Reporter, which tells nothing until Run is called.
func NewReporter(o ReporterOptions) *Reporter {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Medium == "" {
		o.Medium = map[events.Tier]string{events.GPU: "GPU", events.CPU: "CPU", events.Disk: "DISK", events.Remote: "SHARED_STORAGE"}[o.Tier]
	}
	return &Reporter{o: o, wake: make(chan struct{}, 1)}
}

// Changed takes a change to tell of. It does not wait.
func (r *Reporter) Changed(c Change) {
	if !c.Attr.Chained || c.Key.Rank != r.o.Rank {
		return
	}
	r.mu.Lock()
	r.pending = append(r.pending, c)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes changes until the context ends, and those that are left then. What came while a batch was made is the next one.
func (r *Reporter) Run(ctx context.Context) {
	var batch events.Batch
	for ended := false; !ended; {
		select {
		case <-r.wake:
		case <-ctx.Done():
			ended = true
		}
		r.mu.Lock()
		changes := r.pending
		r.pending = nil
		r.mu.Unlock()
		if r.fill(&batch, changes); len(batch.Events) > 0 {
			r.o.Publish(&batch)
		}
	}
}

// Announce tells of all pages that a store has, for those that listen from now on, or after another process has written to it.
func (r *Reporter) Announce(ctx context.Context, s Store, namespace string) error {
	for e, err := range s.Scan(ctx, namespace) {
		if err != nil {
			return err
		}
		r.Changed(Change{Key: e.Key, Attr: e.Info.Attr, Bytes: e.Info.Bytes})
	}
	return nil
}

// fill turns changes into events. Blocks that continue the block before become one event with it, as do removals in a row.
func (r *Reporter) fill(b *events.Batch, changes []Change) {
	*b = events.Batch{Time: float64(r.o.Now().UnixNano()) / 1e9, Rank: -1, Events: b.Events[:0]}
	for i, c := range changes {
		if i > 0 && len(b.Events) > 0 && continues(&changes[i-1], &c) {
			last := &b.Events[len(b.Events)-1]
			last.Hashes = append(last.Hashes, hashOf(c.Key.Hash))
			continue
		}
		e := events.Event{
			Kind: events.Stored, Tier: r.o.Tier, Medium: r.o.Medium, Hashes: []uint64{hashOf(c.Key.Hash)},
			Group: int(c.Key.Group), Owner: r.o.Owner,
		}
		if r.o.Owner != "" {
			e.Locality = events.Elsewhere
		}
		if c.Removed {
			e.Kind = events.Removed
		} else {
			e.BlockTokens = c.Attr.Tokens
			e.Parent, e.HasParent = hashOf(c.Attr.Parent), c.Attr.Parent != ""
		}
		if r.o.Describe != nil && !r.o.Describe(c.Key.Namespace, &e) {
			changes[i].Key = Key{} // the next does not continue it
			continue
		}
		b.Events = append(b.Events, e)
	}
}

func continues(before, c *Change) bool {
	if before.Key.Namespace != c.Key.Namespace || before.Key.Group != c.Key.Group || before.Removed != c.Removed {
		return false
	}
	return c.Removed || c.Attr.Parent == before.Key.Hash && c.Attr.Tokens == before.Attr.Tokens
}

func hashOf(hash string) uint64 {
	var b [8]byte
	copy(b[max(8-len(hash), 0):], hash[max(len(hash)-8, 0):])
	return binary.BigEndian.Uint64(b[:])
}
