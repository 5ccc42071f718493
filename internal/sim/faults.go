package sim

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Faults is what goes wrong. The zero value is nothing.
type Faults struct {
	// CrashEvery is the mean time between crashes of an engine, at random; 0 means none. A crash loses all that the engine
	// has; it refuses requests until it has started again.
	CrashEvery time.Duration
	// DetectAfter is how long a crashed engine stays in the pool; 0 means one second. It returns when it has started.
	DetectAfter time.Duration
	// SlowEvery is the mean time between slow spells of an engine, at random; 0 means none. A spell lasts SlowFor, 0
	// meaning 30 s, in which steps take SlowBy times as long, 0 meaning 3.
	SlowEvery, SlowFor time.Duration
	SlowBy             float64
	// Schedule is what happens at known times.
	Schedule []Fault
}

// Fault is one thing that happens to one of the initial endpoints.
type Fault struct {
	At   time.Duration
	Kind FaultKind
	// Endpoint counts the initial endpoints of all groups, from 0.
	Endpoint int
	// For is how long a slow spell lasts, and By its factor.
	For time.Duration
	By  float64
}

// FaultKind says what happens.
type FaultKind uint8

// What can happen.
const (
	Crash FaultKind = iota
	Slow
	// Leave drains the endpoint: it takes no more requests and goes when it has none.
	Leave
)

func (f Faults) withDefaults() Faults {
	f.DetectAfter = cmp.Or(f.DetectAfter, time.Second)
	f.SlowFor = cmp.Or(f.SlowFor, 30*time.Second)
	f.SlowBy = cmp.Or(f.SlowBy, 3)
	return f
}

func (f *Faults) validate(p *problems, endpoints int) {
	p.notNegative("Faults.CrashEvery", f.CrashEvery)
	p.notNegative("Faults.DetectAfter", f.DetectAfter)
	p.notNegative("Faults.SlowEvery", f.SlowEvery)
	p.notNegative("Faults.SlowFor", f.SlowFor)
	p.positive("Faults.SlowBy", f.SlowBy)
	for i, x := range f.Schedule {
		if x.At < 0 {
			p.addf("Faults.Schedule[%d].At is %v, want zero or more", i, x.At)
		}
		if x.Endpoint < 0 || x.Endpoint >= endpoints {
			p.addf("Faults.Schedule[%d].Endpoint is %d, want 0 to %d", i, x.Endpoint, endpoints-1)
		}
		switch x.Kind {
		case Crash, Leave:
		case Slow:
			if x.For <= 0 || !(x.By > 0) || x.By > 1e6 {
				p.addf("Faults.Schedule[%d] has For %v and By %v, want more than zero", i, x.For, x.By)
			}
		default:
			p.addf("Faults.Schedule[%d].Kind is %d, which is none", i, x.Kind)
		}
	}
}

// startFaults plans the scheduled faults, and the first random ones of each node that is there.
func (r *run) startFaults() {
	for _, x := range r.c.Faults.Schedule {
		n := r.nodes[x.Endpoint]
		r.at(x.At, func() {
			switch x.Kind {
			case Crash:
				r.crash(n)
			case Slow:
				r.slow(n, x.By, x.For)
			case Leave:
				r.leave(n)
			}
		})
	}
	for _, n := range r.nodes {
		r.planFaults(n)
	}
}

// planFaults lets random faults befall a node for as long as it is there. Each node draws from a source of its own, so that
// what befalls it depends neither on the policy nor on the other nodes.
func (r *run) planFaults(n *node) {
	if r.c.Faults.CrashEvery == 0 && r.c.Faults.SlowEvery == 0 {
		return
	}
	random := rand.New(rand.NewPCG(r.c.Seed, uint64(n.serial)))
	r.recurring(n, r.c.Faults.CrashEvery, random, func() { r.crash(n) })
	r.recurring(n, r.c.Faults.SlowEvery, random, func() { r.slow(n, r.c.Faults.SlowBy, r.c.Faults.SlowFor) })
}

func (r *run) recurring(n *node, every time.Duration, random *rand.Rand, do func()) {
	if every == 0 {
		return
	}
	r.after(time.Duration(random.ExpFloat64()*float64(every)), func() {
		if n.state == gone {
			return
		}
		do()
		r.recurring(n, every, random, do)
	})
}

// crash loses all that an engine has.
func (r *run) crash(n *node) {
	if n.state == gone || n.state == down || n.state == starting {
		return
	}
	r.result.Crashes++
	was := n.state
	n.state = down
	n.crashes++
	n.engine.Restart(r.now)
	r.settle(n)
	if was == draining {
		r.drop(n)
	} else {
		detect := r.c.Faults.DetectAfter
		if n.startUp > detect {
			r.after(detect, func() {
				if n.state == down {
					r.remove(n)
				}
			})
		}
		r.after(n.startUp, func() { r.up(n) })
	}
	r.collect()
}

// slow makes an engine slower for a while. The longest of overlapping spells decides when it ends.
func (r *run) slow(n *node, by float64, spell time.Duration) {
	if n.state == gone {
		return
	}
	n.slowUntil = max(n.slowUntil, r.now+spell)
	r.setSpeed(n, by)
	r.at(n.slowUntil, func() {
		if n.state != gone && r.now >= n.slowUntil {
			r.setSpeed(n, 1)
		}
	})
}

func (r *run) setSpeed(n *node, by float64) {
	if err := n.engine.SetSlowdown(r.now, by*r.c.Fleet[n.group].Slowdown); err != nil {
		r.fail(err)
	}
	r.settle(n)
}
