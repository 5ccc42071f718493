package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/internal/workload"
)

// outcome is what became of a request. Times are counted from the start of the run.
type outcome struct {
	scheduled time.Duration // when the workload has it
	due       time.Duration // that, or later when the answer before it was late
	lag       time.Duration // how late this client was
	waited    time.Duration // for one of the bounded connections
	sent      time.Duration

	first, last, ended time.Duration // tokens, and the end

	class  class
	detail string

	asked, events         int // output tokens, and events that brought some
	input, cached, output int // tokens by the server's count; -1: not reported
	longestGap            time.Duration
	inWindow              int // events within the time that is counted
}

func (o *outcome) ttft() time.Duration { return o.first - o.due }
func (o *outcome) e2e() time.Duration  { return o.last - o.due }

// tokens is the length of the answer: the server's count, or that of events.
func (o *outcome) tokens() int {
	if o.output >= 0 {
		return o.output
	}
	return o.events
}

// tpot is the mean time of a token after the first; false if there is none.
func (o *outcome) tpot() (time.Duration, bool) {
	n := o.tokens() - 1
	if n < 1 || o.events < 2 {
		return 0, false
	}
	return (o.last - o.first) / time.Duration(n), true
}

func (o *outcome) good(s slo) bool {
	if o.class != answered {
		return false
	}
	tpot, _ := o.tpot()
	return (s.ttft == 0 || o.ttft() <= s.ttft) && (s.tpot == 0 || tpot <= s.tpot)
}

var (
	errBefore      = errors.New("the turn before it failed")
	errDrained     = errors.New("not complete at the end of -drain")
	errInterrupted = errors.New("interrupted")
)

// driver sends the requests of a source when they are due.
type driver struct {
	client              *client
	slots               chan struct{} // one for each request under way
	warmup, drain       time.Duration
	until               atomic.Int64        // when requests are no longer due; earlier than planned if the source ends
	requests            int                 // at most; 0 is no bound
	sleep               func(time.Duration) // for the last bit of a wait
	began               time.Time
	sent, ended, failed atomic.Int64

	mu       sync.Mutex
	outcomes []outcome
	gaps     stats.Histogram // of requests that are counted
}

func newDriver(c config, cl *client) *driver {
	d := &driver{client: cl, slots: make(chan struct{}, c.concurrency), warmup: c.warmup, drain: c.drain, requests: c.requests, sleep: sleep}
	d.until.Store(int64(c.duration))
	return d
}

// turn is a request in its conversation.
type turn struct {
	workload.Request
	before *turn         // nil for the first
	over   chan struct{} // closed when the turn is
	// conversation, ended and failed belong to the turn behind this one once over is closed.
	conversation []byte
	ended        time.Duration
	failed       bool
	body         []byte // made ahead for first turns, so that making it is not in their latency
}

func (d *driver) end() time.Duration { return time.Duration(d.until.Load()) }

func (d *driver) now() time.Duration { return time.Since(d.began) }

// run sends until the source, the time or ctx ends, waits for answers and returns. What is then not complete ends with an error.
// It fails if the source does, after the requests before that.
func (d *driver) run(ctx context.Context, source workload.Source) error {
	defer d.client.close()
	// Requests end with a cause of their own, not with ctx's.
	under, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(errInterrupted) })()

	var running sync.WaitGroup
	d.began = time.Now()
	err := d.dispatch(under, source, &running)
	if ctx.Err() != nil {
		d.until.Store(min(d.until.Load(), int64(d.now())))
	}
	over := make(chan struct{})
	go func() {
		running.Wait()
		close(over)
	}()
	last := time.NewTimer(d.drain)
	defer last.Stop()
	select {
	case <-over:
	case <-last.C:
		end(errDrained)
	}
	<-over
	return err
}

