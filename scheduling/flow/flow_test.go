package flow_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func request(tenant string, priority, promptTokens int) *scheduling.Request {
	return &scheduling.Request{Model: "m", Tenant: tenant, Priority: priority, Prompt: scheduling.Prompt{Text: make([]byte, 4*promptTokens)}}
}

// queue asks for requests and remembers who was granted in which order.
type queue struct {
	t       testing.TB
	c       *flow.Controller
	mu      sync.Mutex // answers may come on the goroutine of a timer
	order   []string
	granted []scheduling.Decision
	errs    map[string]error
}

func (q *queue) ask(name string, r *scheduling.Request) {
	q.c.Ask(context.Background(), r, func(d scheduling.Decision, err error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if err != nil {
			if q.errs == nil {
				q.errs = map[string]error{}
			}
			q.errs[name] = err
			return
		}
		q.order = append(q.order, name)
		q.granted = append(q.granted, d)
	})
}

// got is who was granted so far.
func (q *queue) got() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.order)
}

// next ends the request that was granted first and is still there, after its first token.
func (q *queue) next() {
	q.mu.Lock()
	require.NotEmpty(q.t, q.granted)
	d := q.granted[0]
	q.granted = q.granted[1:]
	q.mu.Unlock()
	d.FirstToken()
	d.Done()
}

func (q *queue) drain() []string {
	for len(q.granted) > 0 {
		q.next()
	}
	return q.order
}

func outcomeOf(err error) flow.Outcome {
	var r *flow.Rejected
	errors.As(err, &r)
	return r.Outcome
}

