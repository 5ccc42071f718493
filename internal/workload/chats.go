package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// ChatsSource says where the numbers behind Chats come from.
const ChatsSource = "the Mooncake conversation trace (Qin et al., FAST '25)"

// ChatOptions are the parameters of Chats. The zero value is like the trace in rate, lengths, turns and pauses.
type ChatOptions struct {
	// Seed determines everything.
	Seed uint64
	// RequestsPerSecond is the mean rate of requests once conversations have their later turns; 0 means the trace's 3.4.
	RequestsPerSecond float64
	// Arrivals is how sessions begin.
	Arrivals Arrivals

	// SystemPrompts is how many there are; 0 means 4. The k-th is used in proportion to 1/k. They have their first two
	// thirds in common, as all requests of the trace have 512 tokens.
	SystemPrompts int
	// SystemTokens is their length, and a part of Input. 0 means 768 where Input is that of the trace, else none.
	SystemTokens int
	// Input is the length of the first prompt of a session, Added what a later turn adds to the prompt and the answer before
	// it, and Output the length of an answer; zero values mean those of the trace.
	Input, Added, Output Lengths
	// Turns is the mean number of turns in a session, which is geometric; 0 means that turns go on as in the trace, which
	// are 1.6 on average, and 1 makes single requests.
	Turns float64
	// PauseScale stretches the time between the turns of a session, whose median in the trace is two minutes; 0 means 1.
	PauseScale float64
	// MaxInput ends a session whose next prompt would be longer; 0 means the trace's longest, 126,195 tokens, or the Max or
	// ten times the Mean of an Input that is given.
	MaxInput int

	// Model is what all requests ask for.
	Model string
	// Adapters are what sessions ask for, the k-th in proportion to 1/k^AdapterSkew; none means no adapters. AdapterSkew 0
	// means 1: Zipf's law.
	Adapters    []string
	AdapterSkew float64
	// Tenants are who sends the sessions; none means one without a name. For a tenant with arrivals or lengths of its own,
	// [Merge] sources.
	Tenants []Tenant
}

// Tenant is who sends requests.
type Tenant struct {
	Name string
	// Weight is the tenant's part of the sessions, in proportion; 0 means 1.
	Weight float64
	// Priority is that of its requests.
	Priority int
}

func (o *ChatOptions) validate() error {
	var errs []error
	positive := func(name string, v float64) {
		if !(v >= 0) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s is %v, want a finite number from 0 up", name, v))
		}
	}
	if v := o.RequestsPerSecond; v != 0 && !(v >= minRate && v <= maxRate) {
		errs = append(errs, fmt.Errorf("RequestsPerSecond is %v, want %v to %v, or 0", v, minRate, maxRate))
	}
	positive("PauseScale", o.PauseScale)
	positive("SystemPrompts", float64(o.SystemPrompts))
	positive("SystemTokens", float64(o.SystemTokens))
	positive("MaxInput", float64(o.MaxInput))
	positive("AdapterSkew", o.AdapterSkew)
	for i, t := range o.Tenants {
		positive(fmt.Sprintf("Tenants[%d].Weight", i), t.Weight)
	}
	if o.Turns != 0 && !(o.Turns >= 1 && o.Turns <= maxTurns) {
		errs = append(errs, fmt.Errorf("Turns is %v, want 1 to %d, or 0", o.Turns, maxTurns))
	}
	errs = append(errs, o.Arrivals.validate("Arrivals"), o.Input.validate("Input"), o.Added.validate("Added"), o.Output.validate("Output"))
	return errors.Join(errs...)
}

const (
	minRate, maxRate = 1e-6, 1e6
	// maxTurns bounds the mean length of a session, all turns of which are in memory from its start.
	maxTurns = 1000
)

// Chats returns a source without end of multi-turn chats. The first prompt of each is as long as the trace's prompts are,
// and a later turn adds to it what turns in the trace add. Over all requests, the share of prompts that was sent before
// (37 % in blocks of 512 tokens) and the long prompts come out as in the trace; the median prompt is a sixth longer.
//
// Each iteration begins again. It reports every invalid option at once.
func Chats(o ChatOptions) (Source, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("chats: %w", err)
	}
	g := newGenerator(o)
	return func(yield func(Request, error) bool) {
		arrivals := g.Arrivals.start(g.sessionRate, rand.New(rand.NewPCG(g.Seed, math.MaxUint64)))
		var pending queue
		at := time.Duration(0)
		for session := 0; ; session++ {
			for len(pending) > 0 && pending[0].At <= at {
				if !yield(pending.pop(), nil) {
					return
				}
			}
			// A session has a random source of its own, so that its content does not depend on what runs beside it.
			g.session(session, at, rand.New(rand.NewPCG(g.Seed, uint64(session))), &pending)
			if at = later(at, arrivals.next()); at == endOfTime {
				return
			}
		}
	}, nil
}

