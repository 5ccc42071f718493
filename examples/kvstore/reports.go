package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/store"
)

// owner is who has the pages, to a router: not an engine but a store that several share.
const owner = "kvstore"

// reports are the KV events of the local levels, for routers. Only pages of known prefixes are told of.
type reports struct {
	publisher    *events.Publisher
	live, replay net.Listener // replay may be nil
	reporters    []*store.Reporter
}

// newReports opens the listeners, or returns nil where there is no address.
func newReports(c config) (*reports, error) {
	if c.events == "" {
		return nil, nil
	}
	r := &reports{publisher: events.NewPublisher(events.PublisherOptions{Topic: "kv@" + owner})}
	var err error
	if r.live, err = net.Listen("tcp", c.events); err != nil {
		return nil, fmt.Errorf("-events: %w", err)
	}
	if c.eventsReplay != "" {
		if r.replay, err = net.Listen("tcp", c.eventsReplay); err != nil {
			return nil, fmt.Errorf("-events-replay: %w", errors.Join(err, r.live.Close()))
		}
	}
	return r, nil
}

// of is the watcher of a level; nil where nothing is reported.
func (r *reports) of(tier events.Tier) store.Watcher {
	if r == nil {
		return nil
	}
	reporter := store.NewReporter(store.ReporterOptions{Publish: r.publisher.Publish, Tier: tier, Owner: owner})
	r.reporters = append(r.reporters, reporter)
	return reporter
}

// run publishes until the context ends.
func (r *reports) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, reporter := range r.reporters {
		all.Go(func() { reporter.Run(ctx) })
	}
	return r.publisher.Serve(ctx, r.live, r.replay)
}

// close is for reports that were never run.
func (r *reports) close() {
	if r == nil {
		return
	}
	_ = r.live.Close()
	if r.replay != nil {
		_ = r.replay.Close()
	}
}
