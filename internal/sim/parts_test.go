package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// plain is an engine in which a second is easy to count: 10,000 prompt tokens, or a hundred steps of 10 ms.
var plain = engine.Options{
	BlockTokens: 16, Blocks: 10_000, MaxBatchTokens: 100_000, PrefillRate: 10_000,
	StepTime: 10 * time.Millisecond, StepTimePerSequence: time.Nanosecond, StepTimePerKVToken: time.Nanosecond,
	StartUp: 10 * time.Second,
}

const tick = 30 * time.Millisecond // what steps may blur

func TestCrash(t *testing.T) {
	// Three requests of two seconds each on two engines; the first engine crashes after one second. Two of them are on it.
	var list3 []workload.Request
	for i := range 3 {
		list3 = append(list3, single(i, 0, 20_000, 100))
	}
	crash := Faults{Schedule: []Fault{{At: time.Second, Kind: Crash, Endpoint: 0}}}
	c := Config{
		Policy: MustPolicy("round-robin"), Fleet: []Group{{Count: 2, Engine: plain}}, Workload: list(list3...), Faults: crash,
	}
	result, all := run1(t, c)
	require.Equal(t, 3, result.All.Ended[Completed])
	assert.Equal(t, 1, result.Crashes)
	assert.Equal(t, 2, result.Retries)
	for _, o := range all {
		assert.Equal(t, "engine-1", o.Endpoint)
	}

	c.Attempts = 1
	result, _ = run1(t, c)
	assert.Equal(t, 2, result.All.Ended[Lost], "nobody may be moved")

	c.Attempts, c.Faults.Schedule[0].At = 3, 2500*time.Millisecond
	c.Workload = list(single(0, 0, 20_000, 100))
	result, all = run1(t, c)
	require.Equal(t, 1, result.All.Ended[Lost], "its client has seen a token")
	assert.InDelta(t, 2500*time.Millisecond, all[0].Finished, float64(tick))
	assert.Positive(t, all[0].OutputTokens)

	// While it starts again it refuses, and after a second it is not picked any more; then it is back.
	requests := []workload.Request{}
	for i := range 40 {
		requests = append(requests, single(i, time.Duration(i)*500*time.Millisecond+time.Millisecond, 10, 2))
	}
	c.Workload, c.Faults.Schedule[0].At = list(requests...), 0
	result, all = run1(t, c)
	assert.Equal(t, 40, result.All.Ended[Completed])
	assert.Positive(t, result.Retries)
	assert.LessOrEqual(t, result.Retries, 2, "one or two arrive in the second before the crash is detected")
	for _, o := range all {
		if o.Arrived < 10*time.Second {
			assert.Equal(t, "engine-1", o.Endpoint)
		}
	}
	assert.True(t, slices.ContainsFunc(all, func(o Outcome) bool { return o.Endpoint == "engine-0" && o.CachedTokens == 0 }))
}

func TestLeaveFinishesWhatItHas(t *testing.T) {
	var requests []workload.Request
	for i := range 10 {
		requests = append(requests, single(i, time.Duration(i)*200*time.Millisecond, 10_000, 10))
	}
	result, all := run1(t, Config{
		Policy: MustPolicy("round-robin"), Fleet: []Group{{Count: 2, Engine: plain}}, Workload: list(requests...),
		Faults: Faults{Schedule: []Fault{{At: 900 * time.Millisecond, Kind: Leave, Endpoint: 0}}},
	})
	assert.Equal(t, 10, result.All.Ended[Completed])
	assert.Zero(t, result.Retries)
	for _, o := range all {
		if o.Arrived > 900*time.Millisecond {
			assert.Equal(t, "engine-1", o.Endpoint)
		}
	}
}

func TestSlowSpell(t *testing.T) {
	_, all := run1(t, Config{
		Policy: MustPolicy("round-robin"), Fleet: []Group{{Count: 1, Engine: plain}},
		Workload: list(single(0, time.Second, 10_000, 1), single(1, 10*time.Second, 10_000, 1)),
		Faults:   Faults{Schedule: []Fault{{At: 0, Kind: Slow, For: 5 * time.Second, By: 3}}},
	})
	slow, _ := all[0].TTFT()
	normal, _ := all[1].TTFT()
	assert.InEpsilon(t, 3, float64(slow)/float64(normal), 0.01)
}

