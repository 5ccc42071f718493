package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// handClock is a clock that is moved by hand.
type handClock struct {
	now    time.Time
	timers []*handTimer
}

type handTimer struct {
	at time.Time
	do func()
}

func newHandClock() *handClock { return &handClock{now: time.Unix(1_000_000, 0)} }

func (c *handClock) Now() time.Time { return c.now }

func (c *handClock) AfterFunc(d time.Duration, f func()) func() bool {
	t := &handTimer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		n := len(c.timers)
		c.timers = slices.DeleteFunc(c.timers, func(o *handTimer) bool { return o == t })
		return len(c.timers) < n
	}
}

// advance moves on and fires what is due, in order.
func (c *handClock) advance(d time.Duration) {
	end := c.now.Add(d)
	for {
		var next *handTimer
		for _, t := range c.timers {
			if !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			break
		}
		c.timers = slices.DeleteFunc(c.timers, func(o *handTimer) bool { return o == next })
		if next.at.After(c.now) {
			c.now = next.at
		}
		next.do()
	}
	c.now = end
}

// consistent checks that all that the controller counts is what it would be if it were counted anew.
func (c *Controller) consistent(t require.TestingT) {
	c.mu.Lock()
	defer c.mu.Unlock()
	type sums struct {
		n     int
		bytes int64
		cost  int64
	}
	var all sums
	bands, lanes, nodes := map[*band]sums{}, map[*lane]int{}, map[*node]sums{}
	accounts := map[*account]int{}
	add := func(s sums, w *waiter) sums { return sums{s.n + 1, s.bytes + w.bytes, s.cost + w.cost} }
	running := 0
	walk := func(a *account) {
		for _, n := range a.nodes {
			for _, s := range n.seats {
				require.Equal(t, n, s.node)
				require.NotZero(t, s.waiting, "a seat without anybody")
				var list []*waiter
				if s.line.sorted != nil {
					s.line.sorted.Ascend(func(w *waiter) bool { list = append(list, w); return true })
				} else {
					for w := s.line.first; w != nil; w = w.next {
						list = append(list, w)
					}
				}
				require.Len(t, list, s.line.len())
				for i, w := range list {
					require.True(t, i == 0 || list[i-1].before(w), "in order")
					require.Equal(t, s, w.seat)
					all, bands[n.band], nodes[n] = add(all, w), add(bands[n.band], w), add(nodes[n], w)
					lanes[s.lane]++
					for up := a; up != nil; up = up.parent {
						accounts[up]++
					}
				}
				require.Equal(t, s.ready() && !a.parked, s.place >= 0, "in the running if and only if it can go")
			}
		}
	}
	for _, a := range c.accounts {
		walk(a)
	}
	walk(c.others)
	require.EqualValues(t, all.n, c.waiting.Load())
	require.Equal(t, all.bytes, c.bytes)
	for _, b := range c.bands {
		require.Equal(t, bands[b], sums{b.waiting, b.bytes, b.queued})
	}
	for _, l := range c.lanes {
		require.Equal(t, lanes[l], l.waiting)
		for _, root := range l.roots {
			require.Positive(t, root.waiting)
			if root.members.len() > 0 && !l.quiet {
				running++
			}
			if c.o.Aging > 0 {
				n := 0
				for w := root.oldest; w != nil; w = w.newer {
					require.True(t, w.newer == nil || !w.newer.since.Before(w.since))
					n++
				}
				require.Equal(t, root.waiting, n)
			}
		}
	}
	require.Equal(t, running, c.running)
	for _, a := range c.accounts {
		require.Equal(t, accounts[a], a.waiting, a.name)
		require.GreaterOrEqual(t, a.inFlight, 0)
		for _, n := range a.nodes {
			require.Equal(t, nodes[n].cost, n.queued)
			require.Equal(t, n.queued > 0, n.place >= 0)
		}
	}
	for _, e := range c.deadlines.entries {
		w := c.deadlines.items[e.id]
		require.EqualValues(t, e.id, w.place)
		require.NotNil(t, w.seat)
	}
}

