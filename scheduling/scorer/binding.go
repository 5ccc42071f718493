package scorer

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/scheduling"
)

// SessionBinding keeps a session where its first request was sent, for as long as it comes back in time and the endpoint is
// there; only then is it bound anew. As a filter it keeps only that endpoint if it is a candidate, else all; as a scorer it
// gives it 1 and the others 0, and abstains where it is none. Use the same one, by pointer, for one pool.
//
// Unlike Session, which sends a session where a hash says, whatever the load, this sends it where the rest of the profile said
// once. It is llm-d's session_id strategy, Dynamo's session affinity, and SGLang's manual policy with one candidate a session. Bindings
// are lost when the process ends, and other replicas do not know them: scheduling.SessionTokens leave them with the client.
//
// A session takes about 100 bytes, until at most twice TTLSeconds after its last request. Picks wait for each other while
// they look it up.
type SessionBinding struct {
	// TTLSeconds is how long a session is remembered after its last request; 0 means 300.
	TTLSeconds float64 `json:"ttlSeconds,omitempty"`
	// Headers name the session, the first of them that a request has; none means Request.Session.
	Headers []string `json:"headers,omitempty"`

	use atomic.Pointer[bindings]
}

// bindings forgets by the generation: what was not used since the last turn but one is gone with its map.
type bindings struct {
	mu       sync.Mutex
	now, was map[string]binding
	turned   int64 // Unix nanoseconds
}

type binding struct {
	generation uint32
	slot       scheduling.Slot
	used       int64 // Unix nanoseconds
}

func (s *SessionBinding) bindings() *bindings {
	if b := s.use.Load(); b != nil {
		return b
	}
	s.use.CompareAndSwap(nil, &bindings{now: map[string]binding{}, was: map[string]binding{}})
	return s.use.Load()
}

func (s *SessionBinding) ttl() int64 { return int64(cmp.Or(s.TTLSeconds, 300) * 1e9) }

func (s *SessionBinding) session(r *scheduling.Request) string {
	if len(s.Headers) == 0 {
		return r.Session
	}
	for _, h := range s.Headers {
		if r.Header == nil {
			break
		}
		if v := r.Header(h); v != "" {
			return v
		}
	}
	return ""
}

// bound returns the position of the endpoint that the request's session is bound to, or -1.
func (s *SessionBinding) bound(c *scheduling.Cycle, slots []scheduling.Slot) int {
	session := s.session(c.Request)
	if session == "" {
		return -1
	}
	b := s.bindings()
	b.mu.Lock()
	at, ok := b.get(session)
	b.mu.Unlock()
	if !ok || c.Now().UnixNano()-at.used > s.ttl() || !at.there(c) {
		return -1
	}
	return slices.Index(slots, at.slot)
}

func (b *bindings) get(session string) (binding, bool) {
	at, ok := b.now[session]
	if !ok {
		at, ok = b.was[session]
	}
	return at, ok
}

func (at binding) there(c *scheduling.Cycle) bool {
	return c.Snapshot.Endpoint(at.slot) != nil && c.Snapshot.Generation(at.slot) == at.generation
}

// Filter implements scheduling.Filter.
func (s *SessionBinding) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if at := s.bound(c, slots); at >= 0 {
		return append(slots[:0], slots[at])
	}
	return slots
}

// Score implements scheduling.Scorer.
func (s *SessionBinding) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	at := s.bound(c, slots)
	if at < 0 {
		abstain(scores)
		return
	}
	clear(scores)
	scores[at] = 1
}

// Commit implements scheduling.Committer.
func (s *SessionBinding) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	session := s.session(c.Request)
	if session == "" {
		return
	}
	now, ttl := c.Now().UnixNano(), s.ttl()
	b := s.bindings()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now-b.turned > ttl {
		b.turned = now
		b.now, b.was = b.was, b.now
		clear(b.now)
	}
	at, ok := b.get(session)
	if !ok {
		session = strings.Clone(session) // it may be part of a larger text
	}
	if !ok || now-at.used > ttl || !at.there(c) {
		at = binding{generation: c.Snapshot.Generation(chosen), slot: chosen}
	}
	at.used = now
	b.now[session] = at
}

// Inherit implements scheduling.Inheritor: it shares the bindings of another SessionBinding.
func (s *SessionBinding) Inherit(old any) {
	if o, ok := old.(*SessionBinding); ok {
		s.use.Store(o.bindings())
	}
}

// Validate implements scheduling.Validator.
func (s *SessionBinding) Validate() error { return notNegative("ttlSeconds", s.TTLSeconds) }
