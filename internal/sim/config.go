package sim

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// Config is one simulation. Fleet, Workload and Policy are required.
type Config struct {
	// Seed determines all that is random: ties and draws of the scheduler, faults, lost reports.
	Seed uint64
	// Fleet is the engines, a group for each kind.
	Fleet []Group
	// Workload is what arrives; it is iterated once.
	Workload workload.Source
	// Policy chooses endpoints.
	Policy Policy

	// Duration bounds the time of arrival, and Requests their number; 0 means no bound.
	Duration time.Duration
	Requests int
	// WarmUp is the time at the start whose arrivals are simulated and not measured.
	WarmUp time.Duration
	// Drain is how long the run goes on after the last arrival, for what is in flight then; the rest is Unfinished. 0 means
	// two minutes, a negative one until all has ended, or a day. A turn that is still waiting for the one before it was
	// not sent, and does not count.
	Drain time.Duration
	// SLO says which answers are good.
	SLO SLO

	// Gateways is how many there are, 0 means 1. Requests reach them in turn. Each has a pool, a ledger and a policy of its
	// own and sees of the others' requests only what engines report. Several go with none of Gate, Disagg and Scaling.
	Gateways int
	// Scrape is how metrics reach the pools.
	Scrape Scrape
	// Faults is what goes wrong.
	Faults Faults
	// Attempts is how many endpoints a request may be sent to; 0 means 3.
	Attempts int
	// Gate holds requests back before the pick; nil means that none is.
	Gate func(Env) (Gate, error)
	// Flow puts scheduling/flow before the scheduler, whose profile ends with the options' Gate then; nil does without. The
	// clock is the run's.
	Flow func(Env) (flow.Options, error)
	// Disagg separates prefill from decode; nil means that each request stays on one endpoint.
	Disagg *Disagg
	// Scaling changes the size of groups; empty means that they stay as they are.
	Scaling []Scaling

	// Reuse counts Counts.ReusableTokens, which takes memory for every block that was ever said.
	Reuse bool
	// SampleEvery is the time between samples for Observer.Sample; 0 means 10 s.
	SampleEvery time.Duration
	// Log receives a line for each decision; nil means none.
	Log io.Writer
}

// Group is a number of equal engines. The zero value of each field works, but Count must be positive unless the group is
// scaled.
type Group struct {
	// Name begins the IDs of the group's endpoints; empty means "engine", with the group's number from the second on.
	Name string
	// Count is how many there are at the start; these are ready at once.
	Count int
	// Engine is what each is like. Its StartUp applies after a crash and to replicas that join later.
	Engine engine.Options
	// Slowdown makes the group's steps take so many times as long; 0 means 1.
	Slowdown float64
	// Role, Model, Adapters and Labels are as in scheduling.Endpoint.
	Role     scheduling.Role
	Model    string
	Adapters []string
	Labels   map[string]string
}

// SLO is what an answer must meet to count for goodput. 0 means that there is no bound.
type SLO struct {
	// TTFT is from arrival to the first token, TPOT the mean time between the tokens behind it, E2E from arrival to the end.
	TTFT, TPOT, E2E time.Duration
}

// Scrape is how the engines' metrics reach the pool.
type Scrape struct {
	// Interval is the time between two readings of an engine; 0 means 200 ms, negative that there are none.
	Interval time.Duration
	// Delay is how old a reading is when the pool gets it.
	Delay time.Duration
	// Loss is the share of readings that are lost, 0 to 1.
	Loss float64
	// Phases is in how many rounds, spread over the interval, the engines are read; 0 means 16. One round reads all at once.
	Phases int
	// MaxAge is the scheduler's Options.MaxMetricAge.
	MaxAge time.Duration
}

func (c Config) withDefaults() Config {
	c.Drain = cmp.Or(c.Drain, 2*time.Minute)
	c.Attempts = cmp.Or(c.Attempts, 3)
	c.Gateways = cmp.Or(c.Gateways, 1)
	c.SampleEvery = cmp.Or(c.SampleEvery, 10*time.Second)
	c.Scrape.Interval = cmp.Or(c.Scrape.Interval, 200*time.Millisecond)
	c.Scrape.Phases = cmp.Or(c.Scrape.Phases, 16)
	groups := make([]Group, len(c.Fleet))
	for i, g := range c.Fleet {
		if g.Name == "" {
			g.Name = "engine"
			if i > 0 {
				g.Name = fmt.Sprintf("engine%d", i+1)
			}
		}
		g.Slowdown = cmp.Or(g.Slowdown, 1)
		groups[i] = g
	}
	c.Fleet = groups
	c.Faults = c.Faults.withDefaults()
	if c.Disagg != nil {
		d := c.Disagg.withDefaults()
		c.Disagg = &d
	}
	scaling := make([]Scaling, len(c.Scaling))
	for i, s := range c.Scaling {
		scaling[i] = s.withDefaults()
	}
	c.Scaling = scaling
	return c
}

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) notNegative(field string, v time.Duration) {
	if v < 0 {
		p.addf("%s is %v, want zero or more", field, v)
	}
}