func TestPrefillThenDecode(t *testing.T) {
	const bytesPerToken, bandwidth = 100_000, 1e9 // 10,000 tokens take a second
	fleet := []Group{
		{Name: "p", Count: 1, Engine: plain, Role: scheduling.Prefill},
		{Name: "d", Count: 2, Engine: plain, Role: scheduling.Decode},
	}
	split := &Disagg{KVBytesPerToken: bytesPerToken, LinkBytesPerSecond: bandwidth, LinkLatency: 100 * time.Millisecond}
	c := Config{Policy: MustPolicy("round-robin"), Fleet: fleet, Disagg: split, Workload: list(single(0, 0, 10_000, 101))}
	result, all := run1(t, c)
	o := all[0]
	assert.Equal(t, "p-0", o.Prefill)
	assert.Equal(t, "d-0", o.Endpoint)
	assert.Equal(t, 101, o.OutputTokens)
	ttft, _ := o.TTFT()
	assert.InDelta(t, 2100*time.Millisecond, ttft, float64(tick), "a second of prefill, 1.1 of transfer, a step")
	assert.InDelta(t, time.Second, o.Finished-o.FirstToken, float64(tick))
	assert.Equal(t, 1, result.Transfers)
	assert.InDelta(t, 10_000*bytesPerToken, result.TransferBytes, 1)

	// Two prompts that are computed in one step leave over one link: the second waits for the first.
	c.Workload = list(single(0, 0, 10_000, 2), single(1, 0, 10_000, 2))
	result, all = run1(t, c)
	assert.InDelta(t, 1100*time.Millisecond, result.TransferWait, float64(tick))
	assert.InDelta(t, 1100*time.Millisecond, all[1].FirstToken-all[0].FirstToken, float64(tick))
	assert.NotEqual(t, all[0].Endpoint, all[1].Endpoint)

	// What the decode endpoint has cached is not transferred.
	again := single(1, 30*time.Second, 10_000, 2)
	again.Messages = single(0, 0, 10_000, 2).Messages
	c.Fleet = []Group{fleet[0], {Name: "d", Count: 1, Engine: plain, Role: scheduling.Decode}}
	c.Workload = list(single(0, 0, 10_000, 2), again)
	result, _ = run1(t, c)
	assert.Less(t, result.TransferBytes, 10_020.0*bytesPerToken)

	// A decider can leave a request whole, and a decode endpoint then does both.
	c.Disagg = &Disagg{New: func(Env) (Decider, error) { return SplitAbove{20_000}, nil }}
	c.Workload = list(single(0, 0, 10_000, 2))
	result, all = run1(t, c)
	assert.Zero(t, result.Transfers)
	assert.Equal(t, "d-0", all[0].Endpoint)
	assert.Empty(t, all[0].Prefill)

	// If the prompt's KV dies with its source, the decode endpoint computes it.
	c.Disagg, c.Workload = split, list(single(0, 0, 10_000, 2))
	c.Faults = Faults{Schedule: []Fault{{At: 1500 * time.Millisecond, Kind: Crash, Endpoint: 0}}}
	_, all = run1(t, c)
	require.Equal(t, Completed, all[0].Class)
	assert.InDelta(t, 3100*time.Millisecond, all[0].FirstToken, float64(tick))
}

func TestGateHoldsBack(t *testing.T) {
	var requests []workload.Request
	for i := range 5 {
		requests = append(requests, single(i, 0, 10_000, 1)) // a second each
	}
	_, all := run1(t, Config{
		Policy: MustPolicy("round-robin"), Fleet: []Group{{Count: 1, Engine: plain}}, Workload: list(requests...),
		Gate: func(Env) (Gate, error) { return NewLimitGate(1, 2500*time.Millisecond) },
	})
	var ended []Class
	for i, o := range all {
		ended = append(ended, o.Class)
		if o.Class == Completed {
			assert.InDelta(t, time.Duration(o.Request)*time.Second, o.Admitted, 2*float64(tick))
		} else {
			assert.Equal(t, 2500*time.Millisecond, all[i].Finished)
		}
	}
	assert.Equal(t, []Class{Completed, Completed, Refused, Refused, Completed}, ended)
	_, err := NewLimitGate(0, -1)
	require.ErrorContains(t, err, "max is 0 and maxWait -1ns")
}

