package engineevents

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// The labels of endpoints that publish elsewhere than the others.
const (
	EventsLabel = "kv-events"
	ReplayLabel = "kv-replay"
)

// Options are the parameters of a Watcher; Pool and Follower are required.
type Options struct {
	Pool     *scheduling.Pool
	Follower *follow.Follower
	// Port and ReplayPort are those of rank 0; 0 means that there is none, but for endpoints with labels.
	Port, ReplayPort int
	// Engine, if set, edits how an endpoint is followed, or says that it is not.
	Engine func(*scheduling.Endpoint, *follow.Engine) (follows bool)
	Logger *slog.Logger // nil logs nothing
}

// Watcher makes a follower follow a pool.
type Watcher struct {
	o     Options
	known map[kvcache.Pod]follow.Engine // by Run only
}

// New checks the options.
func New(o Options) (*Watcher, error) {
	var errs []error
	if o.Pool == nil {
		errs = append(errs, errors.New("Pool: nil"))
	}
	if o.Follower == nil {
		errs = append(errs, errors.New("Follower: nil"))
	}
	for _, p := range []struct {
		field string
		value int
	}{{"Port", o.Port}, {"ReplayPort", o.ReplayPort}} {
		if p.value < 0 || p.value > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is no port", p.field, p.value))
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("engineevents options: %w", errors.Join(errs...))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{o: o, known: map[kvcache.Pod]follow.Engine{}}, nil
}

// Run keeps the follower up to date until the context ends, and returns the context's error. Run the follower beside it. What
// cannot be followed is logged and left out.
func (w *Watcher) Run(ctx context.Context) error {
	for {
		s := w.o.Pool.Snapshot()
		if err := w.o.Follower.Set(w.engines(s)); err != nil {
			w.o.Logger.Error("kv events: engines are not followed", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Changed():
		}
	}
}

func (w *Watcher) engines(s *scheduling.Snapshot) []follow.Engine {
	known := make(map[kvcache.Pod]follow.Engine, len(s.Live()))
	var engines []follow.Engine
	for _, slot := range s.Live() {
		endpoint := s.Endpoint(slot)
		pod := kvcache.Pod{ID: slot, Generation: s.Generation(slot)}
		e, follows, err := w.engine(endpoint)
		if err != nil {
			w.o.Logger.Warn("kv events: an endpoint is not followed", "endpoint", endpoint.ID, "error", err)
		}
		if !follows || err != nil {
			continue
		}
		e.Pod = pod
		if was, ok := w.known[pod]; ok { // a geometry that was reported later is no reason to begin anew
			e.BlockTokens, e.Capacity = was.BlockTokens, was.Capacity
		}
		known[pod] = e
		engines = append(engines, e)
	}
	w.known = known
	return engines
}

func (w *Watcher) engine(endpoint *scheduling.Endpoint) (e follow.Engine, follows bool, err error) {
	host, _, err := net.SplitHostPort(endpoint.Address)
	if err != nil {
		return e, false, err
	}
	at := func(port int) string {
		if port == 0 {
			return ""
		}
		return "tcp://" + net.JoinHostPort(host, strconv.Itoa(port))
	}
	e = follow.Engine{
		Name: endpoint.ID, Model: endpoint.Model, BlockTokens: endpoint.BlockTokens, Capacity: cmp.Or(endpoint.CacheBlocks, prefix.DefaultCacheBlocks),
		Endpoint: at(w.o.Port), Replay: at(w.o.ReplayPort),
	}
	if label := endpoint.Labels[EventsLabel]; label != "" {
		e.Endpoint, e.Replay, e.Rank = label, endpoint.Labels[ReplayLabel], endpoint.Rank
	} else if e.Endpoint != "" {
		if e, err = e.ForRank(endpoint.Rank); err != nil {
			return e, false, err
		}
	}
	follows = e.Endpoint != ""
	if w.o.Engine != nil {
		follows = w.o.Engine(endpoint, &e)
	}
	return e, follows, e.Validate()
}
