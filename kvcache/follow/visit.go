package follow

import (
	"context"
	"net"

	"github.com/inferloom/inferloom/kvcache/events"
)

// visit is what a feed knows of the connections of an engine that connects by itself.
type visit struct {
	current int  // counts connections; events of others than the latest are passed over
	late    bool // it began after a snapshot had been loaded
	health  events.Health
}

// Serve accepts the engines that connect by themselves, as vLLM's do if the endpoint that they are given has no wildcard, until the
// context ends. Find names the engine that a connection is of, by what its first message calls itself and where it comes from; the
// connection is closed if it is not one that is followed, with Connects. Of several connections of an engine the latest counts.
//
// Such engines have no replay: when the connection ends, their blocks are forgotten, or the engine is degraded.
func (f *Follower) Serve(ctx context.Context, ln net.Listener, find func(events.Topic, net.Addr) (name string)) error {
	l := events.Listener{MaxMessageBytes: f.o.MaxMessageBytes, Accept: func(t events.Topic, remote net.Addr) events.Sink {
		name := find(t, remote)
		f.mu.Lock()
		d := f.feeds[name]
		f.mu.Unlock()
		if d == nil || !d.engine.Connects {
			f.o.Logger.Warn("kv index: a connection is of no engine that is followed", "topic", t.Name, "remote", remote, "engine", name)
			return nil
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		v := &d.visit
		if v.late = !d.isHeld(); v.late && v.health.Connected && !d.closed {
			d.lose(events.Loss{Cause: events.Disconnected}) // before the old connection's end is noticed
		}
		v.current++
		v.health.Connected, v.health.CaughtUp = true, true
		v.health.Connections++
		return &visitor{ctx, d, v.current}
	}}
	return l.Serve(ctx, ln)
}

// visitor is the sink of one connection.
type visitor struct {
	ctx    context.Context
	d      *feed
	number int
}

func (v *visitor) Apply(m *events.Message) {
	d := v.d
	if !d.hold(v.ctx, m.Sequence) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.visit.current != v.number {
		return
	}
	h, b := &d.visit.health, m.Batch
	h.Batches++
	h.Events += uint64(len(b.Events))
	h.Malformed += uint64(b.Malformed)
	h.Unknown += uint64(b.Unknown)
	h.UnknownFields += uint64(b.UnknownFields)
	if b.FirstError != nil {
		h.LastError = b.FirstError
	}
	for i := range b.Events {
		if n := b.Events[i].BlockTokens; n > 0 {
			h.BlockTokens, h.WantBlock = n, d.engine.BlockTokens
			if h.WantBlock > 0 && n != h.WantBlock {
				h.WrongBlockSize++
			}
		}
	}
	d.apply(m)
}

func (v *visitor) Lost(l events.Loss) {
	d := v.d
	if !d.hold(v.ctx, 0) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.visit.current != v.number {
		return
	}
	h := &d.visit.health
	switch l.Cause {
	case events.Gap:
		h.Gaps, h.Missed = h.Gaps+1, h.Missed+l.Missed
	case events.Restart:
		h.Restarts++
	case events.Undecodable:
		h.Undecodable++
	case events.Disconnected:
		h.Connected = false
	}
	if !d.closed {
		d.joined = false
		d.lose(l)
	}
}
