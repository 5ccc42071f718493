package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
)

// maxConnections bounds the requests that the client has under way at once.
const maxConnections = 512

// driver sends a plan of requests to a gateway when they are due.
type driver struct {
	url       string
	timeScale float64
	client    *http.Client
	slots     chan struct{} // one for each request under way
	began     time.Time
	progress  progress

	mu       sync.Mutex
	outcomes []outcome
}

// progress is what a driver has done so far.
type progress struct{ sent, ended, failed atomic.Int64 }

// outcome is what became of a request. Times are simulated.
type outcome struct {
	ttft, tpot            time.Duration
	input, cached, output int // tokens
	ended                 time.Duration
	err                   error
}

// turn is a request in its conversation.
type turn struct {
	workload.Request
	before *turn         // nil for the first
	ended  chan struct{} // closed when the turn is over
	// conversation and failed belong to the turn behind this one once ended is closed.
	conversation []byte
	failed       bool
}

func newDriver(url string, timeScale float64) *driver {
	transport := &http.Transport{MaxIdleConnsPerHost: maxConnections, DisableCompression: true}
	return &driver{
		url: url, timeScale: timeScale,
		client: &http.Client{Transport: transport},
		slots:  make(chan struct{}, maxConnections),
	}
}

// run sends the plan, which is in order of arrival, and returns an outcome for each request. When ctx ends, what is not
// complete ends with an error.
func (d *driver) run(ctx context.Context, plan []workload.Request) []outcome {
	defer d.client.CloseIdleConnections()
	var running sync.WaitGroup
	latest := map[int]*turn{} // by session
	due := time.NewTimer(0)
	defer due.Stop()
	d.began = time.Now()
	for _, r := range plan {
		t := &turn{Request: r, before: latest[r.Session], ended: make(chan struct{})}
		if r.Last {
			delete(latest, r.Session)
		} else {
			latest[r.Session] = t
		}
		due.Reset(time.Until(d.began.Add(scaled(r.At, d.timeScale))))
		select {
		case <-due.C:
		case <-ctx.Done():
		}
		running.Go(func() { d.take(ctx, t) })
	}
	running.Wait()
	return d.outcomes
}

// take sees a turn through and records its outcome.
func (d *driver) take(ctx context.Context, t *turn) {
	defer close(t.ended)
	o := d.send(ctx, t)
	o.ended = d.simulated(time.Since(d.began))
	if o.err != nil {
		t.failed = true
		d.progress.failed.Add(1)
	}
	d.progress.ended.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outcomes = append(d.outcomes, o)
}

var (
	errBefore = errors.New("the turn before it failed")
	errCutOff = errors.New("not complete at the end of the run")
)

func (d *driver) send(ctx context.Context, t *turn) outcome {
	due := d.began.Add(scaled(t.At, d.timeScale))
	if t.before != nil {
		<-t.before.ended
		if t.before.failed {
			return outcome{err: errBefore}
		}
		t.conversation, t.before = t.before.conversation, nil
		if now := time.Now(); now.After(due) {
			due = now // nobody asks on before having read the answer
		}
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return outcome{err: errCutOff}
	}
	d.progress.sent.Add(1)
	t.conversation = appendMessages(t.conversation, t.Messages)
	t.Messages = nil
	a, err := chat(ctx, d.client, d.url, requestBody(t.conversation, t.OutputTokens))
	switch {
	case err != nil && ctx.Err() != nil:
		return outcome{err: errCutOff}
	case err != nil:
		return outcome{err: err}
	case a.usage.PromptTokens == 0:
		return outcome{err: errors.New("no usage in the answer")}
	case a.usage.CompletionTokens != t.OutputTokens:
		return outcome{err: fmt.Errorf("%d tokens in the answer, want %d", a.usage.CompletionTokens, t.OutputTokens)}
	}
	if t.Last {
		t.conversation = nil
	} else {
		t.conversation = appendAnswer(t.conversation, a.text)
	}
	o := outcome{
		ttft:  d.simulated(a.first.Sub(due)),
		input: a.usage.PromptTokens, cached: a.usage.Details.CachedTokens, output: a.usage.CompletionTokens,
	}
	if o.output > 1 {
		o.tpot = d.simulated(a.last.Sub(a.first)) / time.Duration(o.output-1)
	}
	return o
}

func (d *driver) simulated(real time.Duration) time.Duration {
	return time.Duration(float64(real) * d.timeScale)
}
