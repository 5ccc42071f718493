package enginesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
)

// Fault is what goes wrong with requests. The rates are chances between 0 and 1, drawn for each
// request in the order of the fields; the zero Fault is a healthy server.
type Fault struct {
	// RefuseRate: the connection is closed without an answer. Applies to every path.
	RefuseRate float64 `json:"refuse_rate,omitempty"`
	// HangRate: no answer ever, until the client leaves. Applies to every path.
	HangRate float64 `json:"hang_rate,omitempty"`
	// StatusRate: completions are answered with Status (default 503) and an error body.
	StatusRate float64 `json:"status_rate,omitempty"`
	Status     int     `json:"status,omitempty"`
	// CutRate: the connection of a completion is closed after CutAfterTokens tokens, without the end
	// of the body. An answer that is not streamed is closed at that point without a byte.
	CutRate        float64 `json:"cut_rate,omitempty"`
	CutAfterTokens int     `json:"cut_after_tokens,omitempty"`
	// SlowFactor: every step of the engine takes so many times as long. 0 means 1.
	SlowFactor float64 `json:"slow_factor,omitempty"`
}

func (f Fault) validate() error {
	var errs []error
	for _, r := range []struct {
		name string
		rate float64
	}{
		{"refuse_rate", f.RefuseRate}, {"hang_rate", f.HangRate},
		{"status_rate", f.StatusRate}, {"cut_rate", f.CutRate},
	} {
		if !(r.rate >= 0 && r.rate <= 1) {
			errs = append(errs, fmt.Errorf("%s is %v, want 0 to 1", r.name, r.rate))
		}
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		errs = append(errs, fmt.Errorf("status is %d, want 400 to 599", f.Status))
	}
	if f.CutAfterTokens < 0 {
		errs = append(errs, fmt.Errorf("cut_after_tokens is %d, want zero or more", f.CutAfterTokens))
	}
	if !(f.SlowFactor >= 0) || math.IsInf(f.SlowFactor, 0) {
		errs = append(errs, fmt.Errorf("slow_factor is %v, want a finite number above zero", f.SlowFactor))
	}
	return errors.Join(errs...)
}

// SetFault replaces the faults; requests that are already being answered keep the ones they drew,
// except that SlowFactor takes effect with the next step. An invalid Fault changes nothing.
func (s *Server) SetFault(f Fault) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf("enginesim: fault: %w", err)
	}
	slow := f.SlowFactor
	if slow == 0 {
		slow = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.engine.SetSlowdown(s.simulated(), slow); err != nil {
		return err
	}
	s.fault = f
	return nil
}

// Fault returns the faults in effect.
func (s *Server) Fault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// chance draws whether a fault of the current set strikes, and returns the set.
func (s *Server) chance(rate func(Fault) float64) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := rate(s.fault)
	return s.fault, r > 0 && s.random.Float64() < r
}

// unreliable applies the faults that strike before a request is looked at.
func (s *Server) unreliable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, hit := s.chance(func(f Fault) float64 { return f.RefuseRate }); hit {
			s.count(&s.counters.Refused)
			panic(http.ErrAbortHandler)
		}
		if _, hit := s.chance(func(f Fault) float64 { return f.HangRate }); hit {
			s.count(&s.counters.Hung)
			select {
			case <-r.Context().Done():
			case <-s.stopped:
			}
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) serveFaults(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var f Fault
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			badRequest("faults: %v", err).write(w)
			return
		}
		if err := s.SetFault(f); err != nil {
			badRequest("%v", err).write(w)
			return
		}
	}
	writeJSON(w, http.StatusOK, s.Fault())
}
