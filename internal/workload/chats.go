package workload

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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
	// SystemPrompts is how many there are; 0 means 4. The k-th is used in proportion to 1/k. They have their first 512
	// tokens in common, as all requests of the trace do, and 256 of their own, which are ours.
	SystemPrompts int
	// PauseScale stretches the time between the turns of a session, whose median in the trace is two minutes; 0 means 1.
	PauseScale float64
}

func (o ChatOptions) validate() error {
	var errs []error
	positive := func(name string, v float64) {
		if !(v >= 0) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s is %v, want a finite number from 0 up", name, v))
		}
	}
	positive("RequestsPerSecond", o.RequestsPerSecond)
	positive("PauseScale", o.PauseScale)
	positive("SystemPrompts", float64(o.SystemPrompts))
	return errors.Join(errs...)
}

// Chats returns a source without end of multi-turn chats. Sessions begin as a Poisson process. The first prompt of each is
// as long as the trace's prompts are, and a later turn adds to it what turns in the trace add. Over all requests, the share
// of prompts that was sent before (37 % in blocks of 512 tokens) and the long prompts come out as in the trace; the median
// prompt is a sixth longer.
//
// Each iteration begins again. It reports every invalid option at once.
func Chats(o ChatOptions) (Source, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("chats: %w", err)
	}
	o.RequestsPerSecond = cmp.Or(o.RequestsPerSecond, mooncakeRate)
	o.SystemPrompts = cmp.Or(o.SystemPrompts, 4)
	o.PauseScale = cmp.Or(o.PauseScale, 1)
	return func(yield func(Request, error) bool) {
		arrivals := rand.New(rand.NewPCG(o.Seed, math.MaxUint64))
		var pending turns
		at := time.Duration(0)
		for session := 0; ; session++ {
			for len(pending) > 0 && pending[0].At <= at {
				if !yield(heap.Pop(&pending).(Request), nil) {
					return
				}
			}
			// A session has a random source of its own, so that its content does not depend on what runs beside it.
			for _, r := range o.session(session, at, rand.New(rand.NewPCG(o.Seed, uint64(session)))) {
				heap.Push(&pending, r)
			}
			at += seconds(arrivals.ExpFloat64() * turnsPerSession / o.RequestsPerSecond)
		}
	}, nil
}

// session returns all turns of a session.
func (o ChatOptions) session(session int, at time.Duration, r *rand.Rand) []Request {
	longest := int(inputTokens[len(inputTokens)-1].value)
	first := inputTokens.drawTokens(r)
	next := Request{
		At: at, Session: session, InputTokens: first,
		Messages: []Message{
			{System, []Piece{{0, sharedTokens}, {uint64(o.systemPrompt(r)), systemTokens - sharedTokens}}},
			{User, []Piece{{r.Uint64(), first - systemTokens}}},
		},
	}
	var all []Request
	for next.InputTokens <= longest {
		next.OutputTokens = outputTokens.drawTokens(r)
		all = append(all, next)
		if r.Float64() >= continues[min(next.Turn, len(continues)-1)] {
			break
		}
		added := addedTokens.drawTokens(r)
		next.Turn++
		next.At += seconds(turnSeconds.draw(r) * o.PauseScale)
		next.InputTokens += next.OutputTokens + added
		next.Messages = []Message{{User, []Piece{{r.Uint64(), added}}}}
	}
	all[len(all)-1].Last = true
	return all
}

// systemPrompt draws one of 1 to SystemPrompts by Zipf's law.
func (o ChatOptions) systemPrompt(r *rand.Rand) int {
	total := 0.0
	for k := 1; k <= o.SystemPrompts; k++ {
		total += 1 / float64(k)
	}
	left := r.Float64() * total
	for k := 1; k < o.SystemPrompts; k++ {
		if left -= 1 / float64(k); left < 0 {
			return k
		}
	}
	return o.SystemPrompts
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// turns is a heap of requests by arrival.
type turns []Request

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	a, b := &t[i], &t[j]
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Session, b.Session), cmp.Compare(a.Turn, b.Turn)) < 0
}
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(r any)   { *t = append(*t, r.(Request)) }
func (t *turns) Pop() any {
	last := len(*t) - 1
	r := (*t)[last]
	(*t)[last] = Request{}
	*t = (*t)[:last]
	return r
}
