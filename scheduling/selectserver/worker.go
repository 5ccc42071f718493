package selectserver

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// worker is an endpoint as a host writes it.
type worker struct {
	ID          string            `json:"id,omitempty"`
	Address     string            `json:"address"`
	Rank        int               `json:"rank,omitempty"`
	Roles       []string          `json:"roles,omitempty"`
	Model       string            `json:"model,omitempty"`
	Adapters    []string          `json:"adapters,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	BlockTokens int               `json:"block_tokens,omitempty"`
	CacheBlocks int               `json:"cache_blocks,omitempty"`
}

var phases = [...]struct {
	name string
	role scheduling.Role
}{{"encode", scheduling.Encode}, {"prefill", scheduling.Prefill}, {"decode", scheduling.Decode}}

func newWorker(e *scheduling.Endpoint) worker {
	w := worker{
		ID: e.ID, Address: e.Address, Rank: e.Rank, Model: e.Model, Adapters: e.Adapters, Labels: e.Labels,
		BlockTokens: e.BlockTokens, CacheBlocks: e.CacheBlocks,
	}
	for _, p := range phases {
		if e.Role&p.role != 0 {
			w.Roles = append(w.Roles, p.name)
		}
	}
	return w
}

func (w *worker) endpoint() (scheduling.Endpoint, error) {
	if w.ID == "" { // as the pool would name it
		w.ID = w.Address
		if w.Rank != 0 {
			w.ID += "#" + strconv.Itoa(w.Rank)
		}
	}
	e := scheduling.Endpoint{
		ID: w.ID, Address: w.Address, Rank: w.Rank, Model: w.Model, Adapters: w.Adapters, Labels: w.Labels,
		BlockTokens: w.BlockTokens, CacheBlocks: w.CacheBlocks,
	}
	var problems []string
	for i, name := range w.Roles {
		known := false
		for _, p := range phases {
			if p.name == name {
				e.Role |= p.role
				known = true
			}
		}
		if !known {
			problems = append(problems, fmt.Sprintf("roles[%d] %q: want encode, prefill or decode", i, name))
		}
	}
	if len(problems) > 0 {
		return e, invalid(problems...)
	}
	return e, nil
}

func (s *Server) listWorkers(*http.Request) (any, error) {
	snap := s.sched.Pool().Snapshot()
	all := make([]worker, 0, len(snap.Live()))
	for _, slot := range snap.Live() {
		all = append(all, newWorker(snap.Endpoint(slot)))
	}
	return map[string]any{"workers": all}, nil
}

// registerWorker adds a worker, or updates the one with the same id.
func (s *Server) registerWorker(r *http.Request) (any, error) {
	var w worker
	if err := read(r, &w); err != nil {
		return nil, err
	}
	e, err := w.endpoint()
	if err != nil {
		return nil, err
	}
	if err := s.sched.Pool().Upsert(e); err != nil {
		return nil, invalid(strings.Split(err.Error(), "\n")...)
	}
	return newWorker(&e), nil
}

func (s *Server) findWorker(r *http.Request) (*scheduling.Snapshot, scheduling.Slot, error) {
	id, snap := r.PathValue("id"), s.sched.Pool().Snapshot()
	slot, ok := snap.Find(id)
	if !ok {
		return nil, 0, &apiError{http.StatusNotFound, "unknown_worker", []string{fmt.Sprintf("worker %q: not registered", id)}}
	}
	return snap, slot, nil
}

func (s *Server) getWorker(r *http.Request) (any, error) {
	snap, slot, err := s.findWorker(r)
	if err != nil {
		return nil, err
	}
	return newWorker(snap.Endpoint(slot)), nil
}

func (s *Server) removeWorker(r *http.Request) (any, error) {
	if _, _, err := s.findWorker(r); err != nil {
		return nil, err
	}
	s.sched.Pool().Remove(r.PathValue("id"))
	return nil, nil
}

// metrics is what a host has observed of a worker. What is missing was not observed.
type metrics struct {
	Waiting  *float64 `json:"waiting"`
	Running  *float64 `json:"running"`
	KVUsage  *float64 `json:"kv_usage"`
	Adapters *struct {
		Active  []string `json:"active"`
		Waiting []string `json:"waiting"`
		Max     int      `json:"max"`
	} `json:"adapters"`
	BlockTokens int `json:"block_tokens"`
	CacheBlocks int `json:"cache_blocks"`
}

func (s *Server) reportMetrics(r *http.Request) (any, error) {
	var m metrics
	if err := read(r, &m); err != nil {
		return nil, err
	}
	if _, _, err := s.findWorker(r); err != nil {
		return nil, err
	}
	var problems []string
	state := scheduling.State{Endpoint: r.PathValue("id"), BlockTokens: m.BlockTokens, CacheBlocks: m.CacheBlocks}
	value := func(metric scheduling.Metric, v *float64, most float64) {
		switch {
		case v == nil:
		case *v < 0 || most > 0 && *v > most:
			problems = append(problems, fmt.Sprintf("%v %v: out of range", metric, *v))
		default:
			state.Values = append(state.Values, scheduling.Value{Metric: metric, Value: *v})
		}
	}
	value(scheduling.Waiting, m.Waiting, 0)
	value(scheduling.Running, m.Running, 0)
	value(scheduling.KVUsage, m.KVUsage, 1)
	count := func(field string, n int) {
		if n < 0 {
			problems = append(problems, fmt.Sprintf("%s %d: negative", field, n))
		}
	}
	count("block_tokens", m.BlockTokens)
	count("cache_blocks", m.CacheBlocks)
	if a := m.Adapters; a != nil {
		count("adapters.max", a.Max)
		state.Adapters = &scheduling.AdapterState{Active: a.Active, Waiting: a.Waiting, Max: a.Max}
	}
	if len(problems) > 0 {
		return nil, invalid(problems...)
	}
	return nil, s.sched.Pool().Report(state)
}

// load is what is in flight on a worker, and what its engine was last reported to have.
type load struct {
	Worker        string `json:"worker"`
	Requests      int    `json:"requests"`
	PrefillTokens int    `json:"prefill_tokens"`
	KVTokens      int    `json:"kv_tokens"`
	// Reported is by metric; what was never reported is missing.
	Reported map[string]reading `json:"reported,omitempty"`
}

type reading struct {
	Value float64   `json:"value"`
	At    time.Time `json:"at"`
}

func (s *Server) loads(*http.Request) (any, error) {
	pool := s.sched.Pool()
	snap := pool.Snapshot()
	all := make([]load, 0, len(snap.Live()))
	for _, slot := range snap.Live() {
		n := pool.InFlight(slot)
		l := load{snap.Endpoint(slot).ID, n.Requests, n.PrefillTokens, n.KVTokens, nil}
		for m := scheduling.Waiting; m < scheduling.InFlightRequests; m++ {
			if value, at, ok := snap.Observed(slot, m); ok {
				if l.Reported == nil {
					l.Reported = map[string]reading{}
				}
				l.Reported[m.String()] = reading{value, at.UTC()}
			}
		}
		all = append(all, l)
	}
	return map[string]any{"loads": all, "reservations": s.leases.len()}, nil
}
