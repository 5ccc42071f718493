package scheduling

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Observer is told of choices: to compare them with those of another plan (package shadow), or to record them (package
// replay). Chose runs inside Pick, once the whole request is on the ledger and before plugins learn of it, for each stage in
// turn. It must be safe for concurrent use, must not block, and must not change the moment, which is valid during the call.
type Observer interface {
	Chose(m *Moment)
}

// Observe makes the scheduler tell observers of one pick in every, in place of those that it told before; without observers it
// tells nobody. A pick that is not observed costs the same as ever. It can be called at any time, and Swap changes nothing.
func (s *Scheduler) Observe(every int, observers ...Observer) {
	if len(observers) == 0 {
		s.observing.Store(nil)
		return
	}
	s.observing.Store(&observing{uint64(max(every, 1)), slices.Clone(observers)})
}

type observing struct {
	every     uint64
	observers []Observer
}

// Moment is all that one stage's choice was made from, and the choice. Slices by slot are as long as Snapshot.Len.
type Moment struct {
	// Stage is whose choice it is; empty where there are no stages.
	Stage string
	// Request is what was asked for. In a moment that was recorded it has no prompt.
	Request *Request
	// PromptTokens is Cycle.PromptTokens.
	PromptTokens int
	// Snapshot is the pool as the choice saw it; it may be kept.
	Snapshot *Snapshot
	// At is Cycle.Now.
	At time.Time
	// Seed makes plugins draw the same random numbers again.
	Seed uint64
	// Earlier are the choices of the stages that ran before, in order.
	Earlier []StageChoice
	// Match is what endpoints have cached of the prompt.
	Match Match
	// Eligible are the slots that serve the model and had room for a request, ascending.
	Eligible []Slot
	// InFlight is the ledger as the choice saw it, and Reported how many requests were on it when the engine last reported its
	// load, by slot; zero where a slot is not eligible.
	InFlight []Load
	Reported []int
	// Keys are what plugins made of the beginning of the prompt with Cycle.PromptKey.
	Keys []PromptKey

	// Choice is the outcome, and Score its weighted score.
	Choice Choice
	Score  float64
	// Candidates are the slots that the filters left, and Scores their weighted scores.
	Candidates []Slot
	Scores     []float64
}

// StageChoice is a choice and whose it is.
type StageChoice struct {
	Stage string
	Choice
}

// PromptKey is what Cycle.PromptKey returned for the first tokens of a prompt.
type PromptKey struct {
	Tokens int
	Key    uint64
}

// freeze notes what a stage is about to choose from, so that plugins and observers see the same whatever happens meanwhile.
func (c *Cycle) freeze(eligible []Slot) {
	if len(c.moments) == len(c.legs) {
		c.moments = append(c.moments, Moment{})
	}
	m := &c.moments[len(c.legs)]
	m.Seed = c.seed + c.draws
	m.Eligible = append(m.Eligible[:0], eligible...)
	n := c.Snapshot.Len()
	m.InFlight, m.Reported = resize(m.InFlight, n), resize(m.Reported, n)
	clear(m.InFlight)
	clear(m.Reported)
	c.inFlight = nil
	for _, slot := range eligible {
		m.InFlight[slot] = Load{c.Requests(slot), c.PrefillTokens(slot), c.KVTokens(slot)}
		m.Reported[slot] = int(c.Snapshot.baseline[slot]) + c.Requests(slot) - c.seen[slot].requests()
	}
	c.inFlight = m.InFlight
}

// capture notes what the stage has just chosen.
func (c *Cycle) capture(candidates []Slot, scores []float64) {
	l := &c.legs[len(c.legs)-1]
	m := &c.moments[len(c.legs)-1]
	m.Stage, m.Request, m.PromptTokens, m.Snapshot, m.At = l.stage.name, c.Request, c.PromptTokens, c.Snapshot, c.Now()
	m.Earlier = m.Earlier[:0]
	for i := range c.legs[:len(c.legs)-1] {
		m.Earlier = append(m.Earlier, StageChoice{c.legs[i].stage.name, c.legs[i].choice()})
	}
	m.Match.Known = c.Match.Known
	m.Match.Cached = append(m.Match.Cached[:0], c.Match.Cached...)
	m.Match.Media = append(m.Match.Media[:0], c.Match.Media...)
	m.Keys = append(m.Keys[:0], c.keys...)
	m.Choice, m.Score = l.choice(), l.score
	m.Candidates = append(m.Candidates[:0], candidates...)
	m.Scores = append(m.Scores[:0], scores...)
}

// observe tells the observers of what the stages have chosen.
func (c *Cycle) observe() {
	for _, o := range c.observers {
		for i := range c.legs {
			o.Chose(&c.moments[i])
		}
	}
}

// forget drops what a cycle's moments refer to, and keeps their memory.
func (c *Cycle) forget() {
	for i := range c.moments {
		m := &c.moments[i]
		m.Request, m.Snapshot, m.Choice = nil, nil, Choice{}
		clear(m.Earlier)
	}
	c.observers = nil
}

// ErrUnknownStage is wrapped by Weigh's error if the scheduler has no stage of the moment's name.
var ErrUnknownStage = errors.New("unknown stage")

// WeighOptions say what Weigh does beside choosing.
type WeighOptions struct {
	// Produce runs the scheduler's own producers. Else its plugins see the moment's Match.
	Produce bool
	// Learn tells the scheduler's plugins, once it has chosen, what the moment's choice was. Plugins that the scheduler shares
	// with the one that made the choice would learn it twice.
	Learn bool
	// Explain asks for Verdict.Explanation.
	Explain bool
}

// Verdict is what a scheduler would have chosen in a moment.
type Verdict struct {
	// Choice is the endpoint, of the moment's snapshot, and Score its weighted score.
	Choice Choice
	Score  float64
	// Skipped says that the request would have done without the stage; there is no choice then.
	Skipped bool
	// Kept says that the filters left the moment's own choice in, and KeptScore is what it would have scored.
	Kept        bool
	KeptScore   float64
	Explanation *Explanation
}

// Weigh tells what the scheduler would have chosen in the place of the one that made a choice: from the same snapshot, ledger,
// match and random numbers, and after the same choices of earlier stages. It reserves nothing, and its plugins learn nothing
// unless they are asked to. A moment without a stage's name is one of the primary stage. The error wraps ErrUnknownStage, or is
// a *PickError.
func (s *Scheduler) Weigh(m *Moment, o WeighOptions) (Verdict, error) {
	p := s.plan.Load()
	st := p.find(m.Stage)
	if st == nil {
		return Verdict{}, fmt.Errorf("%w: %q", ErrUnknownStage, m.Stage)
	}
	c := s.cycles.Get().(*Cycle)
	defer s.dismiss(c)
	c.recall(p, m)
	c.enter(st)
	if st.when != nil && !st.when.Holds(c) {
		return Verdict{Skipped: true}, nil
	}
	if o.Produce {
		c.produced = 0
		st.produce(c)
		c.recallLoads(m) // which produce has made room for
	}
	var x *Explanation
	if o.Explain {
		x = st.explanation(c, 1)
	}
	slots, filter, err := st.filter(c, append(c.slots[:0], m.Eligible...), x)
	if err != nil {
		if err = st.failure(c, filter, err, x); err == ErrNoEndpoint {
			return Verdict{Skipped: true, Explanation: x}, nil
		}
		return Verdict{}, err
	}
	scores := st.score(c, slots, x)
	ranked := st.rank(c, slots, scores)
	x.rank(ranked)
	slot := slots[ranked[0]]
	v := Verdict{Choice: Choice{c.Endpoint(slot), slot, int(c.Match.Cached[slot])}, Score: scores[ranked[0]], Explanation: x}
	if i := slices.Index(slots, m.Choice.Slot); i >= 0 {
		v.Kept, v.KeptScore = true, scores[i]
	}
	if o.Learn {
		for _, committer := range st.committers {
			committer.Commit(c, m.Choice.Slot)
		}
	}
	return v, nil
}

// find returns the stage of a name, where no name means the primary one.
func (p *plan) find(name string) *stage {
	for i := range p.stages {
		if st := &p.stages[i]; st.name == name || name == "" && st.primary() {
			return st
		}
	}
	return nil
}

// recall sets a cycle up to see what a moment's choice was made from.
func (c *Cycle) recall(p *plan, m *Moment) {
	c.Request, c.Snapshot, c.PromptTokens = m.Request, m.Snapshot, m.PromptTokens
	c.pool = p.scheduler.pool
	c.now = m.At.UnixNano()
	c.freshAfter = c.now - int64(p.maxAge)
	c.seed, c.draws, c.restarts = m.Seed, 0, 0
	c.Match.Known = m.Match.Known
	c.Match.Cached = append(c.Match.Cached[:0], m.Match.Cached...)
	c.Match.Media = append(c.Match.Media[:0], m.Match.Media...)
	c.keys, c.predicted = append(c.keys[:0], m.Keys...), c.predicted[:0]
	for i := range m.Earlier {
		e := &m.Earlier[i]
		st := p.find(e.Stage)
		if st == nil {
			st = &stage{name: e.Stage, index: -1}
		}
		l := leg{stage: st}
		l.places[0] = place{endpoint: e.Endpoint, slot: e.Slot, cached: int32(e.CachedTokens)}
		c.legs = append(c.legs, l)
	}
	c.recallLoads(m)
}

func (c *Cycle) recallLoads(m *Moment) {
	c.counted = [counts]bool{}
	c.loads = resize(c.loads, len(m.InFlight))
	for i := range m.InFlight {
		in := &m.InFlight[i]
		c.loads[i] = load(min(in.Requests, maxRequest))<<prefillBits | load(min(in.PrefillTokens, maxPrefill))
	}
	c.inFlight, c.reported = m.InFlight, m.Reported
}

// dismiss ends a cycle of which nothing is on the ledger.
func (s *Scheduler) dismiss(c *Cycle) {
	clear(c.legs)
	c.legs = c.legs[:0]
	c.reported = nil
	s.end(c)
}
