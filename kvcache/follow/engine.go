package follow

import (
	"errors"
	"fmt"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// Engine is one publisher of KV events: one data-parallel rank of an engine.
type Engine struct {
	// Name is what health, snapshots and the index call it.
	Name string
	// Pod is its place in the index. The same name with another generation is another engine.
	Pod kvcache.Pod

	// Connects says that the engine connects by itself, to Follower.Serve. It then has neither Endpoint nor Replay.
	Connects bool
	Endpoint string // of its events, "tcp://host:port"
	Replay   string // of its replay socket; "" if it has none
	Topic    string // prefix of the topics wanted; "" for all
	Rank     int    // data-parallel rank

	Model string
	// Adapter and Salt are those of events that tell none.
	Adapter, Salt string
	// Revision of its adapters, as prompts' Spaces have it.
	Revision string
	// BlockTokens is the block size expected: events with another are a problem. 0 expects none.
	BlockTokens int
	// Store says that it is no engine but a store that engines read: it is not asked for prompts.
	Store bool
	// Capacity is how many blocks Index.Speculate may believe that it holds.
	Capacity int
}

// ForRank returns the engine with the ports of a data-parallel rank: engines add the rank to both.
func (e Engine) ForRank(rank int) (Engine, error) {
	e.Rank = rank
	var err error
	if e.Endpoint, err = events.RankEndpoint(e.Endpoint, rank); err != nil {
		return e, fmt.Errorf("engine %q: Endpoint: %w", e.Name, err)
	}
	if e.Replay != "" {
		if e.Replay, err = events.RankEndpoint(e.Replay, rank); err != nil {
			return e, fmt.Errorf("engine %q: Replay: %w", e.Name, err)
		}
	}
	return e, nil
}

func (e *Engine) pod() kvcache.PodOptions {
	return kvcache.PodOptions{Name: e.Name, Model: e.Model, Revision: e.Revision, Capacity: e.Capacity}
}

// Validate reports every problem with an engine.
func (e *Engine) Validate() error {
	var errs []error
	if e.Name == "" {
		errs = append(errs, errors.New("Name is empty"))
	}
	if e.Model == "" {
		errs = append(errs, errors.New("Model is empty"))
	}
	if e.Rank < 0 {
		errs = append(errs, fmt.Errorf("Rank: %d is negative", e.Rank))
	}
	if e.Connects {
		if e.Endpoint != "" || e.Replay != "" {
			errs = append(errs, fmt.Errorf("Connects: it has the endpoints %q and %q, want none", e.Endpoint, e.Replay))
		}
	} else if _, err := events.NewSubscriber(events.Options{Endpoint: e.Endpoint, Replay: e.Replay, BlockTokens: e.BlockTokens}, &feed{}); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("engine %q: %w", e.Name, errors.Join(errs...))
	}
	return nil
}
