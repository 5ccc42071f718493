package enginesim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
)

// simulator names this program wherever a server names itself.
const simulator = "inferloom-enginesim"

// Server is one simulated engine behind HTTP. Safe for concurrent use.
type Server struct {
	o       Options
	mux     http.Handler
	created int64
	wake    chan struct{}
	stopped chan struct{}

	mu        sync.Mutex
	engine    *engine.Engine
	ran       bool
	epoch     time.Time // of simulated time; zero before Run
	real      time.Time // when simulated last looked at the clock
	streams   map[uint64]*stream
	nextID    uint64
	metrics   metrics
	announcer announcer
	fault     Fault
	random    *rand.Rand
	counters  Counters
}

// Stats are the engine's and the server's own.
type Stats struct {
	engine.Stats
	Counters
}

// Counters count what happened to HTTP requests for completions, and to all requests that a
// refuse or hang fault struck.
type Counters struct {
	Requests uint64 // completions asked for
	Rejected uint64 // answered with an error that is no fault
	Left     uint64 // whose client left before the end
	Refused  uint64 // faults
	Hung     uint64
	Failed   uint64
	Cut      uint64
}

// New returns a server whose engine stands still until Run. It reports every invalid option at
// once.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("enginesim options: %w", err)
	}
	s := &Server{
		o:         o,
		created:   time.Now().Unix(),
		wake:      make(chan struct{}, 1),
		stopped:   make(chan struct{}),
		streams:   map[uint64]*stream{},
		metrics:   newMetrics(),
		announcer: announcer{to: o.Events},
		random:    rand.New(rand.NewPCG(o.Seed, 0x5eed)),
	}
	var err error
	if s.engine, err = engine.New(0, o.Engine, s.hooks()); err != nil {
		return nil, fmt.Errorf("enginesim: %w", err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.serveChat)
	mux.HandleFunc("POST /v1/completions", s.serveText)
	mux.HandleFunc("GET /v1/models", s.serveModels)
	mux.HandleFunc("GET /health", s.serveHealth)
	mux.HandleFunc("GET /version", s.serveVersion)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	mux.HandleFunc("POST /reset_prefix_cache", s.serveReset)
	control := http.NewServeMux()
	control.HandleFunc("GET /sim/faults", s.serveFaults)
	control.HandleFunc("POST /sim/faults", s.serveFaults)
	control.Handle("/", s.unreliable(mux))
	s.mux = control
	return s, nil
}

// ServeHTTP serves the endpoints of a vLLM server and /sim/faults.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Simulator", simulator)
	s.mux.ServeHTTP(w, r)
}

// Stats returns the state now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.unlock()
	return Stats{Stats: s.engineStats(), Counters: s.counters}
}

// engineStats are the engine's as of the last thing that was due. The caller holds the lock.
func (s *Server) engineStats() engine.Stats {
	s.engine.Advance(s.simulated())
	return s.engine.Stats()
}

func (s *Server) count(c *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*c++
}

func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	type model struct {
		ID          string  `json:"id"`
		Object      string  `json:"object"`
		Created     int64   `json:"created"`
		OwnedBy     string  `json:"owned_by"`
		Root        string  `json:"root"`
		Parent      *string `json:"parent"`
		MaxModelLen int     `json:"max_model_len,omitempty"`
	}
	base := model{
		ID: s.o.Model, Object: "model", Created: s.created, OwnedBy: simulator, Root: s.o.Model,
		MaxModelLen: s.engine.Options().MaxContextTokens,
	}
	models := []model{base}
	for _, a := range s.o.Adapters {
		models = append(models, model{
			ID: a, Object: "model", Created: s.created, OwnedBy: simulator, Root: a, Parent: &base.ID,
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": models})
}

// serveHealth answers 503 during the engine's start-up and after Run.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if err := s.available(); err != nil {
		err.write(w)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": simulator})
}

// serveReset forgets the prefix cache; like vLLM it does nothing while blocks are in use.
func (s *Server) serveReset(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	done := s.engine.ResetPrefixCache(s.simulated())
	s.unlock()
	if !done {
		apiError{status: http.StatusConflict, kind: "Conflict", message: "blocks of the prefix cache are in use"}.write(w)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// available returns the error for work that reaches a server that cannot do any.
func (s *Server) available() *apiError {
	select {
	case <-s.stopped:
		return unavailable("%v", errStopped)
	default:
	}
	s.mu.Lock()
	defer s.unlock()
	s.engine.Advance(s.simulated())
	if !s.engine.Ready() {
		return unavailable("the simulated engine is starting")
	}
	return nil
}
