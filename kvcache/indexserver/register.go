package indexserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// worker is a followed engine in the service's words.
type worker struct {
	follow.Engine
	instance, tenant string
}

// roster is who is followed, as the follower lists them and in the service's words.
type roster struct {
	engines []follow.Engine
	workers []worker
}

// engines returns the roster, made anew where the follower's list has changed.
func (s *Server) engines() []worker {
	r, engines := s.roster.Load(), s.o.Follower.Engines()
	if len(r.engines) == len(engines) && (len(engines) == 0 || &r.engines[0] == &engines[0]) {
		return r.workers
	}
	r = &roster{engines: engines}
	for _, e := range engines {
		r.workers = append(r.workers, workerOf(e))
	}
	s.roster.Store(r)
	return r.workers
}

// EngineName is what the service calls a rank of an instance: Mooncake's key for it.
func EngineName(instance, tenant string, rank int) string {
	return instance + "|" + tenant + "|" + strconv.Itoa(rank)
}

// workerOf takes an engine's name apart. One that is followed for other reasons is an instance of its own.
func workerOf(e follow.Engine) worker {
	w := worker{e, e.Name, defaultTenant}
	last := strings.LastIndexByte(e.Name, '|')
	if last < 0 || e.Name[last+1:] != strconv.Itoa(e.Rank) {
		return w
	}
	if first := strings.LastIndexByte(e.Name[:last], '|'); first > 0 {
		w.instance, w.tenant = e.Name[:first], e.Name[first+1:last]
	}
	return w
}

// store is the type of Mooncake's own publisher: a pool that all instances read.
const store = "mooncake"

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var q registration
	if !decode(w, r, s.o.MaxBodyBytes, &q) {
		return
	}
	err := q.check()
	if s.o.Allow != nil && err == nil {
		for _, endpoint := range []string{q.Endpoint, q.Replay} {
			if endpoint != "" {
				err = errors.Join(err, s.o.Allow(endpoint))
			}
		}
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	e := follow.Engine{
		Name: EngineName(string(q.Instance), q.tenant(), q.rank()), Endpoint: q.Endpoint, Replay: q.Replay, Rank: q.rank(),
		Model: q.model(), Adapter: q.Adapter, Salt: q.salt(), BlockTokens: q.BlockSize, Store: strings.EqualFold(q.Type, store),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	engines := s.o.Follower.Engines()
	for _, have := range engines {
		if have.Name != e.Name {
			continue
		}
		e.Pod = have.Pod
		if have != e {
			fail(w, http.StatusConflict, fmt.Errorf("%s is registered otherwise: unregister it first", e.Name))
			return
		}
		s.registered(w, &q)
		return
	}
	if len(engines) >= s.o.MaxEngines {
		fail(w, http.StatusInsufficientStorage, fmt.Errorf("%d engines are registered, which is the limit", len(engines)))
		return
	}
	e.Pod = s.place(engines)
	if err := s.o.Follower.Add(e); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	s.share()
	s.registered(w, &q)
}

func (s *Server) registered(w http.ResponseWriter, q *registration) {
	if q.dialect() == dynamo {
		answer(w, http.StatusCreated, map[string]string{"status": "ok"})
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "registered successfully", "instance_id": string(q.Instance)})
}

// place returns the lowest free place in the index, under a generation that it has not had. The caller holds the lock.
func (s *Server) place(engines []follow.Engine) kvcache.Pod {
	taken := map[uint32]bool{}
	for _, e := range engines {
		taken[e.Pod.ID] = true
		s.generation = max(s.generation, e.Pod.Generation)
	}
	s.generation++
	p := kvcache.Pod{Generation: s.generation}
	for taken[p.ID] {
		p.ID++
	}
	return p
}

// Adopt gives an engine of another replica's snapshot a place in this index: it is for Follower.Join.
func (s *Server) Adopt(e follow.Engine) (follow.Engine, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	engines := s.o.Follower.Engines()
	if len(engines) >= s.o.MaxEngines {
		return e, false
	}
	e.Pod = s.place(engines)
	return e, true
}

// Share tells the index which engines can read which stores: those of the same model. Call it after Follower.Join; registrations
// do so by themselves.
func (s *Server) Share() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share()
}

func (s *Server) share() {
	engines := s.o.Follower.Engines()
	for _, st := range engines {
		if !st.Store {
			continue
		}
		var readers []uint64
		for _, e := range engines {
			if !e.Store && e.Model == st.Model {
				for len(readers) <= int(e.Pod.ID/64) {
					readers = append(readers, 0)
				}
				readers[e.Pod.ID/64] |= 1 << (e.Pod.ID % 64)
			}
		}
		_ = s.o.Index.Share(st.Pod, readers) // fails only for a pod that has just been closed
	}
}

func (s *Server) unregister(w http.ResponseWriter, r *http.Request) {
	var q registration
	if !decode(w, r, s.o.MaxBodyBytes, &q) {
		return
	}
	errs := q.names.check()
	if q.Instance == "" {
		errs = append(errs, errors.New("instance_id: missing"))
	}
	if len(errs) > 0 {
		fail(w, http.StatusBadRequest, errors.Join(errs...))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := []string{}
	for _, k := range s.engines() {
		e := &k.Engine
		if k.instance != string(q.Instance) || e.Model != q.model() {
			continue
		}
		// Mooncake names one rank of one tenant; Dynamo leaves out what it means all of.
		anyTenant := q.dialect() == dynamo && q.Group == "" && q.Tenant == ""
		anyRank := q.Rank == nil
		if (anyTenant || k.tenant == q.tenant()) && (anyRank || e.Rank == q.rank()) {
			s.o.Follower.Remove(e.Name)
			removed = append(removed, e.Name)
		}
	}
	s.share()
	switch {
	case len(removed) == 0:
		fail(w, http.StatusNotFound, fmt.Errorf("no engine of instance %q is registered for model %q", q.Instance, q.model()))
	case q.dialect() == dynamo:
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	default:
		slices.Sort(removed)
		answer(w, http.StatusOK, map[string]any{"status": "unregistered successfully", "removed_instances": removed})
	}
}