func TestOrderAmongTenantsAndPriorities(t *testing.T) {
	type ask struct {
		tenant           string
		priority, tokens int
	}
	prompts := flow.Cost{Prompt: 1}
	for name, c := range map[string]struct {
		o    flow.Options
		asks []ask
		want string
	}{
		"higher priorities first": {
			flow.Options{}, []ask{{"a", 0, 1}, {"b", -5, 1}, {"c", 7, 1}, {"d", 0, 1}}, "[c7 a0 d0 b-5]",
		},
		"tenants share by weight": {
			flow.Options{Cost: prompts, Tenants: map[string]flow.Tenant{"a": {Weight: 2}}},
			[]ask{{"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"b", 0, 10}, {"b", 0, 10}}, "[a0 b0 a0 a0 b0 a0]",
		},
		"large requests count for more": {
			flow.Options{Cost: prompts}, []ask{{"a", 0, 100}, {"a", 0, 100}, {"b", 0, 30}, {"b", 0, 30}, {"b", 0, 30}, {"b", 0, 30}, {"b", 0, 30}},
			"[a0 b0 b0 b0 b0 a0 b0]",
		},
		"round robin ignores sizes": {
			flow.Options{Discipline: flow.RoundRobin{}}, []ask{{"a", 0, 100}, {"a", 0, 100}, {"b", 0, 1}, {"b", 0, 1}}, "[a0 b0 a0 b0]",
		},
		"deficit round robin spends a quantum a turn": {
			flow.Options{Cost: prompts, Discipline: flow.DRR{Quantum: 20}},
			[]ask{{"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"b", 0, 20}, {"b", 0, 20}}, "[a0 a0 b0 a0 b0]",
		},
		"least attained service lets newcomers catch up": {
			flow.Options{Cost: prompts, Discipline: &flow.LeastAttained{}},
			[]ask{{"z", 0, 10}, {"z", 0, 10}, {"y", 0, 6}, {"y", 0, 6}, {"y", 0, 6}}, "[z0 y0 y0 z0 y0]",
		},
		"one queue for all": {
			flow.Options{Discipline: flow.Strict{}}, []ask{{"a", 0, 1}, {"a", 0, 1}, {"b", 0, 1}, {"a", 0, 1}}, "[a0 a0 b0 a0]",
		},
		"the shortest first": {
			flow.Options{Discipline: flow.Strict{}, Order: flow.ShortestFirst}, []ask{{"a", 0, 9}, {"b", 0, 3}, {"a", 0, 5}, {"b", 0, 4}}, "[b0 b0 a0 a0]",
		},
		"groups share before their members do": {
			flow.Options{Cost: prompts, Separator: "/"},
			[]ask{{"x/a", 0, 10}, {"x/b", 0, 10}, {"x/a", 0, 10}, {"x/b", 0, 10}, {"y/c", 0, 10}, {"y/c", 0, 10}, {"y/c", 0, 10}},
			"[x/a0 y/c0 x/b0 y/c0 x/a0 y/c0 x/b0]",
		},
		"a floor lets the lower band have its part": {
			flow.Options{Cost: prompts, Bands: []flow.Band{{Priority: -1, Floor: .25}}},
			[]ask{{"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"a", 0, 10}, {"b", -1, 10}, {"b", -1, 10}},
			"[a0 b-1 a0 a0 a0 b-1 a0 a0]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queue{t: t, c: newController(t, 1, 1, c.o)}
			q.ask("hold", request("hold", 0, 1))
			for _, a := range c.asks {
				q.ask(fmt.Sprintf("%s%d", a.tenant, a.priority), request(a.tenant, a.priority, a.tokens))
			}
			require.Equal(t, c.want, fmt.Sprint(q.drain()[1:]))
		})
	}
}

func TestDeadlinesOrderRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, c: newController(t, 1, 1, flow.Options{Discipline: flow.Strict{}, Order: flow.ObjectiveDeadline})}
		q.ask("hold", request("", 0, 1))
		for name, ttft := range map[string]time.Duration{"none": 0, "3s": 3 * time.Second, "2s": 2 * time.Second} {
			r := request(name, 0, 1)
			r.TTFT = ttft
			q.ask(name, r)
		}
		time.Sleep(1500 * time.Millisecond)
		r := request("late", 0, 1)
		r.TTFT = time.Second
		q.ask("1s later", r)
		require.Equal(t, []string{"hold", "2s", "1s later", "3s", "none"}, q.drain())
	})
}

// TestFairShareBound checks the bound that FairShare claims, between every two tenants, over every interval in which both wait.
func TestFairShareBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const tenants, largest = 4, 500
		weights := map[string]flow.Tenant{}
		var weight [tenants]float64
		for i := range tenants {
			weight[i] = rapid.SampledFrom([]float64{.5, 1, 2, 7}).Draw(t, "weight")
			weights[fmt.Sprint(i)] = flow.Tenant{Weight: weight[i]}
		}
		gate := &flow.Gate{Limits: flow.Limits{MaxRequests: rapid.IntRange(1, 5).Draw(t, "places")}}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "a:1", Model: "m"}}})
		require.NoError(t, err)
		sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
		require.NoError(t, err)
		c, err := flow.New(sched, flow.Options{Gate: gate, Cost: flow.Cost{Prompt: 1}, Tenants: weights, TTL: -1})
		require.NoError(t, err)
		defer c.Close()

		var waits [tenants]int
		var served [tenants]float64 // for its weight
		var least, most [tenants][tenants]float64
		var running []scheduling.Decision
		measure := func() {
			for f := range tenants {
				for g := range tenants {
					d := served[f] - served[g]
					if waits[f] == 0 || waits[g] == 0 {
						least[f][g], most[f][g] = d, d // a new interval
						continue
					}
					least[f][g], most[f][g] = min(least[f][g], d), max(most[f][g], d)
					require.LessOrEqual(t, most[f][g]-least[f][g], largest/weight[f]+largest/weight[g]+1, "between %d and %d", f, g)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				i := rapid.IntRange(0, tenants-1).Draw(t, "tenant")
				for range rapid.IntRange(1, 10).Draw(t, "requests") {
					tokens := rapid.IntRange(1, largest).Draw(t, "tokens")
					waits[i]++
					c.Ask(context.Background(), request(fmt.Sprint(i), 0, tokens), func(d scheduling.Decision, err error) {
						if err != nil {
							return // at the end
						}
						waits[i]--
						served[i] += float64(tokens) / weight[i]
						running = append(running, d)
						measure()
					})
					measure()
				}
			},
			"end": func(t *rapid.T) {
				if len(running) > 0 {
					i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
					d := running[i]
					running = append(running[:i], running[i+1:]...)
					d.FirstToken()
					d.Done()
				}
			},
		})
	})
}

