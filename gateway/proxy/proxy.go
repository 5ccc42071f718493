package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
)

// Options configure a [Proxy]. The zero value works.
type Options struct {
	// Transport sends requests to engines. Nil is a transport of the Proxy's own for plain HTTP/1.1, which takes
	// about a fifth off the Proxy's CPU time for a 1 KB request compared with http.Transport (BenchmarkAddedLatency with
	// either). It keeps up to 1024 idle connections an endpoint for
	// 90 s, dials within 5 s and has no limit on the time of an answer. Set one for TLS or HTTP/2 to engines.
	Transport http.RoundTripper

	// MaxBodyBytes bounds the body of a request; a larger one is answered with 413 as soon as its size is known. 0 is
	// 32 MiB. A body is in memory until its request has ended.
	MaxBodyBytes int64

	// MaxAttempts bounds how many endpoints a request is sent to, one after the other. 0 is 3; 1 never retries.
	MaxAttempts int

	// ResponseHeaderTimeout bounds the wait for the header of an engine's answer, in each attempt. 0 is no bound, since
	// an answer that is not streamed has no header before it is complete. It costs a timer a request.
	ResponseHeaderTimeout time.Duration

	// ForwardCredentials passes Authorization, Cookie and API-key headers on to engines, which then see what the
	// clients' keys are.
	ForwardCredentials bool

	// Models lists the models for GET /v1/models; called for every such request. Nil answers 404.
	Models func() []string

	// Logger gets a line for every failed attempt and for every request that does not end well. Prompts are never
	// logged. Nil logs nothing.
	Logger *slog.Logger

	// RequestID makes the X-Request-Id of requests that have none (or one that is too odd to log). Nil makes random
	// UUIDs.
	RequestID func() string
}

func (o Options) validate() error {
	var errs []error
	if o.MaxBodyBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBodyBytes: want 0 or more, got %d", o.MaxBodyBytes))
	}
	if o.MaxAttempts < 0 {
		errs = append(errs, fmt.Errorf("MaxAttempts: want 0 or more, got %d", o.MaxAttempts))
	}
	if o.ResponseHeaderTimeout < 0 {
		errs = append(errs, fmt.Errorf("ResponseHeaderTimeout: want 0 or more, got %v", o.ResponseHeaderTimeout))
	}
	return errors.Join(errs...)
}

// Proxy is the data plane. It is an http.Handler, safe for concurrent use.
type Proxy struct {
	router  gateway.Router
	options Options
	log     *slog.Logger

	own       *transport // the default transport, if it is in use
	transport http.RoundTripper

	exchanges sync.Pool // *exchange
	bodies    sync.Pool // *sharedBody
	buffers   sync.Pool // *[bufferBytes]byte
}

// New returns a Proxy that asks router where requests run.
func New(router gateway.Router, options Options) (*Proxy, error) {
	err := options.validate()
	if router == nil {
		err = errors.Join(errors.New("router: must not be nil"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("new proxy: %w", err)
	}
	if options.MaxBodyBytes == 0 {
		options.MaxBodyBytes = 32 << 20
	}
	if options.MaxAttempts == 0 {
		options.MaxAttempts = 3
	}
	if options.RequestID == nil {
		options.RequestID = randomID
	}
	p := &Proxy{router: router, options: options, log: options.Logger, transport: options.Transport}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.transport == nil {
		p.own = newTransport()
		p.transport = p.own
	}
	p.exchanges.New = func() any { return new(exchange) }
	p.bodies.New = func() any { return new(sharedBody) }
	p.buffers.New = func() any { return new([bufferBytes]byte) }
	return p, nil
}

// Close closes the idle connections of the Proxy's own transport. Requests that run are not affected.
func (p *Proxy) Close() {
	if p.own != nil {
		p.own.closeAll()
	}
}

// randomID returns a random UUID (version 4).
func randomID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:], id[0:4])
	hex.Encode(s[9:], id[4:6])
	hex.Encode(s[14:], id[6:8])
	hex.Encode(s[19:], id[8:10])
	hex.Encode(s[24:], id[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// exchange is one request and its answer. Exchanges are pooled for the memory of the request view and the observers.
type exchange struct {
	p     *Proxy
	w     http.ResponseWriter
	r     *http.Request
	id    string
	req   api.Request
	body  *sharedBody
	route *gateway.Route

	stream api.StreamObserver
	whole  api.BodyObserver
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerRequestID)
	if !loggable(id) {
		id = p.options.RequestID()
	}
	w.Header()[headerRequestID] = []string{id}

	kind := api.KindOf(r.URL.Path)
	switch kind {
	case api.Unknown:
		p.reject(w, r, id, errNotFound(r.URL.Path))
		return
	case api.Models:
		p.serveModels(w, r, id)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		p.reject(w, r, id, errMethod(r.Method))
		return
	}
	body, apiErr := p.readBody(r)
	if apiErr != nil {
		p.reject(w, r, id, apiErr)
		return
	}

	x := p.exchanges.Get().(*exchange)
	x.p, x.w, x.r, x.id, x.body = p, w, r, id, body
	abort := x.serve(kind)
	x.recycle()
	if abort {
		panic(http.ErrAbortHandler) // net/http's way to cut the connection, so that the client sees a broken answer
	}
}

// recycle gives x back, without what belonged to the request. After a panic of the router or the writer it is not
// called, and x is left to the garbage collector.
func (x *exchange) recycle() {
	p := x.p
	x.body.release()
	x.p, x.w, x.r, x.body, x.route = nil, nil, nil, nil, nil
	x.req.Header, x.req.Body = nil, nil
	p.exchanges.Put(x)
}

var errPanicked = errors.New("the handler panicked")

// serve answers the request. It returns true if the connection to the client must be cut.
func (x *exchange) serve(kind api.Kind) (abort bool) {
	x.req.Header = x.r.Header.Get
	if err := x.req.Parse(kind, x.body.bytes); err != nil {
		var apiErr *api.Error
		errors.As(err, &apiErr)
		x.p.reject(x.w, x.r, x.id, apiErr)
		return false
	}
	ctx := x.r.Context()
	route, err := x.p.router.Route(ctx, &x.req)
	if err != nil {
		x.rejectRoute(ctx, err)
		return false
	}
	x.route = route
	err = errPanicked
	defer func() { route.End(err) }()
	abort, err = x.forward(ctx)
	return abort
}

func (x *exchange) rejectRoute(ctx context.Context, err error) {
	if ctx.Err() != nil {
		x.logClientGone(ctx, "while the request was being routed")
		x.w.WriteHeader(statusClientGone)
		return
	}
	rejection := gateway.RejectionOf(err)
	level := slog.LevelInfo
	if rejection.Status >= 500 {
		level = slog.LevelWarn
	}
	x.p.log.LogAttrs(ctx, level, "request rejected", slog.String("request_id", x.id), slog.String("model", x.req.Model),
		slog.Int("status", rejection.Status), slog.String("reason", rejection.Reason), slog.Any("error", err))
	for _, h := range rejection.Header {
		x.w.Header().Set(h.Name, h.Value)
	}
	writeError(x.w, rejection.APIError(), rejection.RetryAfter)
}

func (x *exchange) logClientGone(ctx context.Context, when string) {
	x.p.log.LogAttrs(ctx, slog.LevelInfo, "client left", slog.String("request_id", x.id),
		slog.String("model", x.req.Model), slog.String("when", when), slog.Any("cause", context.Cause(ctx)))
}
