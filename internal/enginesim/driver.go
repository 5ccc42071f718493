package enginesim

import (
	"context"
	"errors"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
)

// errStopped ends the requests that are in the server when Run returns.
var errStopped = errors.New("the simulated engine has stopped")

// A stream is a request in the engine, as its handler sees it. The fields below ready belong to
// the server's lock.
type stream struct {
	id      uint64
	tokens  []byte // prompt and answer
	salt    string
	limited bool          // the client set the number of tokens
	ready   chan struct{} // holds one signal while there is something to fetch

	arrived  time.Duration // simulated
	last     time.Duration // when the latest token was due
	flushAt  time.Time     // no signal for mere tokens before
	produced int
	cached   int
	done     bool
}

func (st *stream) signal() {
	select {
	case st.ready <- struct{}{}:
	default:
	}
}

// progress is a copy of what a handler needs of a stream.
type progress struct {
	produced, cached int
	done             bool
}

// Run drives the engine until ctx is done, and then ends all requests that are left: streams are
// cut, others answered with 503. It must be called once; requests that come before it wait. It
// returns nil, or an error if it ran before.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ran {
		s.mu.Unlock()
		return errors.New("enginesim: Run was called before")
	}
	s.ran = true
	s.epoch = time.Now()
	s.mu.Unlock()
	defer s.stop()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		if sleep, busy := s.advance(); busy {
			timer.Reset(sleep)
		} else {
			timer.Stop()
		}
	}
}

// advance performs what is due and returns how long the driver can sleep.
func (s *Server) advance() (sleep time.Duration, busy bool) {
	s.mu.Lock()
	defer s.unlock()
	s.engine.Advance(s.simulated())
	at, busy := s.engine.NextStep()
	if !busy {
		return 0, false
	}
	due := s.epoch.Add(time.Duration(float64(at) / s.o.TimeScale))
	return max(time.Until(due), s.o.MinSleep), true
}

// simulated is the engine's time now. The caller holds the lock.
func (s *Server) simulated() time.Duration {
	if s.epoch.IsZero() {
		return 0
	}
	s.real = time.Now()
	return time.Duration(float64(s.real.Sub(s.epoch)) * s.o.TimeScale)
}

func (s *Server) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stop ends the server's life.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.stopped)
}

// submit hands a request to the engine.
func (s *Server) submit(r *generation) (*stream, error) {
	s.mu.Lock()
	defer s.unlock()
	select {
	case <-s.stopped:
		return nil, errStopped
	default:
	}
	s.nextID++
	st := &stream{id: s.nextID, tokens: r.tokens, salt: r.salt, limited: r.limited, ready: make(chan struct{}, 1)}
	st.arrived = s.simulated()
	s.streams[st.id] = st
	err := s.engine.Submit(st.arrived, engine.Request{
		ID: st.id, PromptTokens: r.promptTokens, OutputTokens: r.outputTokens,
		Blocks:  r.blocks,
		Adapter: r.adapter,
	})
	if err != nil {
		delete(s.streams, st.id)
		return nil, err
	}
	s.nudge()
	return st, nil
}

// fetch waits until a stream has more tokens than seen, or is done. If the client leaves first, the
// request is cancelled in the engine before fetch returns.
func (s *Server) fetch(ctx context.Context, st *stream, seen int) (progress, error) {
	for {
		select {
		case <-st.ready:
		case <-ctx.Done():
			s.cancel(st)
			return progress{}, ctx.Err()
		case <-s.stopped:
			return progress{}, errStopped
		}
		s.mu.Lock()
		p := progress{produced: st.produced, cached: st.cached, done: st.done}
		s.mu.Unlock()
		if p.produced > seen || p.done {
			return p, nil
		}
	}
}

func (s *Server) cancel(st *stream) {
	s.mu.Lock()
	defer s.unlock()
	s.engine.Cancel(s.simulated(), st.id)
}

// hooks connect the engine's reports to streams, metrics and subscribers. They run under the lock.
func (s *Server) hooks() engine.Hooks {
	h := engine.Hooks{
		Started: func(at time.Duration, id uint64, cached int) {
			st := s.streams[id]
			st.cached = cached
			s.metrics.queue.observe(at-st.arrived, 1)
		},
		Tokens: func(at time.Duration, id uint64, n, produced int) {
			st := s.streams[id]
			first := st.produced == 0
			st.produced = produced
			if first {
				s.metrics.firstToken.observe(at-st.arrived, 1)
			} else {
				s.metrics.interToken.observe((at-st.last)/time.Duration(n), n)
			}
			st.last = at
			if first || !s.real.Before(st.flushAt) {
				st.flushAt = s.real.Add(s.o.MinFlush)
				st.signal()
			}
		},
		Finished: func(r engine.Result) {
			st := s.streams[r.ID]
			delete(s.streams, r.ID)
			st.done = true
			s.metrics.finish(r, st.limited)
			st.signal()
		},
		Removed: s.o.Removed,
		Cleared: s.o.Cleared,
	}
	if s.o.Stored != nil || s.o.Events != nil {
		h.Stored = s.stored
	}
	if s.o.Events != nil {
		h.Removed = func(at time.Duration, hashes []uint64) {
			s.announcer.removed(hashes)
			if s.o.Removed != nil {
				s.o.Removed(at, hashes)
			}
		}
		h.Cleared = func(at time.Duration) {
			s.announcer.cleared()
			if s.o.Cleared != nil {
				s.o.Cleared(at)
			}
		}
	}
	return h
}

// stored adds to the engine's report of blocks what is in them.
func (s *Server) stored(b engine.StoredBlocks) {
	blockTokens := s.engine.Options().BlockTokens
	size, st := blockTokens*tokenBytes, s.streams[b.Request]
	with := StoredBlocks{StoredBlocks: b, Tokens: st.tokens[b.First*size : (b.First+len(b.Hashes))*size]}
	if s.o.Events != nil {
		s.announcer.stored(with, blockTokens, st.salt)
	}
	if s.o.Stored != nil {
		s.o.Stored(with)
	}
}