func TestIdlingEarnsNoCredit(t *testing.T) {
	q := &queue{t: t, c: newController(t, 1, 1, flow.Options{Cost: flow.Cost{Prompt: 1}})}
	q.ask("sleeper", request("sleeper", 0, 10))
	q.drain()
	q.ask("hold", request("busy", 0, 10))
	for range 100 {
		q.ask("busy", request("busy", 0, 10))
	}
	for range 50 {
		q.next()
	}
	q.order = nil
	for range 10 {
		q.ask("sleeper", request("sleeper", 0, 10))
	}
	for range 20 {
		q.next()
	}
	n := 0
	for _, who := range q.order {
		if who == "sleeper" {
			n++
		}
	}
	require.InDelta(t, 10, n, 1, "half of what was served since it came back, not all")
}

func TestServiceElsewhereCounts(t *testing.T) {
	q := &queue{t: t, c: newController(t, 1, 1, flow.Options{Cost: flow.Cost{Prompt: 1}})}
	q.ask("hold", request("", 0, 1))
	for range 4 {
		q.ask("everywhere", request("everywhere", 0, 10))
		q.ask("here", request("here", 0, 10))
	}
	q.c.Charge("everywhere", 0, 30)
	require.Equal(t, "[hold here here here everywhere here everywhere everywhere everywhere]", fmt.Sprint(q.drain()))
	for _, tenant := range q.c.Stats().Tenants {
		require.Less(t, tenant.ServedTokens, 41.)
	}
}

func TestChargesAreSettled(t *testing.T) {
	served := func(c *flow.Controller) float64 { return c.Stats().Tenants[0].ServedTokens }
	c := newController(t, 1, 10, flow.Options{Cost: flow.Cost{Prompt: 1, Output: 2}})
	ctx := context.Background()

	d, err := c.Acquire(ctx, request("t", 0, 100))
	require.NoError(t, err)
	require.EqualValues(t, 100+2*256, served(c), "an estimate, at dispatch")
	d.FirstToken()
	d.Tokens(1000)
	require.EqualValues(t, 100+2*1000, served(c), "more than was expected is charged while it streams")
	d.Tokens(7)
	d.Done()
	require.EqualValues(t, 100+2*1007, served(c), "exact at the end")

	d, err = c.Acquire(ctx, request("t", 0, 100))
	require.NoError(t, err)
	d.Done()
	require.EqualValues(t, 100+2*1007, served(c), "refunded where nothing was got")

	r := request("t", 0, 100)
	r.MaxTokens = 10
	d, err = c.Acquire(ctx, r)
	require.NoError(t, err)
	require.EqualValues(t, 100+2*1007+100+2*10, served(c), "an answer is not expected to be longer than it may be")
	d.Done()
}

func TestAgingEndsStarvation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, c: newController(t, 1, 1, flow.Options{Aging: 5 * time.Second})}
		q.ask("hold", request("", 0, 1))
		q.ask("batch", request("batch", -1, 1))
		for second := range 10 {
			q.ask(fmt.Sprint(second), request("chat", 0, 1))
			time.Sleep(time.Second)
			if second%2 == 1 {
				q.next()
			}
		}
		for range 3 {
			q.next()
		}
		require.Equal(t, []string{"hold", "0", "1", "2", "3", "4", "5", "batch", "6"}, q.order,
			"it goes before those that came more than five seconds after it")
		q.drain()
	})
}

