package indexserver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// Defaults of Options.
const (
	DefaultMaxBodyBytes = 16 << 20
	DefaultMaxEngines   = 1024
)

// Options are the parameters of a Server; Index and Follower are required, and belong together.
type Options struct {
	Index    *kvcache.Index
	Follower *follow.Follower
	// Register lets clients change who is followed. Leave it off where something else does.
	Register bool
	// MaxEngines bounds the engines that are registered; 0 means DefaultMaxEngines. It must not be above the index's MaxPods.
	MaxEngines int
	// MaxBodyBytes bounds a request's body; 0 means DefaultMaxBodyBytes, about two million tokens.
	MaxBodyBytes int64
	// Allow, if set, is asked whether an engine's events may be connected to, by its endpoint and its replay endpoint. Who can
	// register can else make this process connect anywhere.
	Allow  func(endpoint string) error
	Logger *slog.Logger     // nil logs nothing
	Now    func() time.Time // nil is time.Now
}

// Server is an http.Handler. It is safe for concurrent use and has no goroutine.
type Server struct {
	o       Options
	all     http.Handler
	queries http.Handler
	admin   http.Handler
	routes  routes
	roster  atomic.Pointer[roster]
	writing chan struct{} // holds a token while a snapshot is written
	scratch sync.Pool     // of *scratch

	mu         sync.Mutex // held while registrations change
	generation uint32
}

// New checks the options.
func New(o Options) (*Server, error) {
	var errs []error
	if o.Index == nil {
		errs = append(errs, errors.New("Index: nil"))
	}
	if o.Follower == nil {
		errs = append(errs, errors.New("Follower: nil"))
	}
	if o.MaxBodyBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBodyBytes: %d is negative", o.MaxBodyBytes))
	}
	if o.MaxEngines < 0 {
		errs = append(errs, fmt.Errorf("MaxEngines: %d is negative", o.MaxEngines))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("indexserver options: %w", errors.Join(errs...))
	}
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.MaxEngines = cmp.Or(o.MaxEngines, DefaultMaxEngines)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, writing: make(chan struct{}, 1)}
	s.roster.Store(new(roster))
	s.scratch.New = func() any { return new(scratch) }
	all, queries, admin := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	add := func(mux *http.ServeMux, method, path string, h http.HandlerFunc) {
		h = s.routes.counted(path, o.Now, h)
		mux.HandleFunc(method+" "+path, h)
		all.HandleFunc(method+" "+path, h)
	}
	add(queries, "POST", "/query", s.query)
	add(queries, "POST", "/query_by_hash", s.queryByHash)
	add(queries, "GET", "/health", s.health)
	add(queries, "GET", "/ready", s.ready)
	if o.Register {
		add(admin, "POST", "/register", s.register)
		add(admin, "POST", "/unregister", s.unregister)
	}
	add(admin, "GET", "/workers", s.workers)
	add(admin, "GET", "/metrics", s.metrics)
	add(admin, "GET", "/snapshot", s.snapshot)
	add(admin, "POST", "/debug/why", s.why)
	s.all, s.queries, s.admin = all, queries, admin
	return s, nil
}

// ServeHTTP serves all routes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.all.ServeHTTP(w, r) }

// Queries serves what routers ask.
func (s *Server) Queries() http.Handler { return s.queries }

// Admin serves the rest.
func (s *Server) Admin() http.Handler { return s.admin }

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready is for load balancers: a replica that has heard nothing yet would answer that nobody holds anything.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	waiting := []string{}
	for _, h := range s.o.Follower.Health() {
		if !h.Ready() {
			waiting = append(waiting, h.Engine.Name)
		}
	}
	status := http.StatusOK
	if len(waiting) > 0 {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]any{"ready": len(waiting) == 0, "waiting": waiting})
}

// snapshot writes what Fetch reads, to one client at a time: each takes the memory of a snapshot.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.o.Follower.WriteSnapshot(w); err != nil {
		s.o.Logger.Warn("kv index: snapshot", "client", r.RemoteAddr, "error", err)
		panic(http.ErrAbortHandler) // so that the client does not take what it has for all
	}
}