// generator is ChatOptions made ready.
type generator struct {
	ChatOptions
	sessionRate float64
	continues   []float64 // the share of first, second ... turns that have another behind them
	shared      int       // of SystemTokens, what all system prompts have in common
	systems     shares
	tenants     shares
	adapters    shares
}

func newGenerator(o ChatOptions) *generator {
	g := &generator{ChatOptions: o, continues: continues}
	turns := turnsPerSession
	if o.Turns > 0 {
		turns = o.Turns
		g.continues = []float64{1 - 1/turns}
	}
	g.sessionRate = cmp.Or(o.RequestsPerSecond, mooncakeRate) / turns
	g.PauseScale = cmp.Or(o.PauseScale, 1)
	if o.Input.isZero() {
		g.SystemTokens = cmp.Or(o.SystemTokens, systemTokens)
		g.MaxInput = cmp.Or(o.MaxInput, int(inputTokens[len(inputTokens)-1].value))
	} else if g.MaxInput == 0 {
		g.MaxInput = max(o.Input.Max, g.SystemTokens+1)
		if o.Input.Max == 0 {
			g.MaxInput = max(g.MaxInput, int(10*o.Input.Mean))
		}
		if len(o.Input.Values) > 0 {
			g.MaxInput = max(g.MaxInput, slices.Max(o.Input.Values))
		}
	}
	g.shared = (g.SystemTokens*sharedTokens + systemTokens - 1) / systemTokens
	g.systems = zipf(cmp.Or(o.SystemPrompts, 4), 1)
	g.adapters = zipf(len(o.Adapters), cmp.Or(o.AdapterSkew, 1))
	for _, t := range o.Tenants {
		g.tenants.add(cmp.Or(t.Weight, 1))
	}
	return g
}

// session adds all turns of a session to the queue.
func (g *generator) session(session int, at time.Duration, r *rand.Rand, pending *queue) {
	first := max(g.Input.draw(r, inputTokens), g.SystemTokens+1)
	next := Request{At: at, Session: session, Conversation: session, Model: g.Model, InputTokens: min(first, max(g.MaxInput, g.SystemTokens+1))}
	if g.SystemTokens > 0 {
		system := uint64(1 + g.systems.draw(r))
		next.Messages = append(next.Messages, Message{System, []Piece{{0, g.shared}, {system, g.SystemTokens - g.shared}}})
	}
	next.Messages = append(next.Messages, Message{User, []Piece{{r.Uint64(), next.InputTokens - g.SystemTokens}}})
	if len(g.Adapters) > 0 {
		next.Adapter = g.Adapters[g.adapters.draw(r)]
	}
	if len(g.Tenants) > 0 {
		t := &g.Tenants[g.tenants.draw(r)]
		next.Tenant, next.Priority = t.Name, t.Priority
	}
	for {
		this := next
		this.OutputTokens = g.Output.draw(r, outputTokens)
		if r.Float64() >= g.continues[min(this.Turn, len(g.continues)-1)] {
			this.Last = true
			pending.push(this)
			return
		}
		added := g.Added.draw(r, addedTokens)
		next.Turn++
		next.At = later(next.At, seconds(turnSeconds.draw(r)*g.PauseScale))
		next.InputTokens += this.OutputTokens + added
		next.Messages = []Message{{User, []Piece{{r.Uint64(), added}}}}
		this.Last = next.InputTokens > g.MaxInput
		pending.push(this)
		if this.Last {
			return
		}
	}
}

// shares is a distribution over 0 to n-1, as cumulative weights.
type shares []float64

func (s *shares) add(weight float64) {
	total := 0.0
	if n := len(*s); n > 0 {
		total = (*s)[n-1]
	}
	*s = append(*s, total+weight)
}

func (s shares) draw(r *rand.Rand) int {
	if len(s) == 1 {
		return 0
	}
	i, exact := slices.BinarySearch(s, r.Float64()*s[len(s)-1])
	if exact {
		i++
	}
	return min(i, len(s)-1)
}

// zipf gives the k-th of n, counted from 1, a share in proportion to 1/k^skew.
func zipf(n int, skew float64) (s shares) {
	for k := 1; k <= n; k++ {
		s.add(math.Pow(float64(k), -skew))
	}
	return s
}
