package follow

import (
	"context"
	"io"
	"sync"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// feed brings one engine's events into the index. It is the subscriber's sink.
type feed struct {
	f      *Follower
	engine Engine
	sub    *events.Subscriber // nil: the engine connects by itself
	also   events.Sink        // nil: nobody

	ctx  context.Context // of run
	gate *gate           // holds events back; nil does not

	mu     sync.Mutex // held while the index is told something, and during a snapshot
	closed bool
	cursor events.Cursor
	joined bool // the cursor came with a snapshot, and no message has followed it yet
	visit  visit
	status status
	roots  roots
}

// gate holds a feed's first event back until it is opened.
type gate struct {
	open  chan struct{} // closed by the follower
	held  chan struct{} // closed by the feed when it has an event
	first uint64        // its batch; 0 if that cannot be told
}

// run follows the engine until the context ends.
func (d *feed) run(ctx context.Context) {
	if d.sub == nil {
		return
	}
	d.ctx = ctx
	// With a replay endpoint there is no need to be there before the snapshot: it brings what happened since.
	if d.gate != nil && d.engine.Replay != "" && !d.wait(ctx) {
		return
	}
	d.mu.Lock()
	if d.engine.Replay != "" {
		d.sub.Resume(d.cursor)
		d.joined = false
	}
	d.mu.Unlock()
	_ = d.sub.Run(ctx)
}

// wait waits for the gate to open, or the feed's end.
func (d *feed) wait(ctx context.Context) (open bool) {
	if d.gate == nil {
		return true
	}
	select {
	case <-d.gate.open:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *feed) isHeld() bool {
	if d.gate == nil {
		return false
	}
	select {
	case <-d.gate.open:
		return false
	default:
		return true
	}
}

// hold is wait, with an event in hand.
func (d *feed) hold(ctx context.Context, sequence uint64) (open bool) {
	if g := d.gate; g != nil {
		select {
		case <-g.held:
		default:
			g.first = sequence
			close(g.held)
		}
	}
	return d.wait(ctx)
}

// Apply implements events.Sink.
func (d *feed) Apply(m *events.Message) {
	if !d.hold(d.ctx, m.Sequence) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apply(m)
}

func (d *feed) apply(m *events.Message) {
	if d.closed || d.joined && !d.follows(m) {
		return
	}
	d.complete(m.Batch)
	if d.f.o.KeepOnGap {
		for i := range m.Batch.Events {
			d.f.o.Index.Apply(d.engine.Pod, &m.Batch.Events[i])
		}
	} else if d.f.o.Index.ApplyBatch(d.engine.Pod, m.Sequence, m.Batch) == kvcache.AppliedAfterGap {
		d.status.clear(events.Gap)
	}
	d.cursor = m.Cursor
	d.status.note(m, &d.engine, d.f.o.Now())
	d.roots.note(m.Batch)
	if d.also != nil {
		d.also.Apply(m)
	}
}

// follows reports whether the first message after a snapshot is new, and sets out from the snapshot's cursor if it is not.
func (d *feed) follows(m *events.Message) bool {
	d.joined = false
	switch next := d.cursor.Next; {
	case m.Sequence+1 == next && m.Cursor != d.cursor:
		d.lose(events.Loss{Cause: events.Restart})
	case m.Sequence < next && d.visit.late:
		d.lose(events.Loss{Cause: events.Restart})
	case m.Sequence < next && d.sub == nil:
		d.joined = true // it is for the next message to tell
		return false
	case m.Sequence < next:
		d.sub.Resume(d.cursor)
		return false
	case m.Sequence > next:
		d.lose(events.Loss{Cause: events.Gap, Missed: m.Sequence - next})
	}
	return true
}

// complete adds to events what the engine is known for and they do not tell.
func (d *feed) complete(b *events.Batch) {
	e := &d.engine
	if e.Adapter == "" && e.Salt == "" {
		return
	}
	for i := range b.Events {
		ev := &b.Events[i]
		if ev.Kind != events.Stored {
			continue
		}
		if ev.Adapter == "" {
			ev.Adapter = e.Adapter
		}
		if ev.Salt == "" && !ev.HasParent {
			ev.Salt = e.Salt
		}
	}
}

// Lost implements events.Sink.
func (d *feed) Lost(l events.Loss) {
	if !d.hold(d.ctx, 0) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.joined = false
		d.lose(l)
	}
}

func (d *feed) lose(l events.Loss) {
	d.f.o.Logger.Warn("kv index: events are missing", "engine", d.engine.Name, "cause", l.Cause, "batches", l.Missed)
	if d.also != nil {
		d.also.Lost(l)
	}
	if l.Cause != events.Restart && d.f.o.KeepOnGap {
		d.status.degrade(l.Cause, d.f.o.Now())
		return
	}
	d.f.o.Index.Lost(d.engine.Pod)
	d.status.clear(l.Cause)
	d.roots.clear()
}

// close takes the pod out of the index; what the subscriber still delivers changes nothing.
func (d *feed) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.f.o.Index.Close(d.engine.Pod)
	if c, ok := d.also.(io.Closer); ok {
		if err := c.Close(); err != nil {
			d.f.o.Logger.Warn("kv index: closing what is told as well", "engine", d.engine.Name, "error", err)
		}
	}
}
