package selectserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Defaults of Options.
const (
	DefaultLease           = 2 * time.Minute
	DefaultMaxLease        = time.Hour
	DefaultMaxReservations = 100_000
	DefaultMaxBodyBytes    = 16 << 20
)

// Options are the parameters of a Server; Scheduler is required.
type Options struct {
	Scheduler *scheduling.Scheduler
	// Lease is how long a reservation is kept of which nothing is heard, where the host does not say; 0 means DefaultLease.
	// MaxLease is the longest that a host may ask for; 0 means DefaultMaxLease, or Lease if that is longer.
	Lease, MaxLease time.Duration
	// MaxReservations is how many are held at most; 0 means DefaultMaxReservations. Each keeps its request, prompt and all.
	MaxReservations int
	// MaxBodyBytes bounds the body of a call; 0 means DefaultMaxBodyBytes.
	MaxBodyBytes int64
}

// Server is an http.Handler. It is safe for concurrent use.
type Server struct {
	sched  *scheduling.Scheduler
	o      Options
	leases leases
	mux    http.ServeMux
}

// New makes a Server, or reports every problem with the options.
func New(o Options) (*Server, error) {
	var problems []error
	if o.Scheduler == nil {
		problems = append(problems, errors.New("scheduler: nil"))
	}
	if o.Lease < 0 {
		problems = append(problems, fmt.Errorf("lease %v: negative", o.Lease))
	}
	o.Lease = cmp.Or(o.Lease, DefaultLease)
	o.MaxLease = cmp.Or(o.MaxLease, max(DefaultMaxLease, o.Lease))
	if o.MaxLease < o.Lease {
		problems = append(problems, fmt.Errorf("max lease %v: less than the lease of %v", o.MaxLease, o.Lease))
	}
	if o.MaxReservations < 0 {
		problems = append(problems, fmt.Errorf("max reservations %d: negative", o.MaxReservations))
	}
	if o.MaxBodyBytes < 0 {
		problems = append(problems, fmt.Errorf("max body bytes %d: negative", o.MaxBodyBytes))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	o.MaxReservations = cmp.Or(o.MaxReservations, DefaultMaxReservations)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	s := &Server{sched: o.Scheduler, o: o}
	s.leases.init(o.MaxReservations)
	s.routes()
	return s, nil
}

// Run ends reservations whose lease has run out, until the context ends; then it ends all. Call it once.
func (s *Server) Run(ctx context.Context) { s.leases.run(ctx) }

// Reservations is how many are held.
func (s *Server) Reservations() int { return s.leases.len() }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// call answers one kind of request: with a value to be sent as JSON, nil for an answer without a body, or an error.
type call func(r *http.Request) (any, error)

func (s *Server) routes() {
	methods := map[string][]string{}
	handle := func(method, path string, c call) {
		methods[path] = append(methods[path], method)
		s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBodyBytes)
			answer, err := c(r)
			if err != nil {
				writeError(w, err)
				return
			}
			if answer == nil {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			writeJSON(w, http.StatusOK, answer)
		})
	}
	handle("GET", "/workers", s.listWorkers)
	handle("POST", "/workers", s.registerWorker)
	handle("GET", "/workers/{id}", s.getWorker)
	handle("DELETE", "/workers/{id}", s.removeWorker)
	handle("POST", "/workers/{id}/metrics", s.reportMetrics)
	handle("GET", "/loads", s.loads)
	handle("POST", "/select", s.choose)
	handle("POST", "/select_and_reserve", s.selectAndReserve)
	handle("POST", "/reservations", s.reserveAt)
	handle("POST", "/reservations/{id}/first_token", s.firstToken)
	handle("POST", "/reservations/{id}/tokens", s.tokens)
	handle("POST", "/reservations/{id}/next", s.next)
	handle("POST", "/reservations/{id}/renew", s.renew)
	handle("POST", "/reservations/{id}/stages/{stage}/next", s.stageNext)
	handle("POST", "/reservations/{id}/stages/{stage}/done", s.stageDone)
	handle("DELETE", "/reservations/{id}", s.release)
	for path, allowed := range methods {
		slices.Sort(allowed)
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			for _, m := range allowed {
				w.Header().Add("Allow", m)
			}
			writeError(w, &apiError{http.StatusMethodNotAllowed, "method_not_allowed", []string{fmt.Sprintf("method %s: want one of %q", r.Method, allowed)}})
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{http.StatusNotFound, "unknown_path", []string{fmt.Sprintf("path %q: there is no such", r.URL.Path)}})
	})
}

// apiError is an answer other than 2xx.
type apiError struct {
	status   int
	code     string
	problems []string // each names its field and value
}

func (e *apiError) Error() string { return fmt.Sprintf("%s: %q", e.code, e.problems) }

func invalid(problems ...string) error {
	return &apiError{http.StatusBadRequest, "invalid_request", problems}
}

func writeError(w http.ResponseWriter, err error) {
	var e *apiError
	var pick *scheduling.PickError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
	case errors.As(err, &tooLarge):
		e = &apiError{http.StatusRequestEntityTooLarge, "body_too_large", []string{fmt.Sprintf("body: more than %d bytes", tooLarge.Limit)}}
	case errors.Is(err, scheduling.ErrUnknownModel) && errors.As(err, &pick):
		e = &apiError{http.StatusNotFound, "unknown_model", []string{fmt.Sprintf("model %q: %v", pick.Model, pick)}}
	case errors.Is(err, scheduling.ErrUnknownEndpoint):
		e = &apiError{http.StatusNotFound, "unknown_worker", []string{"worker: " + err.Error()}}
	case errors.Is(err, scheduling.ErrNoEndpoint):
		e = &apiError{http.StatusServiceUnavailable, "no_worker", []string{err.Error()}}
	default: // the client has gone
		e = &apiError{http.StatusServiceUnavailable, "canceled", []string{err.Error()}}
	}
	var body struct {
		Error struct {
			Code     string   `json:"code"`
			Problems []string `json:"problems"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Problems = e.code, e.problems
	writeJSON(w, e.status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever cannot be written to has gone
}

// read decodes the body of a call, strictly. An empty one leaves v as it is.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			return invalid("body: more than one JSON value")
		}
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, new(*http.MaxBytesError)), errors.As(err, new(*apiError)):
		return err
	case errors.As(err, &wrong):
		return invalid(fmt.Sprintf("%s: is a JSON %s, want %v", cmp.Or(wrong.Field, "body"), wrong.Value, wrong.Type))
	}
	return invalid("body: " + strings.TrimPrefix(err.Error(), "json: "))
}
