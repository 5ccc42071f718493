package selectserver

import (
	"crypto/rand"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// ask is a request to be placed.
type ask struct {
	ID        string            `json:"id"`
	Model     string            `json:"model"`
	Adapter   string            `json:"adapter"`
	Prompt    prompt            `json:"prompt"`
	MaxTokens int               `json:"max_tokens"`
	Priority  int               `json:"priority"`
	Tenant    string            `json:"tenant"`
	Session   string            `json:"session"`
	Pinned    string            `json:"pinned"`
	TTFTMs    float64           `json:"ttft_ms"`
	TPOTMs    float64           `json:"tpot_ms"`
	Headers   map[string]string `json:"headers"`
	Lease     float64           `json:"lease_seconds"`
	Worker    string            `json:"worker"`
	Explain   bool              `json:"explain"`
}

type prompt struct {
	Text   string   `json:"text"`
	Tokens tokenIDs `json:"tokens"`
	Blocks []blocks `json:"blocks"`
	Salt   string   `json:"salt"`
}

type blocks struct {
	Tokens int        `json:"block_tokens"`
	Hashes []blockSum `json:"hashes"`
}

// maxID is how long the id of a reservation may be.
const maxID = 256

// request is what the scheduler is asked, or every problem with what the host asked.
func (a *ask) request(s *scheduling.Snapshot) (scheduling.Request, error) {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	millis := func(field string, ms float64) time.Duration {
		if ms < 0 || ms > math.MaxInt32 {
			bad("%s %v: want 0 to %d", field, ms, math.MaxInt32)
			return 0
		}
		return time.Duration(ms * float64(time.Millisecond))
	}
	r := scheduling.Request{
		Model: a.Model, Adapter: a.Adapter, MaxTokens: a.MaxTokens, Priority: a.Priority, Tenant: a.Tenant, Session: a.Session,
		Pinned: a.Pinned, TTFT: millis("ttft_ms", a.TTFTMs), TPOT: millis("tpot_ms", a.TPOTMs), Explain: a.Explain,
		Prompt: scheduling.Prompt{Text: []byte(a.Prompt.Text), Tokens: a.Prompt.Tokens, Salt: a.Prompt.Salt},
	}
	if r.Adapter == "" {
		r.Model, r.Adapter, _ = s.Resolve(a.Model)
	}
	if len(a.ID) > maxID {
		bad("id %.20q...: %d bytes, want at most %d", a.ID, len(a.ID), maxID)
	}
	if a.MaxTokens < 0 {
		bad("max_tokens %d: negative", a.MaxTokens)
	}
	for i, b := range a.Prompt.Blocks {
		if b.Tokens < 1 {
			bad("prompt.blocks[%d].block_tokens %d: want at least 1", i, b.Tokens)
		}
		chain := scheduling.Chain{BlockTokens: b.Tokens, Hashes: make([]uint64, len(b.Hashes))}
		for j, h := range b.Hashes {
			chain.Hashes[j] = uint64(h)
		}
		r.Prompt.Chains = append(r.Prompt.Chains, chain)
	}
	if len(a.Headers) > 0 {
		canonical := make(http.Header, len(a.Headers))
		for name, value := range a.Headers {
			canonical.Set(name, value)
		}
		r.Header = canonical.Get
	}
	if len(problems) > 0 {
		return r, invalid(problems...)
	}
	return r, nil
}

// leaseLength is how long a lease is that a host asked for in seconds; 0 means what is usual.
func (s *Server) leaseLength(seconds float64) (time.Duration, error) {
	if seconds == 0 {
		return 0, nil
	}
	most := s.o.MaxLease.Seconds()
	if !(seconds > 0 && seconds <= most) {
		return 0, invalid(fmt.Sprintf("lease_seconds %v: want more than 0 and at most %v", seconds, most))
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// placement is where a request goes.
type placement struct {
	Reservation string  `json:"reservation,omitempty"`
	Lease       float64 `json:"lease_seconds,omitempty"`
	Worker      target  `json:"worker"`
	// CachedTokens is how much of the prompt the worker is believed to have cached.
	CachedTokens int      `json:"cached_tokens"`
	PromptTokens int      `json:"prompt_tokens"`
	Score        float64  `json:"score"`
	Fallbacks    []target `json:"fallbacks,omitempty"`
	// Source has more of the prompt cached than the worker, which may fetch it from there.
	Source *source `json:"source,omitempty"`
	// Stages are the stages that run beside the primary one, which the fields above are of: a prefill elsewhere, say.
	Stages      []stage                 `json:"stages,omitempty"`
	Explanation *scheduling.Explanation `json:"explanation,omitempty"`
}

// stage is where one leg of a request goes.
type stage struct {
	Stage        string   `json:"stage"`
	Worker       target   `json:"worker"`
	CachedTokens int      `json:"cached_tokens"`
	Score        float64  `json:"score"`
	Fallbacks    []target `json:"fallbacks,omitempty"`
	Source       *source  `json:"source,omitempty"`
}

type target struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Rank    int    `json:"rank,omitempty"`
}

type source struct {
	Worker       target `json:"worker"`
	CachedTokens int    `json:"cached_tokens"`
}

func newTarget(e *scheduling.Endpoint) target { return target{e.ID, e.Address, e.Rank} }

func newTargets(list []*scheduling.Endpoint) []target {
	var targets []target
	for _, e := range list {
		targets = append(targets, newTarget(e))
	}
	return targets
}

func newSource(s scheduling.Source) *source {
	if s.Endpoint == nil {
		return nil
	}
	return &source{newTarget(s.Endpoint), s.CachedTokens}
}

// newPlacement is a decision as it stands.
func newPlacement(r *scheduling.Request, d *scheduling.Decision) placement {
	p := placement{
		Worker: newTarget(d.Endpoint), CachedTokens: d.CachedTokens, PromptTokens: r.Prompt.Len(), Score: d.Score,
		Fallbacks: newTargets(d.Fallbacks()), Source: newSource(d.Source), Explanation: d.Explanation,
	}
	for _, name := range d.Stages() {
		if leg, ran := d.Stage(name); ran && !leg.Primary() {
			p.Stages = append(p.Stages, stage{
				name, newTarget(leg.Endpoint), leg.CachedTokens, leg.Score, newTargets(leg.Fallbacks()), newSource(leg.Source),
			})
		}
	}
	return p
}

// placement is the lease as it stands, which must be locked, and is so long.
func (l *lease) placement(length time.Duration) placement {
	p := newPlacement(&l.request, &l.decision)
	p.Reservation, p.Lease = l.id, length.Seconds()
	return p
}

// choose tells where a request would go, and reserves nothing.
func (s *Server) choose(r *http.Request) (any, error) {
	var a ask
	if err := read(r, &a); err != nil {
		return nil, err
	}
	if a.ID != "" || a.Lease != 0 || a.Worker != "" {
		return nil, invalid("id, lease_seconds, worker: only a reservation has them")
	}
	request, err := a.request(s.sched.Pool().Snapshot())
	if err != nil {
		return nil, err
	}
	d, err := s.sched.Preview(r.Context(), &request)
	if err != nil {
		return nil, err
	}
	defer d.Done()
	return newPlacement(&request, &d), nil
}

// selectAndReserve places a request where it is best placed.
func (s *Server) selectAndReserve(r *http.Request) (any, error) {
	var a ask
	if err := read(r, &a); err != nil {
		return nil, err
	}
	if a.Worker != "" {
		return nil, invalid(fmt.Sprintf("worker %q: is chosen here; POST /reservations reserves at a worker of the host's choice", a.Worker))
	}
	return s.reserve(&a, func(request *scheduling.Request) (scheduling.Decision, error) {
		return s.sched.Pick(r.Context(), request)
	})
}

// reserveAt places a request at a worker of the host's choice.
func (s *Server) reserveAt(r *http.Request) (any, error) {
	var a ask
	if err := read(r, &a); err != nil {
		return nil, err
	}
	if a.Worker == "" {
		return nil, invalid("worker is empty: want the id of one; POST /select_and_reserve chooses")
	}
	return s.reserve(&a, func(request *scheduling.Request) (scheduling.Decision, error) {
		return s.sched.Place(request, a.Worker)
	})
}

// reserve places a request. A host that sends one again under the same id gets what it got the first time.
func (s *Server) reserve(a *ask, place func(*scheduling.Request) (scheduling.Decision, error)) (any, error) {
	length, err := s.leaseLength(a.Lease)
	if err != nil {
		return nil, err
	}
	l := &lease{id: a.ID, length: length}
	if l.request, err = a.request(s.sched.Pool().Snapshot()); err != nil {
		return nil, err
	}
	if l.length == 0 {
		l.length = s.o.Lease
	}
	if l.id == "" {
		l.id = rand.Text()
	} else if answer, ok := s.held(l.id); ok {
		return answer, nil
	}
	if l.decision, err = place(&l.request); err != nil {
		return nil, err
	}
	answer := l.placement(l.length)
	for {
		ok, full := s.leases.hold(l)
		if ok {
			return answer, nil
		}
		if full {
			l.end()
			return nil, &apiError{http.StatusTooManyRequests, "too_many_reservations", []string{
				fmt.Sprintf("reservations: %d are held, which is the most", s.o.MaxReservations)}}
		}
		if answer, ok := s.held(l.id); ok { // the same call came twice at once
			l.end()
			return answer, nil
		}
	}
}

// held answers with a lease that another call made.
func (s *Server) held(id string) (placement, bool) {
	l, length := s.leases.find(id, 0)
	if l == nil {
		return placement{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return placement{}, false
	}
	return l.placement(length), true
}

func unknownReservation(id string) error {
	return &apiError{http.StatusNotFound, "unknown_reservation", []string{fmt.Sprintf("reservation %q: never made, ended, or its lease ran out", id)}}
}

// use renews a lease and does something with it.
func (s *Server) use(r *http.Request, length time.Duration, do func(*lease, time.Duration) (any, error)) (any, error) {
	id := r.PathValue("id")
	l, length := s.leases.find(id, length)
	if l == nil {
		return nil, unknownReservation(id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, unknownReservation(id)
	}
	return do(l, length)
}

func (s *Server) firstToken(r *http.Request) (any, error) {
	return s.use(r, 0, func(l *lease, _ time.Duration) (any, error) {
		l.decision.FirstToken()
		return nil, nil
	})
}

func (s *Server) tokens(r *http.Request) (any, error) {
	var body struct {
		Tokens int `json:"tokens"`
	}
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if body.Tokens < 1 || body.Tokens > math.MaxInt32 {
		return nil, invalid(fmt.Sprintf("tokens %d: want 1 to %d", body.Tokens, math.MaxInt32))
	}
	return s.use(r, 0, func(l *lease, _ time.Duration) (any, error) {
		l.decision.Tokens(body.Tokens)
		return nil, nil
	})
}

func (s *Server) renew(r *http.Request) (any, error) {
	var body struct {
		Lease float64 `json:"lease_seconds"`
	}
	if err := read(r, &body); err != nil {
		return nil, err
	}
	length, err := s.leaseLength(body.Lease)
	if err != nil {
		return nil, err
	}
	return s.use(r, length, func(*lease, time.Duration) (any, error) { return nil, nil })
}

// next moves a reservation to the next worker in rank.
func (s *Server) next(r *http.Request) (any, error) {
	return s.use(r, 0, func(l *lease, length time.Duration) (any, error) {
		if !l.decision.Next() {
			l.ended = true
			s.leases.drop(l)
			return nil, &apiError{http.StatusGone, "no_fallback", []string{fmt.Sprintf("reservation %q: no other worker is left; it has ended", l.id)}}
		}
		return l.placement(length), nil
	})
}

// leg does something with a stage of a reservation that is not the primary one.
func (s *Server) leg(r *http.Request, do func(l *lease, leg *scheduling.Decision, length time.Duration) (any, error)) (any, error) {
	return s.use(r, 0, func(l *lease, length time.Duration) (any, error) {
		name := r.PathValue("stage")
		leg, ran := l.decision.Stage(name)
		if !ran || leg.Primary() {
			return nil, &apiError{http.StatusNotFound, "unknown_stage", []string{
				fmt.Sprintf("stage %q: not one of the stages of reservation %q", name, l.id)}}
		}
		return do(l, &leg, length)
	})
}

func (s *Server) stageDone(r *http.Request) (any, error) {
	return s.leg(r, func(_ *lease, leg *scheduling.Decision, _ time.Duration) (any, error) {
		leg.Done()
		return nil, nil
	})
}

func (s *Server) stageNext(r *http.Request) (any, error) {
	return s.leg(r, func(l *lease, leg *scheduling.Decision, length time.Duration) (any, error) {
		if !leg.Next() {
			return nil, &apiError{http.StatusGone, "no_fallback", []string{
				fmt.Sprintf("stage %q: no other worker is left; the stage has ended, the reservation has not", r.PathValue("stage"))}}
		}
		return l.placement(length), nil
	})
}

func (s *Server) release(r *http.Request) (any, error) {
	id := r.PathValue("id")
	l := s.leases.take(id)
	if l == nil {
		return nil, unknownReservation(id)
	}
	l.end()
	return nil, nil
}
