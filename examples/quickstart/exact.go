package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/kvcache/indexserver"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/engineevents"
)

// publish makes an engine publish its KV events, on loopback, and returns the labels that say where.
func (c *cluster) publish(ctx context.Context, o *enginesim.Options) (labels map[string]string, err error) {
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = listen("127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	o.Events = events.NewPublisher(events.PublisherOptions{})
	p := o.Events
	c.running.Go(func() { _ = p.Serve(ctx, listeners[0], listeners[1]) }) // ends when stop cancels
	return map[string]string{
		engineevents.EventsLabel: "tcp://" + listeners[0].Addr().String(),
		engineevents.ReplayLabel: "tcp://" + listeners[1].Addr().String(),
	}, nil
}

// follow keeps an index in step with the engines of the pool, and returns a service that answers from it.
func (c *cluster) follow(ctx context.Context, index *kvcache.Index, pool *scheduling.Pool) (http.Handler, error) {
	follower, err := follow.New(follow.Options{Index: index})
	if err != nil {
		return nil, err
	}
	watcher, err := engineevents.New(engineevents.Options{Pool: pool, Follower: follower})
	if err != nil {
		return nil, err
	}
	service, err := indexserver.New(indexserver.Options{Index: index, Follower: follower})
	if err != nil {
		return nil, err
	}
	c.follower = follower
	c.running.Go(func() { _ = follower.Run(ctx) }) // both end when stop cancels
	c.running.Go(func() { _ = watcher.Run(ctx) })
	return service, nil
}

// finder tells a follower what engines found in their caches.
type finder struct {
	gateway.Observer
	follower *follow.Follower
}

func (f finder) Observe(r gateway.Record) {
	if r.Err == nil && r.Usage.Has(api.CachedCount) {
		f.follower.Found(r.Endpoint, r.PredictedCached, r.Usage.CachedTokens)
	}
	f.Observer.Observe(r)
}

// foundText compares predictions with what engines found.
func (c *cluster) foundText() string {
	var all follow.Hits
	for _, h := range c.follower.Health() {
		all.Requests += h.Hits.Requests
		all.Predicted += h.Hits.Predicted
		all.Found += h.Hits.Found
		all.Over += h.Hits.Over
	}
	return fmt.Sprintf("of %d requests, %d tokens were predicted to be cached and %d were found; %d found less than predicted",
		all.Requests, all.Predicted, all.Found, all.Over)
}