func TestOneFullSetOfEndpointsDoesNotHoldUpOthers(t *testing.T) {
	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 1}}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "east", Address: "a:1", Model: "m", Labels: map[string]string{"zone": "east"}},
		{ID: "west", Address: "b:1", Model: "m", Labels: map[string]string{"zone": "west"}, Adapters: []string{"lora"}},
	}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{zone{}, gate}}})
	require.NoError(t, err)
	c, err := flow.New(sched, flow.Options{Gate: gate})
	require.NoError(t, err)
	defer c.Close()
	q := &queue{t: t, c: c}
	in := func(zone string) *scheduling.Request {
		r := request("t", 0, 1)
		r.Header = func(string) string { return zone }
		return r
	}
	q.ask("east", in("east"))
	q.ask("east, waiting", in("east"))
	adapted := request("t", -1, 1)
	adapted.Adapter = "lora"
	q.ask("lora", adapted)
	require.Equal(t, []string{"east", "lora"}, q.order, "the one in the west is free")
	q.ask("anywhere", request("t", 5, 1))
	q.ask("west", in("west"))
	require.Len(t, c.Stats().Lanes, 3)
	q.granted[1].Done()
	require.Equal(t, []string{"east", "lora", "anywhere"}, q.order, "the more important one")
	q.ask("higher", in("east"))
	require.Equal(t, 3, c.Stats().Waiting)
	q.drain()
	require.Len(t, q.got(), 6)
}

// zone keeps the endpoints of the zone that a request asks for.
type zone struct{}

func (zone) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if c.Request.Header == nil {
		return slots
	}
	kept := slots[:0]
	for _, slot := range slots {
		if c.Endpoint(slot).Labels["zone"] == c.Request.Header("zone") {
			kept = append(kept, slot)
		}
	}
	return kept
}

func TestOneFullStageDoesNotHoldUpOthers(t *testing.T) {
	gate := &flow.Gate{Prefill: &flow.Limits{MaxPrefillTokens: 1000}, Decode: &flow.Limits{MaxRequests: 8}}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "prefill", Address: "a:1", Model: "m", Role: scheduling.Prefill}, {ID: "decode", Address: "b:1", Model: "m", Role: scheduling.Decode},
	}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Stages: []scheduling.Stage{
		{Name: "decode", Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Role{Phase: scheduling.Decode}, gate}}},
		{Name: "prefill", Takes: scheduling.Prefill, When: condition.Uncached{Tokens: 100},
			Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Role{Phase: scheduling.Prefill}, gate}}},
	}})
	require.NoError(t, err)
	c, err := flow.New(sched, flow.Options{Gate: gate})
	require.NoError(t, err)
	defer c.Close()
	q := &queue{t: t, c: c}
	q.ask("long", request("t", 0, 800))
	q.ask("long, waiting", request("t", 9, 800))
	q.ask("short", request("t", 0, 50))
	require.Equal(t, []string{"long", "short"}, q.order, "the short one needs no prefill endpoint")
	require.Equal(t, []string{"prefill"}, c.Stats().Lanes[0].Endpoints)
	q.granted[0].FirstToken()
	require.Equal(t, []string{"long", "short", "long, waiting"}, q.order, "its prefill is over, although it is still decoded")
	q.drain()
}

func TestALargeRequestIsNotStarvedBySmallOnes(t *testing.T) {
	gate := &flow.Gate{Limits: flow.Limits{MaxPrefillTokens: 1000}}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "a:1", Model: "m", Adapters: []string{"x"}}, {ID: "b", Address: "b:1", Model: "m"},
	}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{gate}}})
	require.NoError(t, err)
	c, err := flow.New(sched, flow.Options{Gate: gate})
	require.NoError(t, err)
	defer c.Close()
	q := &queue{t: t, c: c}
	small := func() *scheduling.Request {
		r := request("small", 0, 100)
		r.Adapter = "x"
		return r
	}
	for i := range 20 {
		q.ask(fmt.Sprint("small ", i), small())
	}
	q.ask("large", request("large", 0, 5000))
	q.ask("large 2", request("large", 0, 5000))
	for i := range 100 {
		q.ask(fmt.Sprint("late ", i), small())
		q.next()
		if q.c.Stats().Lanes == nil || len(q.order) > 0 && q.order[len(q.order)-1] == "large 2" {
			break
		}
	}
	require.Contains(t, q.order, "large 2")
	q.drain()
}

func TestLimitsOfTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, c: newController(t, 1, 100, flow.Options{
			Cost: flow.Cost{Prompt: 1}, RefuseLate: true,
			Tenants: map[string]flow.Tenant{"capped": {MaxInFlight: 2, MaxWaiting: 1}, "metered": {Rate: 100, Burst: 300}},
		})}
		for i := range 4 {
			q.ask(fmt.Sprint("capped ", i), request("capped", 0, 1))
		}
		require.Equal(t, []string{"capped 0", "capped 1"}, q.order)
		require.Equal(t, flow.Saturated, outcomeOf(q.errs["capped 3"]), "one may wait")
		q.ask("other", request("other", -9, 1))
		require.Equal(t, "other", q.order[2], "nobody is held up by another's cap")
		q.next()
		require.Equal(t, "capped 2", q.order[3])
		q.drain()

		q.order = nil
		for i := range 3 {
			q.ask(fmt.Sprint("metered ", i), request("metered", 0, 200))
		}
		require.Equal(t, []string{"metered 0", "metered 1"}, q.order, "the burst may be overdrawn by one request")
		require.True(t, limited(q.c, "metered"))
		for len(q.granted) > 0 {
			q.next()
		}
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		require.Len(t, q.got(), 2)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Len(t, q.got(), 3, "the balance is positive again after a second")
		q.next()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := q.c.Acquire(ctx, request("metered", 0, 1))
		require.Equal(t, flow.Late, outcomeOf(err), "a quota that will not be there in time is said at once")
		var r *flow.Rejected
		require.ErrorAs(t, err, &r)
		require.Equal(t, http.StatusTooManyRequests, r.Status())
		require.Equal(t, time.Second, r.RetryAfter)
	})
}

func limited(c *flow.Controller, tenant string) bool {
	for _, t := range c.Stats().Tenants {
		if t.Tenant == tenant {
			return t.Limited
		}
	}
	return false
}

func TestWhoMakesRoomWhenTheQueueIsFull(t *testing.T) {
	q := &queue{t: t, c: newController(t, 1, 1, flow.Options{MaxRequests: 4})}
	q.ask("hold", request("", 0, 1))
	q.ask("greedy 1", request("greedy", 0, 1))
	q.ask("greedy 2", request("greedy", 0, 1))
	q.ask("greedy 3", request("greedy", 0, 1))
	q.ask("batch", request("batch", -1, 1))
	q.ask("modest", request("modest", 0, 1))
	require.Equal(t, flow.Displaced, outcomeOf(q.errs["batch"]), "the least important")
	q.ask("modest 2", request("modest", 0, 1))
	require.Equal(t, flow.Displaced, outcomeOf(q.errs["greedy 3"]), "the newest of who has most")
	q.ask("modest 3", request("modest", 0, 1))
	require.Equal(t, flow.Saturated, outcomeOf(q.errs["modest 3"]), "who would have most now")
	q.ask("late batch", request("batch", -1, 1))
	require.Equal(t, flow.Saturated, outcomeOf(q.errs["late batch"]))
	require.Len(t, q.errs, 4)
	q.drain()
}

func TestRequestsThatWouldBeLateAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, 1, 1, flow.Options{RefuseLate: true, Cost: flow.Cost{Prompt: 1}, TTL: -1})
		q := &queue{t: t, c: c}
		q.ask("hold", request("t", 0, 100))
		for range 40 {
			q.ask("t", request("t", 0, 100))
		}
		// One request a second: it takes 30 seconds for the 30 that are left.
		for range 10 {
			time.Sleep(time.Second)
			q.next()
		}
		r := request("t", 0, 100)
		r.TTFT = 20 * time.Second
		_, err := c.Acquire(t.Context(), r)
		require.Equal(t, flow.Late, outcomeOf(err))
		var refusal *flow.Rejected
		require.ErrorAs(t, err, &refusal)
		require.InDelta(t, 10, refusal.RetryAfter.Seconds(), 2, "then there are 20 left")

		for range int(math.Ceil(refusal.RetryAfter.Seconds())) {
			time.Sleep(time.Second)
			q.next()
		}
		q.ask("in time", r)
		require.Nil(t, q.errs["in time"], "it was the truth")
		other := request("other", 0, 100)
		other.TTFT = 5 * time.Second
		q.ask("other", other)
		require.Nil(t, q.errs["other"], "a tenant with nothing waiting is next but one")
		q.drain()
	})
}

