package follow

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Health is how the following of one engine goes.
type Health struct {
	Engine Engine
	// Subscriber is the connection's part.
	Subscriber events.Health
	Cursor     events.Cursor
	Held       bool // by Options.Hold
	// Topic is that of the last batch that told one.
	Topic events.Topic
	// LastEvent is when the last batch was applied, by this process's clock; zero if none was.
	LastEvent time.Time
	// Lag is how long the last batch had been under way, by the clocks of both sides.
	Lag time.Duration
	// Degraded is since when the index may claim blocks that the engine no longer has; zero if it does not. Only KeepOnGap
	// makes it so.
	Degraded time.Time
	// Clears counts how often everything was forgotten, Cause why the last time.
	Clears uint64
	Cause  events.Cause
	// Started is the sequence number of the first batch that was seen; above 0, what came before it is not known.
	Started uint64
	// OtherRank counts batches that say they are of another data-parallel rank than the engine.
	OtherRank uint64
	Hits      Hits
}

// Hits compares what the index predicted for requests to an engine with what the engine then found in its cache.
type Hits struct {
	Requests  uint64 // that were compared
	Predicted uint64 // tokens
	Found     uint64 // tokens
	Over      uint64 // requests of which fewer tokens were found than predicted
	Under     uint64 // requests of which more were found
	Misses    uint64 // requests running, up to the last, for which nothing was predicted
}

// status is the part of a feed's health that its mutex guards.
type status struct {
	seen     bool
	started  uint64
	topic    events.Topic
	last     time.Time
	lag      time.Duration
	degraded time.Time
	clears   uint64
	cause    events.Cause
	hits     Hits

	otherRank uint64
}

func (s *status) note(m *events.Message, e *Engine, now time.Time) {
	if r := m.Batch.Rank; r >= 0 && r != e.Rank {
		s.otherRank++
	}
	if !s.seen {
		s.seen, s.started = true, m.Sequence
	}
	s.last = now
	if m.Topic.Name != "" {
		s.topic = m.Topic
	}
	if at := m.Batch.Time; at > 0 && at < 1e11 && !m.Replayed {
		s.lag = now.Sub(time.Unix(0, int64(at*1e9)))
	}
	for i := range m.Batch.Events {
		if m.Batch.Events[i].Kind == events.Cleared {
			s.degraded = time.Time{}
		}
	}
}

func (s *status) clear(c events.Cause) {
	s.clears++
	s.cause, s.degraded = c, time.Time{}
}

func (s *status) degrade(c events.Cause, now time.Time) {
	s.cause = c
	if s.degraded.IsZero() {
		s.degraded = now
	}
}

// Health returns how each engine does, by name.
func (f *Follower) Health() []Health {
	var all []Health
	for _, d := range f.sorted() {
		all = append(all, d.health())
	}
	return all
}

func (d *feed) health() Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, connection := &d.status, d.visit.health
	if d.sub != nil {
		connection = d.sub.Health()
	}
	return Health{
		Engine: d.engine, Subscriber: connection, Cursor: d.cursor, Held: d.isHeld(), Topic: s.topic, LastEvent: s.last, Lag: s.lag, Degraded: s.degraded,
		Clears: s.clears, Cause: s.cause, Started: s.started, OtherRank: s.otherRank, Hits: s.hits,
	}
}

// Found tells what an engine found in its cache of a prompt that it was sent: the usage's cached tokens, and what the index had
// predicted. That is how Problems knows that an index is of no use. Unknown engines are passed over.
func (f *Follower) Found(engine string, predicted, found int) {
	f.mu.Lock()
	d := f.feeds[engine]
	f.mu.Unlock()
	if d == nil || predicted < 0 || found < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &d.status.hits
	h.Requests++
	h.Predicted += uint64(predicted)
	h.Found += uint64(found)
	switch {
	case found < predicted:
		h.Over++
	case found > predicted:
		h.Under++
	}
	if h.Misses++; predicted > 0 {
		h.Misses = 0
	}
}

// Ready reports whether waiting would bring nothing: what the engine's replay had has been read, or it cannot be reached.
func (h *Health) Ready() bool {
	s := &h.Subscriber
	if s.Connected {
		return s.CaughtUp && !h.Held
	}
	return s.Connections > 0 || s.LastError != nil
}

// suspicious is how many requests running without a predicted hit, of which the engine found some cached, are a problem.
const suspicious = 20

// Problems names what an operator should look at, one sentence each; none if all is well.
func (h *Health) Problems() []string {
	s := h.Subscriber
	s.NoTopic = 0 // here the connection tells whose events they are
	out := s.Problems()
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if h.Started > 0 && h.Subscriber.Replayed == 0 {
		add("events were first seen at batch %d: what was cached before is not known (give the engine a replay endpoint)", h.Started)
	}
	if h.Clears > 0 && h.Cause != events.Restart {
		add("all blocks were forgotten %d times, the last time because of: %v", h.Clears, h.Cause)
	}
	if !h.Degraded.IsZero() {
		add("batches are missing since %s: some of what is claimed may be gone", h.Degraded.UTC().Format(time.RFC3339))
	}
	if h.OtherRank > 0 {
		add("%d batches are of another data-parallel rank than %d: the endpoint is another rank's, or serves several", h.OtherRank, h.Engine.Rank)
	}
	if h.Hits.Misses >= suspicious && h.Hits.Found > 0 {
		add("for the last %d requests nothing was predicted, while the engine does find prompts in its cache: prompts and events "+
			"do not hash alike (ask /debug/why with the tokens of one)", h.Hits.Misses)
	}
	if h.Hits.Requests >= suspicious && h.Hits.Over*4 > h.Hits.Requests {
		add("of %d requests, %d found less in the cache than was predicted: removals are missing, or prompts are told apart by something "+
			"that the router does not know", h.Hits.Requests, h.Hits.Over)
	}
	return out
}
