package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/scheduling"
)

// startScraping plans the rounds in which metrics are read.
func (r *run) startScraping() {
	s := r.c.Scrape
	if s.Interval < 0 {
		return
	}
	random := rand.New(rand.NewPCG(r.c.Seed, math.MaxUint64))
	for phase := range s.Phases {
		round := &round{phase: phase, random: random}
		r.after(s.Interval*time.Duration(phase)/time.Duration(s.Phases), func() { r.scrape(round) })
	}
}

// round is the engines that are read at the same time.
type round struct {
	phase  int
	random *rand.Rand
	states []scheduling.State
	values []scheduling.Value
}

// scrape reads the engines of a round, hands the readings to the pool, and comes again after the interval.
func (r *run) scrape(w *round) {
	s := &r.c.Scrape
	w.states, w.values = w.states[:0], w.values[:0]
	if s.Delay > 0 {
		w.states, w.values = nil, nil // the last ones may still be on their way
	}
	for _, n := range r.nodes {
		if n.serial%s.Phases != w.phase || n.state != ready || s.Loss > 0 && w.random.Float64() < s.Loss {
			continue
		}
		st := r.read(n)
		first := len(w.values)
		w.values = append(w.values,
			scheduling.Value{Metric: scheduling.Waiting, Value: float64(st.Waiting)},
			scheduling.Value{Metric: scheduling.Running, Value: float64(st.Running)},
			scheduling.Value{Metric: scheduling.KVUsage, Value: st.KVUsage})
		state := scheduling.State{Endpoint: n.id, At: epoch.Add(r.now), Values: w.values[first:len(w.values):len(w.values)]}
		if slots := n.engine.Options().MaxAdapters; slots > 0 {
			state.Adapters = &scheduling.AdapterState{Active: st.RunningAdapters, Waiting: st.WaitingAdapters, Max: slots}
		}
		w.states = append(w.states, state)
	}
	r.collect()
	if len(w.states) > 0 {
		if s.Delay == 0 {
			r.report(w.states)
		} else {
			states := w.states
			r.after(s.Delay, func() { r.report(states) })
		}
	}
	r.after(s.Interval, func() { r.scrape(w) })
}

// read returns the state of an engine at this moment. Whoever reads engines must collect what they let go of.
func (r *run) read(n *node) engine.Stats {
	n.engine.Advance(r.now)
	r.settle(n)
	return n.engine.Stats()
}

// report tells the pools. A node may have left them since it was read, which is no error.
func (r *run) report(states []scheduling.State) {
	for _, g := range r.gateways {
		_ = g.pool.Report(states...)
	}
}

// sample tells the observers how the fleet is.
func (r *run) sample() {
	s := &r.sinceSample
	s.At, s.InFlight, s.Held, s.Endpoints = r.now, 0, r.held, s.Endpoints[:0]
	lookedUp, hits := r.goneLookedUp, r.goneHits
	sumSq := 0.0
	serving := 0
	for _, n := range r.nodes {
		st := r.read(n)
		s.Endpoints = append(s.Endpoints, EndpointSample{
			ID: n.id, Group: n.group, Waiting: st.Waiting, Running: st.Running, KVUsage: st.KVUsage, Ready: n.state == ready,
		})
		lookedUp += st.Totals.PrefixQueries
		hits += st.Totals.PrefixHits
		s.InFlight += st.Waiting + st.Running
		if n.state == ready {
			serving++
			sumSq += float64(st.Waiting+st.Running) * float64(st.Waiting+st.Running)
		}
	}
	r.collect()
	mean := ratio(float64(s.InFlight), float64(serving))
	s.Imbalance = ratio(math.Sqrt(max(0, ratio(sumSq, float64(serving))-mean*mean)), mean)
	if r.now >= r.c.WarmUp && r.more {
		r.imbalance += s.Imbalance
		r.imbalances++
	}
	s.LookedUpTokens, s.HitTokens = lookedUp-r.lookedUp, hits-r.hits
	r.lookedUp, r.hits = lookedUp, hits
	for _, o := range r.observers {
		if o.Sample != nil {
			o.Sample(s)
		}
	}
	s.Arrived, s.Completed, s.Good = 0, 0, 0
	r.after(r.c.SampleEvery, r.sample)
}