func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, 1, 1, flow.Options{TTL: 3 * time.Second, Bands: []flow.Band{{Priority: 1, TTL: time.Second}}, NoEndpointTTL: 10 * time.Second})
		q := &queue{t: t, c: c}
		q.ask("hold", request("", 0, 1))
		start := time.Now()
		_, err := c.Acquire(t.Context(), request("", 0, 1))
		require.Equal(t, flow.Expired, outcomeOf(err))
		require.Equal(t, 3*time.Second, time.Since(start))
		_, err = c.Acquire(t.Context(), request("", 1, 1))
		require.Equal(t, flow.Expired, outcomeOf(err))
		require.Equal(t, 4*time.Second, time.Since(start), "the band's own")

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = c.Acquire(ctx, request("", 0, 1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4500*time.Millisecond, time.Since(start), "the caller's")

		q.drain()
		c.Pool().Remove("a")
		require.NoError(t, c.Pool().Upsert(scheduling.Endpoint{ID: "n", Address: "n:1", Model: "n"}))
		_, err = c.Acquire(t.Context(), &scheduling.Request{Model: "unheard of"})
		require.Equal(t, flow.Failed, outcomeOf(err))
		require.ErrorIs(t, err, scheduling.ErrUnknownModel)
	})
}

func TestRequestsWaitForAnEndpointToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 1}}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Models: []string{"m", "n"}})
		require.NoError(t, err)
		c := over(t, pool, flow.Options{Gate: gate, NoEndpointTTL: 10 * time.Second, TTL: time.Second})
		q := &queue{t: t, c: c}
		q.ask("n", &scheduling.Request{Model: "n"})
		q.ask("m", request("", 0, 1))
		q.ask("m 2", request("", 0, 1))
		require.True(t, c.Stats().Lanes[0].NoEndpoint)
		time.Sleep(5 * time.Second)
		require.NoError(t, pool.Upsert(scheduling.Endpoint{Address: "a:1", Model: "m"}))
		require.Equal(t, []string{"m"}, q.order, "what waits for another model holds nobody up")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Equal(t, flow.NoEndpoint, outcomeOf(q.errs["n"]))
		require.Equal(t, http.StatusServiceUnavailable, q.errs["n"].(*flow.Rejected).Status())
		require.Equal(t, flow.Expired, outcomeOf(q.errs["m 2"]))
		q.drain()
	})
}

func TestReportsAndPicksOfOthersWakeWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &flow.Gate{Limits: flow.Limits{MaxWaiting: 2}}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "a:1", Model: "m"}}})
		require.NoError(t, err)
		c := over(t, pool, flow.Options{Gate: gate})
		q := &queue{t: t, c: c}
		report := func(waiting float64) {
			require.NoError(t, pool.Report(scheduling.State{Endpoint: "a", Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: waiting}}}))
		}
		report(0)
		for i := range 5 {
			q.ask(fmt.Sprint(i), request("", 0, 1))
		}
		require.Len(t, q.got(), 2, "what was placed since the report counts")
		report(1)
		require.Len(t, q.got(), 3)
		report(5)
		require.Len(t, q.got(), 3)
		report(0)
		require.Len(t, q.got(), 5)
		report(5)
		q.ask("stale", request("", 0, 1))
		require.Len(t, q.got(), 5)
		time.Sleep(scheduling.DefaultMaxMetricAge)
		q.next()
		require.Len(t, q.got(), 6, "a stale report bounds nothing")
		q.drain()
	})
}

func TestCeilingsHoldRoomBack(t *testing.T) {
	gate := &flow.Gate{Ceilings: []flow.Ceiling{{Below: 0, Share: .5}}}
	c := newController(t, 1, 4, flow.Options{Gate: gate})
	q := &queue{t: t, c: c}
	for i := range 4 {
		q.ask(fmt.Sprint("batch ", i), request("batch", -1, 1))
	}
	require.Len(t, q.got(), 2)
	q.ask("chat", request("chat", 0, 1))
	q.ask("chat 2", request("chat", 0, 1))
	require.Len(t, q.got(), 4, "what is held back is there for the important, whoever waits")
	q.drain()
	require.Len(t, q.got(), 6)
}

