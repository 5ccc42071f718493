package shadow

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/inferloom/inferloom/scheduling"
)

// Options are the parameters of a Shadow; Scheduler is required.
type Options struct {
	// Name tells a shadow from others.
	Name string
	// Scheduler has the plan to be compared, over the same pool. What it shares with the live one, an index say, it only reads.
	Scheduler *scheduling.Scheduler
	// Every is one choice in how many that is compared; 0 means each one.
	Every int
	// Produce runs the shadow's own producers, for one that goes by another index than the live plan. Else it sees the live
	// plan's match.
	Produce bool
	// Observer is told of every comparison; nil means nobody.
	Observer Observer
}

// Observer is told of comparisons, within the live scheduler's Pick. It must be safe for concurrent use and must not block.
type Observer interface {
	Compared(c Comparison)
}

// Comparison is one choice of the live plan beside the shadow's. Its Moment is valid during the call.
type Comparison struct {
	// Shadow is Options.Name.
	Shadow string
	// Moment is what both plans chose from, and has the live choice.
	Moment *scheduling.Moment
	// Verdict is the shadow's choice, unless there is an Err.
	Verdict scheduling.Verdict
	Outcome Outcome
	// Regret is how much higher the shadow scored its choice than the live one; it is 0 unless they disagree and the shadow's
	// filters had left the live choice in.
	Regret float64
	// CachedTokens is how many more tokens of the prompt the shadow's choice had cached than the live one; fewer if negative.
	CachedTokens int
	// Err is why there is no verdict: a *scheduling.PickError where the shadow found no endpoint.
	Err error
}

// Outcome is how a comparison came out.
type Outcome uint8

// The outcomes of a comparison.
const (
	// Agreed means the same endpoint.
	Agreed Outcome = iota
	// Disagreed means another one.
	Disagreed
	// Skipped means that the request would have done without the stage.
	Skipped
	// Failed means that the shadow found no endpoint, or a plugin of it panicked.
	Failed
	// Unknown means that the shadow's plan has no such stage.
	Unknown

	outcomes = iota
)

var outcomeNames = [outcomes]string{"agreed", "disagreed", "skipped", "failed", "unknown"}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Stats are the sums of a shadow's comparisons.
type Stats struct {
	// Shadow is Options.Name.
	Shadow string `json:"shadow"`
	// The outcomes, one of which every comparison has.
	Agreed    uint64 `json:"agreed"`
	Disagreed uint64 `json:"disagreed"`
	Skipped   uint64 `json:"skipped"`
	Failed    uint64 `json:"failed"`
	Unknown   uint64 `json:"unknown"`
	// Regret is the sum of regrets, each 0 to 1, and Removed the number of disagreements that have none because the shadow's
	// filters had removed the live choice.
	Regret  float64 `json:"regret"`
	Removed uint64  `json:"removed"`
	// CachedGained and CachedLost are the prompt tokens that the shadow's choices had cached more, and less, than the live ones.
	CachedGained uint64 `json:"cached_tokens_gained"`
	CachedLost   uint64 `json:"cached_tokens_lost"`
}

// Compared is how many choices were compared.
func (s Stats) Compared() uint64 { return s.Agreed + s.Disagreed + s.Skipped + s.Failed + s.Unknown }

// Shadow is a scheduling.Observer that compares. It is safe for concurrent use.
type Shadow struct {
	o       Options
	choices atomic.Uint64

	counts                   [outcomes]atomic.Uint64
	removed                  atomic.Uint64
	regret                   atomic.Uint64 // the bits of a float64
	cachedGained, cachedLost atomic.Uint64
}

// New makes a Shadow, or reports every problem with the options.
func New(o Options) (*Shadow, error) {
	var problems []error
	if o.Scheduler == nil {
		problems = append(problems, errors.New("scheduler: nil"))
	}
	if o.Every < 0 {
		problems = append(problems, fmt.Errorf("every %d: negative", o.Every))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	o.Every = max(o.Every, 1)
	return &Shadow{o: o}, nil
}

// Chose implements scheduling.Observer.
func (s *Shadow) Chose(m *scheduling.Moment) {
	if !s.sample() {
		return
	}
	c := Comparison{Shadow: s.o.Name, Moment: m}
	c.Verdict, c.Err = s.weigh(m)
	switch {
	case errors.Is(c.Err, scheduling.ErrUnknownStage):
		c.Outcome = Unknown
	case c.Err != nil:
		c.Outcome = Failed
	case c.Verdict.Skipped:
		c.Outcome = Skipped
	case c.Verdict.Choice.Slot == m.Choice.Slot:
		c.Outcome = Agreed
	default:
		c.Outcome = Disagreed
		c.CachedTokens = int(m.Match.Cached[c.Verdict.Choice.Slot]) - int(m.Match.Cached[m.Choice.Slot])
		if c.Verdict.Kept {
			c.Regret = c.Verdict.Score - c.Verdict.KeptScore
		}
	}
	s.count(&c)
	if s.o.Observer != nil {
		s.o.Observer.Compared(c)
	}
}

// sample says whether to compare a choice: one in so many, at no fixed distance, so that no stage is passed over.
func (s *Shadow) sample() bool {
	n := s.choices.Add(1) * 0x9e3779b97f4a7c15 // steps of the golden ratio, which spread evenly
	return s.o.Every == 1 || n>>32%uint64(s.o.Every) == 0
}

// weigh is the shadow's verdict. What its plugins do wrong must not become the request's problem.
func (s *Shadow) weigh(m *scheduling.Moment) (v scheduling.Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = scheduling.Verdict{}, fmt.Errorf("shadow %q: a plugin panicked: %v", s.o.Name, p)
		}
	}()
	return s.o.Scheduler.Weigh(m, scheduling.WeighOptions{Produce: s.o.Produce})
}

func (s *Shadow) count(c *Comparison) {
	s.counts[c.Outcome].Add(1)
	if c.Outcome != Disagreed {
		return
	}
	if c.CachedTokens > 0 {
		s.cachedGained.Add(uint64(c.CachedTokens))
	} else {
		s.cachedLost.Add(uint64(-c.CachedTokens))
	}
	if !c.Verdict.Kept {
		s.removed.Add(1)
		return
	}
	for {
		old := s.regret.Load()
		if s.regret.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+c.Regret)) {
			return
		}
	}
}

// Stats returns the sums so far. While choices are being compared they may be one comparison apart from each other.
func (s *Shadow) Stats() Stats {
	return Stats{
		Shadow: s.o.Name,
		Agreed: s.counts[Agreed].Load(), Disagreed: s.counts[Disagreed].Load(), Skipped: s.counts[Skipped].Load(),
		Failed: s.counts[Failed].Load(), Unknown: s.counts[Unknown].Load(),
		Regret: math.Float64frombits(s.regret.Load()), Removed: s.removed.Load(),
		CachedGained: s.cachedGained.Load(), CachedLost: s.cachedLost.Load(),
	}
}