func (p *problems) share(field string, v float64) {
	if !(v >= 0 && v <= 1) {
		p.addf("%s is %v, want 0 to 1", field, v)
	}
}

func (p *problems) positive(field string, v float64) {
	if !(v > 0) || math.IsInf(v, 0) {
		p.addf("%s is %v, want a finite number above zero", field, v)
	}
}

// validate reports all that is wrong with a configuration whose defaults are filled in.
func (c *Config) validate() error {
	var p problems
	if len(c.Fleet) == 0 {
		p.addf("Fleet is empty")
	}
	names := map[string]int{}
	for i, g := range c.Fleet {
		field := fmt.Sprintf("Fleet[%d]", i)
		if g.Count < 0 || g.Count == 0 && c.scaling(i) == nil {
			p.addf("%s.Count is %d, want at least 1", field, g.Count)
		}
		if first, taken := names[g.Name]; taken {
			p.addf("%s.Name is %q like that of Fleet[%d]", field, g.Name, first)
		}
		names[g.Name] = i
		p.positive(field+".Slowdown", g.Slowdown)
	}
	if c.Workload == nil {
		p.addf("Workload is nil")
	}
	if c.Policy.New == nil {
		p.addf("Policy has no New; Policies lists the built-in ones")
	}
	p.notNegative("Duration", c.Duration)
	p.notNegative("WarmUp", c.WarmUp)
	p.notNegative("SLO.TTFT", c.SLO.TTFT)
	p.notNegative("SLO.TPOT", c.SLO.TPOT)
	p.notNegative("SLO.E2E", c.SLO.E2E)
	p.notNegative("Scrape.Delay", c.Scrape.Delay)
	p.notNegative("SampleEvery", c.SampleEvery)
	p.share("Scrape.Loss", c.Scrape.Loss)
	if c.Scrape.Phases < 1 {
		p.addf("Scrape.Phases is %d, want at least 1", c.Scrape.Phases)
	}
	if c.Requests < 0 {
		p.addf("Requests is %d, want zero or more", c.Requests)
	}
	if c.Attempts < 1 {
		p.addf("Attempts is %d, want at least 1", c.Attempts)
	}
	if c.Gateways < 1 || c.Gateways > 1000 {
		p.addf("Gateways is %d, want 1 to 1000", c.Gateways)
	}
	if c.Gateways > 1 && (c.Gate != nil || c.Disagg != nil || len(c.Scaling) > 0) {
		p.addf("Gateways is %d, want 1 with Gate, Disagg or Scaling", c.Gateways)
	}
	if c.Flow != nil && (c.Gate != nil || c.Disagg != nil) {
		p.addf("Flow is set beside Gate or Disagg, want it alone")
	}
	c.Faults.validate(&p, c.endpoints())
	if c.Disagg != nil {
		c.Disagg.validate(&p)
	}
	for i, s := range c.Scaling {
		s.validate(&p, fmt.Sprintf("Scaling[%d]", i), len(c.Fleet))
		for j := range i {
			if c.Scaling[j].Group == s.Group {
				p.addf("Scaling[%d].Group is %d like that of Scaling[%d]", i, s.Group, j)
			}
		}
	}
	return errors.Join(p...)
}

// endpoints is how many there are at the start.
func (c *Config) endpoints() int {
	n := 0
	for _, g := range c.Fleet {
		n += g.Count
	}
	return n
}

// maxEndpoints is how many there can be at a time; one that drains is still there while another joins.
func (c *Config) maxEndpoints() int {
	n := 0
	for i, g := range c.Fleet {
		n += g.Count
		if s := c.scaling(i); s != nil {
			n += s.Max
		}
	}
	return n
}

// scaling returns that of a group, or nil.
func (c *Config) scaling(group int) *Scaling {
	for i := range c.Scaling {
		if c.Scaling[i].Group == group {
			return &c.Scaling[i]
		}
	}
	return nil
}