// dispatch starts each request when it is due.
func (d *driver) dispatch(ctx context.Context, source workload.Source, running *sync.WaitGroup) error {
	latest := map[int]*turn{} // by session
	due := time.NewTimer(0)
	defer due.Stop()
	n, last := 0, time.Duration(0)
	for r, err := range source {
		if err != nil {
			d.until.Store(int64(last + 1))
			return err
		}
		if r.At >= d.end() {
			return nil
		}
		if d.requests > 0 && n == d.requests {
			break
		}
		n, last = n+1, r.At
		t := &turn{Request: r, before: latest[r.Session], over: make(chan struct{})}
		if r.Last {
			delete(latest, r.Session)
		} else {
			latest[r.Session] = t
		}
		if t.before == nil {
			t.prepare(d.client)
		}
		d.await(ctx, due, r.At)
		if ctx.Err() != nil {
			return nil
		}
		d.sent.Add(1)
		running.Go(func() { d.take(ctx, t) })
	}
	d.until.Store(int64(last + 1)) // just behind the last one
	return nil
}

// shortWait is what is left to the kernel of a wait, which is exact where timers are not.
const shortWait = 1500 * time.Microsecond

// await returns at a time, or when ctx ends.
func (d *driver) await(ctx context.Context, timer *time.Timer, at time.Duration) {
	if wait := at - d.now() - shortWait; wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	for {
		left := at - d.now()
		if left <= 0 {
			return
		}
		d.sleep(min(left, shortWait))
	}
}

// prepare makes the body.
func (t *turn) prepare(c *client) {
	t.conversation = c.appendPrompt(t.conversation, t.Messages)
	t.body = c.body(&t.Request, t.conversation)
	t.Messages = nil
	if t.Last {
		t.conversation = nil
	}
}

// take sees a turn through and records its outcome.
func (d *driver) take(ctx context.Context, t *turn) {
	defer close(t.over)
	s := d.client.streams.Get().(*stream)
	defer d.client.streams.Put(s)
	s.reset(!t.Last)
	o := outcome{scheduled: t.At, due: t.At, asked: t.OutputTokens, input: -1, cached: -1, output: -1}
	err := d.send(ctx, t, s, &o)
	o.ended = d.now()
	t.ended = o.ended
	o.class, o.detail = classify(err)
	o.read(s)
	o.inWindow = d.tokensWithin(s)
	if err != nil {
		t.failed = true
		d.failed.Add(1)
	} else if !t.Last {
		t.conversation = d.client.appendAnswer(t.conversation, s.text)
	}
	d.ended.Add(1)
	d.record(&o, s)
}

func (d *driver) record(o *outcome, s *stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.class == answered && o.scheduled >= d.warmup {
		for _, gap := range s.gaps {
			d.gaps.Add(gap, 1)
		}
	}
	d.outcomes = append(d.outcomes, *o)
}

// tokensWithin counts the events of a stream in the time that is counted.
func (d *driver) tokensWithin(s *stream) int {
	n, at, end := 0, s.first, d.end()
	for i := range s.events {
		if i > 0 {
			at += s.gaps[i-1]
		}
		if at >= d.warmup && at < end {
			n++
		}
	}
	return n
}

// read takes from a stream what is known of it, complete or not.
func (o *outcome) read(s *stream) {
	o.first, o.last, o.events = s.first, s.last, s.events
	for _, gap := range s.gaps {
		o.longestGap = max(o.longestGap, gap)
	}
	known := func(n *int) int {
		if n == nil || *n < 0 {
			return -1
		}
		return *n
	}
	o.input, o.output = known(s.usage.Prompt), known(s.usage.Completion)
	if s.usage.Details != nil {
		o.cached = known(s.usage.Details.Cached)
	}
}

func (d *driver) send(ctx context.Context, t *turn, s *stream, o *outcome) error {
	if t.before != nil {
		<-t.before.over
		if t.before.failed {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return errBefore
		}
		o.due = max(o.due, t.before.ended)
		t.conversation, t.before = t.before.conversation, nil
		t.prepare(d.client)
	}
	o.lag = d.now() - o.due
	select {
	case d.slots <- struct{}{}:
	default:
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-d.slots }()
	o.sent = d.now()
	o.waited = o.sent - o.due - o.lag
	body := t.body
	t.body = nil
	return d.client.send(ctx, s, body, d.now)
}
