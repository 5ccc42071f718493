package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/inferloom/inferloom/gateway/api"
)

// Router decides where a request runs. It is safe for concurrent use.
//
// Route may wait, for capacity or for an earlier leg of the request, until ctx is done. It returns a [*Rejection] to
// say what the client should be told, the error of ctx if that ended first, or any other error for a fault of its own.
type Router interface {
	Route(ctx context.Context, r *api.Request) (*Route, error)
}

// RouterFunc is a function as a [Router].
type RouterFunc func(ctx context.Context, r *api.Request) (*Route, error)

// Route calls f.
func (f RouterFunc) Route(ctx context.Context, r *api.Request) (*Route, error) { return f(ctx, r) }

// Target is where a request goes, and how it must look there. The slices are read only.
type Target struct {
	ID      string // of the endpoint, for logs
	Address string // host:port

	Header []HeaderEdit // in order, after the data plane's own changes
	Body   []api.Edit   // for api.Splice on the body as the client sent it
}

// HeaderEdit sets a header of a request, or removes it if Value is empty.
type HeaderEdit struct {
	Name  string // in canonical form, such as X-Request-Id
	Value string
}

// Lease is what a brain holds for a request that runs. The [Route] above it serialises the calls and keeps them in
// order; they must not block, and must not call the Route.
type Lease interface {
	// Next moves the lease to the next endpoint in rank, because the current one failed with cause before anything of
	// its answer was used. It returns false if there is none; the lease then stays where it is.
	Next(cause error) (Target, bool)

	// Status tells which HTTP status the client is sent.
	Status(code int)

	// FirstByte tells that the first byte of a successful answer has arrived.
	FirstByte()

	// Usage tells how many tokens the request has taken so far. Counts grow from call to call, until those of the
	// engine, which are the last, replace the estimates.
	Usage(u api.Usage)

	// End gives the lease back. See [Route.End] for err.
	End(err error)
}

// Route is one request's way to an engine. It is safe for concurrent use.
type Route struct {
	mu      sync.Mutex
	target  Target
	lease   Lease
	started bool // FirstByte was called
	ended   bool
}

// NewRoute returns a Route that starts at target and is accounted for by lease.
func NewRoute(target Target, lease Lease) *Route {
	return &Route{target: target, lease: lease}
}

// Target returns where the request goes now.
func (r *Route) Target() Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target
}

// Next moves the route to the next choice after the current one failed with cause, an [*EngineError] where it is known
// what the engine did. It returns false if there is no other choice, or once FirstByte or End was called; the target
// then stays.
func (r *Route) Next(cause error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.ended {
		return false
	}
	target, ok := r.lease.Next(cause)
	if ok {
		r.target = target
	}
	return ok
}

// Status tells which HTTP status the client is sent, where there is an answer. Only the last call counts.
func (r *Route) Status(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.lease.Status(code)
	}
}

// FirstByte tells that the first byte of a successful answer has arrived. Calls after the first do nothing.
func (r *Route) FirstByte() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.ended {
		return
	}
	r.started = true
	r.lease.FirstByte()
}

// Usage tells how many tokens the request has taken so far. It may be called often, but not for each token: it takes a
// lock.
func (r *Route) Usage(u api.Usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.lease.Usage(u)
	}
}

// End ends the route, once: nil when the engine answered, be it with a refusal of the request (4xx); an [*EngineError]
// when the engine failed; an error that wraps [ErrClientGone] and the context's cause when the client left. Calls after
// the first do nothing.
func (r *Route) End(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	r.lease.End(err)
}

// ErrClientGone is in the error that ends a route whose client left before the answer was complete. It says nothing
// about the engine.
var ErrClientGone = errors.New("the client left")

// EngineError is a failure of the engine at one target. Breakers tell by it what counts: a 503 or 504 is back-pressure
// or a slow path, no status is a broken connection.
type EngineError struct {
	Endpoint string // the target's ID
	Status   int    // what the engine answered; 0 if the connection failed before or during the answer
	Err      error  // what failed; nil if the engine answered
}

func (e *EngineError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("endpoint %s answered with status %d", e.Endpoint, e.Status)
	}
	return fmt.Sprintf("endpoint %s: %v", e.Endpoint, e.Err)
}

func (e *EngineError) Unwrap() error { return e.Err }