func TestAutoscaler(t *testing.T) {
	// Ten requests of ten seconds are there at once; later there are none.
	var requests []workload.Request
	for i := range 10 {
		requests = append(requests, single(i, 0, 10, 2000))
	}
	requests = append(requests, single(10, 3*time.Minute, 10, 1))
	ready := map[time.Duration]int{}
	result, err := Run(context.Background(), Config{
		Policy: MustPolicy("least-request"), Fleet: []Group{{Count: 1, Engine: plain}}, Workload: list(requests...),
		Scaling:     []Scaling{{Min: 1, Max: 4, Period: 5 * time.Second, New: func(Env) (Autoscaler, error) { return TargetAutoscaler{2}, nil }}},
		SampleEvery: time.Second,
	}, Observer{Sample: func(s *Sample) {
		for _, e := range s.Endpoints {
			if e.Ready {
				ready[s.At]++
			}
		}
	}})
	require.NoError(t, err)
	assert.Equal(t, 11, result.All.Ended[Completed])
	assert.Equal(t, 1, ready[14*time.Second], "the others are starting up")
	assert.Equal(t, 4, ready[16*time.Second], "five were wanted, four is the most")
	assert.Equal(t, 1, ready[2*time.Minute])
	assert.Less(t, result.EndpointTime, 3*time.Minute+3*time.Minute)
}

// TestAdapters: a request pays for loading its adapter, and the default policy sends the next to where it is.
func TestAdapters(t *testing.T) {
	o := plain
	o.MaxAdapters, o.AdapterLoad = 1, time.Second
	with := func(n int, at time.Duration, adapter string) workload.Request {
		w := single(n, at, 10, 400)
		w.Adapter = adapter
		return w
	}
	_, all := run1(t, Config{
		Policy: MustPolicy("default"), Fleet: []Group{{Count: 2, Engine: o, Adapters: []string{"x", "y"}}},
		Workload: list(with(0, 0, "x"), with(1, 2*time.Second, "x"), with(2, 2500*time.Millisecond, "y")),
	})
	slices.SortFunc(all, func(a, b Outcome) int { return a.Request - b.Request })
	ttft := func(i int) time.Duration {
		d, ok := all[i].TTFT()
		require.True(t, ok)
		return d
	}
	assert.InDelta(t, time.Second, ttft(0), float64(tick))
	assert.InDelta(t, 0, ttft(1), float64(tick))
	assert.InDelta(t, time.Second, ttft(2), float64(tick))
	assert.Equal(t, all[0].Endpoint, all[1].Endpoint)
	assert.NotEqual(t, all[0].Endpoint, all[2].Endpoint)
}

// TestScrape: what the pool knows of engines is as old, and as rare, as the configuration says.
func TestScrape(t *testing.T) {
	probe := func(s Scrape) (ages []time.Duration, missing int) {
		var look lookout
		c := Config{
			Fleet: []Group{{Count: 4, Engine: plain}}, Workload: poisson(1, 300, 10, func(*rand.Rand) int { return 5 }), Scrape: s,
			Policy: Policy{New: func(e Env) (scheduling.Profile, error) {
				look = lookout{pool: e.Pool, now: func() time.Duration { return e.run.now }}
				return scheduling.Profile{Producers: []scheduling.Producer{&look}}, nil
			}},
		}
		_, err := Run(context.Background(), c)
		require.NoError(t, err)
		return look.ages, look.missing
	}
	ages, missing := probe(Scrape{Interval: 400 * time.Millisecond, Delay: 100 * time.Millisecond, Phases: 4})
	assert.Less(t, missing, 40, "only at the very start")
	assert.GreaterOrEqual(t, slices.Min(ages), 100*time.Millisecond)
	assert.Less(t, slices.Max(ages), 500*time.Millisecond)
	assert.Greater(t, slices.Max(ages), 450*time.Millisecond)

	ages, _ = probe(Scrape{Interval: 400 * time.Millisecond, Loss: 0.5})
	assert.Greater(t, slices.Max(ages), time.Second, "several in a row are lost")

	for _, none := range []Scrape{{Interval: -1}, {Loss: 1}} {
		ages, _ := probe(none)
		assert.Empty(t, ages)
	}
}

// lookout notes the age of what the pool knows at each pick.
type lookout struct {
	pool    *scheduling.Pool
	now     func() time.Duration
	ages    []time.Duration
	missing int
}

func (l *lookout) Produce(c *scheduling.Cycle) {
	for _, slot := range c.Snapshot.Live() {
		if _, at, ok := c.Snapshot.Observed(slot, scheduling.Waiting); ok {
			l.ages = append(l.ages, l.now()-at.Sub(epoch))
		} else {
			l.missing++
		}
	}
}

