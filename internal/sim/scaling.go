package sim

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Scaling changes the size of a group during the run.
type Scaling struct {
	// Group is a place in Config.Fleet.
	Group int
	// Min and Max bound the number of replicas; 0 means 1 and the group's Count.
	Min, Max int
	// Period is the time between two questions to the autoscaler; 0 means 15 s.
	Period time.Duration
	// New makes the autoscaler of a run.
	New func(Env) (Autoscaler, error)
}

// Autoscaler says how many replicas a group should have. More start up and then join; fewer means that the newest are
// drained: they leave the pool at once and finish what they have.
type Autoscaler interface {
	Replicas(now time.Duration, l GroupLoad) int
}

// GroupLoad is what an autoscaler sees of its group.
type GroupLoad struct {
	// Ready replicas serve, Starting ones do not yet; those that drain are in neither.
	Ready, Starting int
	// Waiting and Running are requests in the engines that are ready, KVUsage the mean use of their KV memory, 0 to 1.
	Waiting, Running int
	KVUsage          float64
	// Arrived is requests, PromptTokens their tokens, of the whole simulation since the last call.
	Arrived      int
	PromptTokens uint64
}

// TargetAutoscaler is the simplest autoscaler: as many replicas as bring the requests in the engines to Target each,
// rounded up. It is what a Kubernetes HPA does with such a metric, without its tolerance and its stabilisation window.
type TargetAutoscaler struct {
	// Target is the requests, waiting or running, that a replica should have.
	Target float64
}

// Replicas implements Autoscaler.
func (a TargetAutoscaler) Replicas(_ time.Duration, l GroupLoad) int {
	return int(math.Ceil(float64(l.Waiting+l.Running) / a.Target))
}

func (s Scaling) withDefaults() Scaling {
	s.Min = cmp.Or(s.Min, 1)
	s.Period = cmp.Or(s.Period, 15*time.Second)
	return s
}

func (s Scaling) validate(p *problems, field string, groups int) {
	if s.Group < 0 || s.Group >= groups {
		p.addf("%s.Group is %d, want 0 to %d", field, s.Group, groups-1)
	}
	if s.Min < 0 || s.Max < s.Min {
		p.addf("%s has Min %d and Max %d, want 0 <= Min <= Max", field, s.Min, s.Max)
	}
	if s.Period < 0 {
		p.addf("%s.Period is %v, want more than zero", field, s.Period)
	}
	if s.New == nil {
		p.addf("%s.New is nil", field)
	}
}

// scale asks a group's autoscaler, does what it says, and comes again after its period.
func (r *run) scale(s *Scaling, scaler Autoscaler, seen *GroupLoad) {
	l := r.groupLoad(s.Group)
	r.collect()
	since := l
	since.Arrived -= seen.Arrived
	since.PromptTokens -= seen.PromptTokens
	*seen = l
	want := min(max(scaler.Replicas(r.now, since), s.Min), s.Max)
	for n := l.Ready + l.Starting; n < want; n++ {
		r.join(s.Group)
	}
	for n := l.Ready + l.Starting; n > want; n-- {
		r.retire(s.Group)
	}
	r.after(s.Period, func() { r.scale(s, scaler, seen) })
}

func (r *run) startScaling() error {
	for i := range r.c.Scaling {
		s := &r.c.Scaling[i]
		scaler, err := s.New(r.env())
		if err != nil {
			return fmt.Errorf("Scaling[%d]: %w", i, err)
		}
		seen := new(GroupLoad)
		r.after(s.Period, func() { r.scale(s, scaler, seen) })
	}
	return nil
}

// groupLoad reads a group; Arrived and PromptTokens count from the start.
func (r *run) groupLoad(group int) GroupLoad {
	l := GroupLoad{Arrived: r.result.All.Arrived, PromptTokens: r.arrivedTokens}
	for _, n := range r.nodes {
		if n.group != group {
			continue
		}
		switch n.state {
		case starting, down:
			l.Starting++
		case ready:
			st := r.read(n)
			l.Ready++
			l.Waiting += st.Waiting
			l.Running += st.Running
			l.KVUsage += st.KVUsage
		}
	}
	l.KVUsage = ratio(l.KVUsage, float64(l.Ready))
	return l
}

// retire drains the newest replica of a group, one that has not started yet before the others.
func (r *run) retire(group int) {
	var victim *node
	for _, n := range r.nodes {
		if n.group == group && n.state != draining && (victim == nil || n.state != ready || victim.state == ready) {
			victim = n
		}
	}
	if victim != nil {
		r.leave(victim)
	}
}