// TestRandomLives drives a controller through random lives of requests and endpoints, and checks after each step that it keeps
// what it promises.
func TestRandomLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const each = 2
		clock := newHandClock()
		endpoint := func(id int) scheduling.Endpoint {
			return scheduling.Endpoint{ID: fmt.Sprint(id), Address: fmt.Sprintf("10.0.0.1:%d", 1+id), Model: []string{"m", "n"}[id%2]}
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpoint(0), endpoint(1), endpoint(2)},
			Models: []string{"m", "n"}, Now: clock.Now})
		require.NoError(t, err)
		gate := &Gate{Limits: Limits{MaxRequests: each}}
		sized := rapid.Bool().Draw(t, "sized")
		if sized {
			gate.MaxPrefillTokens = 1000
		}
		o := Options{
			Gate: gate, Clock: clock, MaxRequests: 12, MaxBytes: 40_000, MaxTenants: rapid.IntRange(1, 6).Draw(t, "max tenants"), MaxLabels: 2,
			Discipline: rapid.SampledFrom([]Discipline{nil, VTC{}, RoundRobin{}, DRR{Quantum: 100}, &LeastAttained{}, Strict{}}).Draw(t, "discipline"),
			Order:      rapid.SampledFrom([]Order{FirstCome, EarliestDeadline, ObjectiveDeadline, ShortestFirst}).Draw(t, "order"),
			TTL:        10 * time.Second, MaxBands: rapid.SampledFrom([]int{0, 8}).Draw(t, "bands"),
			RefuseLate: rapid.Bool().Draw(t, "refuse late"),
			Tenant:     Tenant{MaxInFlight: rapid.SampledFrom([]int{0, 2}).Draw(t, "cap")},
			Tenants:    map[string]Tenant{"a": {Weight: 2, Rate: 100}, "g/": {MaxInFlight: 1}},
			Separator:  "/",
		}
		if rapid.Bool().Draw(t, "relaxed") {
			o.Aging, o.Bands = 3*time.Second, []Band{{Priority: -1, Floor: .1, MaxRequests: 4}}
		} else if rapid.Bool().Draw(t, "waiting room") {
			o.NoEndpointTTL = 2 * time.Second
		}
		sched, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
		require.NoError(t, err)
		c, err := New(sched, o)
		require.NoError(t, err)

		type life struct {
			request  *scheduling.Request
			answers  int
			decision scheduling.Decision
			err      error
			cancel   func()
			ended    bool
			seen     bool // its answer was there at the end of a step
		}
		var lives []*life
		// Who waited before a step, and was free to go.
		var before []*life
		strict := o.Aging == 0 && !sized
		waiting := func() (list []*life) {
			for _, l := range lives {
				if l.answers == 0 {
					list = append(list, l)
				}
			}
			return list
		}
		held := func() (list []*life) {
			for _, l := range lives {
				if l.answers > 0 && l.err == nil && !l.ended {
					list = append(list, l)
				}
			}
			return list
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				l := &life{request: &scheduling.Request{
					Model: rapid.SampledFrom([]string{"m", "n", "?"}).Draw(t, "model"), Tenant: rapid.SampledFrom([]string{"a", "b", "c", "g/x", "g/y", "d"}).Draw(t, "tenant"),
					Priority: rapid.IntRange(-2, 2).Draw(t, "priority"), TTFT: rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "ttft"),
					Prompt: scheduling.Prompt{Text: make([]byte, rapid.IntRange(0, 6000).Draw(t, "prompt"))},
				}}
				lives = append(lives, l)
				ctx := context.Background()
				if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
					gone, cancel := context.WithCancel(ctx)
					cancel()
					ctx = gone
				}
				l.cancel = c.Ask(ctx, l.request, func(d scheduling.Decision, err error) {
					l.answers++
					l.decision, l.err = d, err
				})
			},
			"end": func(t *rapid.T) {
				if list := held(); len(list) > 0 {
					l := rapid.SampledFrom(list).Draw(t, "which")
					l.ended = true
					if rapid.Bool().Draw(t, "answered") {
						l.decision.FirstToken()
						l.decision.Tokens(rapid.IntRange(0, 500).Draw(t, "tokens"))
					}
					twice := l.decision
					l.decision.Done()
					twice.Done()
				}
			},
			"cancel": func(t *rapid.T) {
				if list := waiting(); len(list) > 0 {
					l := rapid.SampledFrom(list).Draw(t, "which")
					l.cancel()
					require.Equal(t, 1, l.answers)
					l.cancel()
				}
			},
			"advance": func(t *rapid.T) {
				clock.advance(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			},
			"come": func(t *rapid.T) {
				require.NoError(t, pool.Upsert(endpoint(rapid.IntRange(0, 4).Draw(t, "endpoint"))))
			},
			"go": func(t *rapid.T) {
				pool.Remove(fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "endpoint")))
			},
			"": func(t *rapid.T) {
				c.consistent(t)
				for _, w := range before {
					if w.answers > 0 || !strict || c.waiterOf(w.request).limited() {
						continue
					}
					for _, g := range lives {
						fresh := g.answers > 0 && g.err == nil && !g.seen
						require.False(t, fresh && g.request.Model == w.request.Model && g.request.Priority < w.request.Priority,
							"priority %d went before %d", g.request.Priority, w.request.Priority)
					}
				}
				before = nil
				for _, l := range lives {
					if l.seen = l.answers > 0; !l.seen && !c.waiterOf(l.request).limited() {
						before = append(before, l)
					}
				}
				var outcomes uint64
				for _, l := range lives {
					require.LessOrEqual(t, l.answers, 1, "one outcome")
				}
				st := c.Stats()
				for _, n := range st.Outcomes {
					outcomes += n
				}
				require.Equal(t, len(waiting()), st.Waiting)
				require.EqualValues(t, len(lives), outcomes+uint64(st.Waiting), "conservation")
				require.LessOrEqual(t, len(st.Tenants), 2+1+1, "labels are bounded")
				snap := pool.Snapshot()
				for slot := range scheduling.Slot(snap.Len()) {
					require.LessOrEqual(t, pool.InFlight(slot).Requests, each, "capacity")
				}
				for _, l := range waiting() {
					w := c.waiterOf(l.request)
					require.NotNil(t, w, "whoever waits has a deadline")
					require.Less(t, clock.now.Sub(w.since), o.TTL)
					if sized || w.limited() {
						continue
					}
					for slot := range scheduling.Slot(snap.Len()) {
						e := snap.Endpoint(slot)
						require.False(t, e != nil && e.Model == w.request.Model && pool.InFlight(slot).Requests < each,
							"%s has room and %+v waits", slot, w.request)
					}
				}
			},
		})
		for _, l := range held() {
			l.decision.Done()
			l.ended = true
		}
		c.Close()
		for _, l := range lives {
			if l.answers > 0 && l.err == nil && !l.ended {
				l.decision.Done()
			}
			require.Equal(t, 1, l.answers, "one outcome")
			var refusal *Rejected
			require.True(t, l.err == nil || errors.As(l.err, &refusal))
		}
		require.Zero(t, pool.Total())
		require.Empty(t, clock.timers, "an idle controller has no timer")
		c.consistent(t)
		for _, a := range c.accounts {
			require.Zero(t, a.inFlight)
		}
	})
}

// waiterOf is the waiter of a request that waits.
func (c *Controller) waiterOf(r *scheduling.Request) *waiter {
	for _, w := range c.deadlines.items {
		if w != nil && w.request == r {
			return w
		}
	}
	return nil
}

// limited reports whether a waiter's tenant, or a group that it is in, is out of the running.
func (w *waiter) limited() bool {
	for a := w.node.account; a != nil; a = a.parent {
		if a.parked {
			return true
		}
	}
	return false
}