// TestChain holds chains of pieces to what they stand for: blocks are equal exactly if all tokens up to their end are.
func TestChain(t *testing.T) {
	type token struct {
		id     uint64
		offset int
	}
	rapid.Check(t, func(t *rapid.T) {
		blockTokens := rapid.IntRange(1, 20).Draw(t, "block")
		draw := func(label string) (tokens []token, c chain) {
			c.reset(blockTokens, 0)
			pieces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) workload.Piece {
				return workload.Piece{ID: rapid.Uint64Range(0, 2).Draw(t, "id"), Tokens: rapid.IntRange(0, 40).Draw(t, "tokens")}
			}), 0, 5).Draw(t, label)
			for _, p := range pieces {
				c.add(p.ID, p.Tokens)
				for i := range p.Tokens {
					tokens = append(tokens, token{p.ID, i})
				}
			}
			return tokens, c
		}
		a, ca := draw("a")
		b, cb := draw("b")
		require.Len(t, ca.blocks, len(a)/blockTokens)
		for i := range min(len(ca.blocks), len(cb.blocks)) {
			end := (i + 1) * blockTokens
			require.Equal(t, slices.Equal(a[:end], b[:end]), ca.blocks[i] == cb.blocks[i], "block %d", i)
		}
	})
}

func ExampleRun() {
	source, err := workload.Chats(workload.ChatOptions{Seed: 1, RequestsPerSecond: 8})
	if err != nil {
		panic(err)
	}
	result, err := Run(context.Background(), Config{
		Seed:     1,
		Fleet:    []Group{{Count: 8, Engine: engine.Options{BlockTokens: 512, Blocks: 843}}},
		Workload: source,
		Policy:   MustPolicy("default"),
		Duration: 10 * time.Minute,
		WarmUp:   time.Minute,
		SLO:      SLO{TTFT: 2 * time.Second},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Errors(), "errors; most answers in time:", result.GoodShare() > 0.9)
	// Output: 0 errors; most answers in time: true
}

func TestGatewaysSeeOthersByReportsOnly(t *testing.T) {
	ids := map[string]int{}
	c := Config{
		Seed: 1, Gateways: 2, Fleet: []Group{{Count: 2, Engine: small}}, Policy: MustPolicy("least-request"), Scrape: Scrape{Interval: -1},
		Workload: list(single(0, 0, 1000, 50), single(1, 0, 1000, 50), single(2, time.Millisecond, 1000, 50), single(3, time.Millisecond, 1000, 50)),
	}
	result, all := run1(t, c)
	assert.Equal(t, 4, result.All.Ended[Completed])
	for _, o := range all {
		ids[fmt.Sprintf("gateway %d, %s", o.Request%2, o.Endpoint)]++
	}
	assert.Len(t, ids, 4, "each gateway spreads its own two: %v", ids)

	c.Gate = func(Env) (Gate, error) { return NewLimitGate(1, 0) }
	_, err := Run(t.Context(), c)
	assert.ErrorContains(t, err, "Gateways is 2, want 1 with Gate")
	c.Gateways = -1
	_, err = Run(t.Context(), c)
	assert.ErrorContains(t, err, "Gateways is -1")
}

func TestGatewaysFollowTheFleet(t *testing.T) {
	result, _ := run1(t, Config{
		Seed: 3, Gateways: 3, Fleet: []Group{{Count: 6, Engine: small}}, Policy: MustPolicy("default"), Workload: chats(t, 3, 4), Duration: 5 * time.Minute,
		Faults: Faults{CrashEvery: time.Minute},
	})
	assert.Positive(t, result.Crashes)
	assert.Positive(t, result.All.Ended[Completed])
}

func TestReuseBoundsHits(t *testing.T) {
	twice := single(1, time.Second, 1500, 10)
	twice.Messages = []workload.Message{{Role: workload.User, Pieces: []workload.Piece{{ID: 1, Tokens: 1100}, {ID: 9, Tokens: 400}}}}
	c := Config{Seed: 1, Reuse: true, Fleet: []Group{{Count: 1, Engine: small}}, Policy: MustPolicy("default"), Workload: list(single(0, 0, 1500, 10), twice)}
	result, _ := run1(t, c)
	assert.EqualValues(t, 1024, result.All.ReusableTokens, "two blocks of 512")
	assert.InDelta(t, 1024./3000, result.ReuseRatio(), 1e-9)

	c.Workload, c.Duration, c.Fleet[0].Count = chats(t, 1, 6), 10*time.Minute, 4
	for _, name := range []string{"default", "production-stack-prefix", "oracle"} {
		c.Policy = MustPolicy(name)
		result, _ = run1(t, c)
		assert.Positive(t, result.HitRatio())
		assert.LessOrEqual(t, result.HitRatio(), result.ReuseRatio(), name)
	}
}