func TestAdaptiveLimitFollowsTheTimeToFirstToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &flow.Gate{Adaptive: &flow.Adaptive{Start: 4}}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "a:1", Model: "m"}}})
		require.NoError(t, err)
		c := over(t, pool, flow.Options{Gate: gate, TTL: -1})
		// An engine that prefills ten prompts at once and one after the other beyond that.
		const capacity = 10
		limit := func(rounds int) int {
			most := 0
			for range rounds {
				var all sync.WaitGroup
				var mu sync.Mutex
				running := 0
				for range 60 {
					all.Go(func() {
						d, err := c.Acquire(t.Context(), request("", 0, 100))
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						running++
						most = max(most, running)
						took := 100 * time.Millisecond * time.Duration(1+max(0, running-capacity))
						mu.Unlock()
						time.Sleep(took)
						d.FirstToken()
						mu.Lock()
						running--
						mu.Unlock()
						d.Done()
					})
				}
				all.Wait()
			}
			return most
		}
		limit(30)
		most := limit(5)
		require.GreaterOrEqual(t, most, capacity/2)
		require.LessOrEqual(t, most, 2*capacity)
	})
}

func TestEvictionOfWhatCostsLeast(t *testing.T) {
	zero := 0
	c := newController(t, 1, 3, flow.Options{EvictFor: &zero})
	ctx := context.Background()
	var evicted []string
	run := func(name string, priority, tokens int, consents bool) scheduling.Decision {
		var d scheduling.Decision
		var evict func(error)
		if consents {
			evict = func(cause error) {
				var e *flow.Evicted
				require.ErrorAs(t, cause, &e)
				require.Equal(t, 1, e.Priority)
				evicted = append(evicted, name)
				d.Done()
			}
		}
		d, err := c.AcquireEvictable(ctx, request(name, priority, 10), evict)
		require.NoError(t, err)
		d.FirstToken()
		d.Tokens(tokens)
		return d
	}
	run("far on", -1, 500, true)
	run("just begun", -1, 5, true)
	private := run("does not consent", -1, 0, false)
	for range 3 {
		d, err := c.Acquire(ctx, request("urgent", 1, 10))
		if len(evicted) == 2 {
			private.Done()
		}
		require.NoError(t, err)
		defer d.Done()
		if len(evicted) == 2 {
			break
		}
	}
	require.Equal(t, []string{"just begun", "far on"}, evicted)
	require.EqualValues(t, 2, c.Stats().Evictions)
}

func TestConcurrentLivesLeaveNothingBehind(t *testing.T) {
	c := newController(t, 3, 2, flow.Options{
		MaxRequests: 50, TTL: 20 * time.Millisecond, MaxTenants: 8, Aging: time.Millisecond,
		Tenants: map[string]flow.Tenant{"1": {MaxInFlight: 1}, "2": {Rate: 1e5}},
	})
	pool := c.Pool()
	var all sync.WaitGroup
	var outcomes sync.Map
	for worker := range 32 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(3) == 0 {
					context.AfterFunc(ctx, func() {})
					go cancel()
				}
				d, err := c.Acquire(ctx, request(fmt.Sprint(random.IntN(12)), random.IntN(3)-1, random.IntN(200)))
				if err == nil {
					snap := pool.Snapshot()
					for slot := range scheduling.Slot(snap.Len()) {
						if n := pool.InFlight(slot).Requests; n > 2 {
							t.Errorf("%d requests on one endpoint", n)
						}
					}
					d.FirstToken()
					d.Tokens(random.IntN(300))
					d.Done()
					d.Done()
				} else {
					outcomes.Store(outcomeOf(err), true)
				}
				cancel()
			}
		})
	}
	all.Go(func() {
		for i := range 200 {
			id := string(rune('a' + i%3))
			pool.Remove(id)
			if err := pool.Upsert(scheduling.Endpoint{ID: id, Address: "10.0.0.1:8000", Model: "m"}); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	require.Zero(t, pool.Total())
	st := c.Stats()
	require.Zero(t, st.Waiting)
	total := uint64(0)
	for _, n := range st.Outcomes {
		total += n
	}
	require.EqualValues(t, 32*300, total, "one outcome each")
	for _, tenant := range st.Tenants {
		require.Zero(t, tenant.InFlight)
	}
}

func TestAPanicOfAPluginIsItsRequestsOwn(t *testing.T) {
	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 1}}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "a:1", Model: "m"}}})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Filters: []scheduling.Filter{gate}, Scorers: []scheduling.Weighted{{Scorer: touchy{}}},
	}})
	require.NoError(t, err)
	c, err := flow.New(sched, flow.Options{Gate: gate})
	require.NoError(t, err)
	defer c.Close()
	q := &queue{t: t, c: c}
	q.ask("bad", request("bad", 0, 1))
	q.ask("hold", request("", 0, 1))
	q.ask("bad, waiting", request("bad", 0, 1))
	q.ask("good", request("good", 0, 1))
	require.Equal(t, []string{"hold", "good"}, q.drain())
	for _, name := range []string{"bad", "bad, waiting"} {
		require.ErrorContains(t, q.errs[name], "the scheduler panicked: touchy")
	}
	require.Zero(t, pool.Total())
}

// touchy is a scorer with a bug.
type touchy struct{}

func (touchy) Score(c *scheduling.Cycle, _ []scheduling.Slot, scores []float64) {
	if c.Request.Tenant == "bad" {
		panic("touchy")
	}
	clear(scores)
}

func TestCloseRefusesAll(t *testing.T) {
	c := newController(t, 1, 1, flow.Options{})
	q := &queue{t: t, c: c}
	q.ask("hold", request("", 0, 1))
	q.ask("waiting", request("t", 0, 1))
	c.Close()
	require.Equal(t, flow.ShutDown, outcomeOf(q.errs["waiting"]))
	_, err := c.Acquire(t.Context(), request("", 0, 1))
	require.Equal(t, flow.ShutDown, outcomeOf(err))
	q.drain()
	require.Zero(t, c.Pool().Total())
}

func TestNothingHappensWhileIdle(t *testing.T) {
	clock := &countingClock{}
	c := newController(t, 1, 1, flow.Options{Clock: clock})
	q := &queue{t: t, c: c}
	for range 3 {
		q.ask("t", request("t", 0, 1))
	}
	require.Equal(t, 1, clock.pending, "the next deadline")
	q.drain()
	require.Zero(t, clock.pending, "no timer, and so no wake-up")
}

type countingClock struct{ pending int }

func (*countingClock) Now() time.Time { return time.Unix(1e9, 0) }
func (c *countingClock) AfterFunc(time.Duration, func()) func() bool {
	c.pending++
	return func() bool { c.pending--; return true }
}

func TestOptionsNameEveryProblem(t *testing.T) {
	_, err := flow.New(nil, flow.Options{
		Gate: &flow.Gate{Limits: flow.Limits{MaxRequests: -1, MaxKVShare: math.NaN()}, Prefill: &flow.Limits{MaxWaiting: -1},
			Ceilings: []flow.Ceiling{{Share: 2}}, Adaptive: &flow.Adaptive{Min: 5, Max: 4, Tolerance: .5}},
		Bands: []flow.Band{{Priority: 1, Floor: .7}, {Priority: 1, Floor: .7}}, Order: 9, Discipline: flow.DRR{Quantum: -1},
		Tenant: flow.Tenant{Weight: -1}, Tenants: map[string]flow.Tenant{"t": {Rate: math.Inf(1)}}, Aging: -1,
	})
	for _, want := range []string{
		"scheduler: nil", "max requests -1", "max kv share NaN", "prefill.max waiting -1", "share 2", "adaptive.min 5", "adaptive.tolerance 0.5",
		"bands[1].priority 1: given twice", "floors sum up to 1.4", "order 9", "quantum -1", "tenant.weight -1", `tenants["t"].rate +Inf`, "aging -1ns",
	} {
		require.ErrorContains(t, err, want)
	}
}
