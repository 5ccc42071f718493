package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// small is an engine with large blocks, which are quick to simulate.
var small = engine.Options{BlockTokens: 512, Blocks: 843}

func chats(t require.TestingT, seed uint64, rate float64) workload.Source {
	source, err := workload.Chats(workload.ChatOptions{Seed: seed, RequestsPerSecond: rate})
	require.NoError(t, err)
	return source
}

// list is a source of the given requests.
func list(requests ...workload.Request) workload.Source {
	return func(yield func(workload.Request, error) bool) {
		for _, w := range requests {
			if !yield(w, nil) {
				return
			}
		}
	}
}

// single is a request that is a session of its own, with a prompt that nobody shares.
func single(number int, at time.Duration, input, output int) workload.Request {
	return workload.Request{
		At: at, Session: number, Conversation: number, Last: true, InputTokens: input, OutputTokens: output,
		Messages: []workload.Message{{Role: workload.User, Pieces: []workload.Piece{{ID: uint64(number) + 1, Tokens: input}}}},
	}
}

// long passes over a test under the race detector.
func long(t *testing.T) {
	if racing {
		t.Skip("long, and single-threaded")
	}
}

func run1(t *testing.T, c Config) (*Result, []Outcome) {
	t.Helper()
	var all []Outcome
	result, err := Run(context.Background(), c, Observer{Outcome: func(o *Outcome) { all = append(all, *o) }})
	require.NoError(t, err)
	return result, all
}

// troubled is a configuration in which about everything happens.
func troubled(seed uint64, log *bytes.Buffer) Config {
	adapters := []string{"a", "b", "c"}
	inner, _ := workload.Chats(workload.ChatOptions{Seed: seed, RequestsPerSecond: 6, PauseScale: 0.2})
	return Config{
		Seed: seed, Policy: MustPolicy("default"), Duration: 4 * time.Minute, Log: log,
		Fleet: []Group{
			{Count: 4, Engine: engine.Options{BlockTokens: 512, Blocks: 200, MaxAdapters: 2, StartUp: 5 * time.Second}, Adapters: adapters},
			{Count: 3, Engine: engine.Options{BlockTokens: 256, Blocks: 800, MaxWaiting: 20, MaxAdapters: 3, StartUp: 10 * time.Second}, Adapters: adapters, Slowdown: 1.5},
		},
		Workload: func(yield func(workload.Request, error) bool) {
			for w, err := range inner {
				w.Adapter = append(adapters, "")[w.Session%4]
				if !yield(w, err) {
					return
				}
			}
		},
		Scrape: Scrape{Delay: 50 * time.Millisecond, Loss: 0.2},
		Faults: Faults{CrashEvery: time.Minute, SlowEvery: time.Minute, SlowFor: 10 * time.Second, Schedule: []Fault{
			{At: time.Minute, Kind: Crash, Endpoint: 0}, {At: 90 * time.Second, Kind: Leave, Endpoint: 1},
			{At: 100 * time.Second, Kind: Slow, Endpoint: 2, For: time.Second, By: 10},
		}},
		Gate: func(Env) (Gate, error) { return NewLimitGate(60, 5*time.Second) },
		Scaling: []Scaling{{Group: 1, Min: 1, Max: 6, New: func(Env) (Autoscaler, error) {
			return TargetAutoscaler{Target: 4}, nil
		}}},
	}
}

func TestSameSeedSameLog(t *testing.T) {
	log := func(seed uint64, procs int, edit func(*Config)) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		var b bytes.Buffer
		c := troubled(seed, &b)
		edit(&c)
		result, err := Run(context.Background(), c)
		require.NoError(t, err)
		assert.Positive(t, result.Crashes)
		assert.Positive(t, result.Retries)
		fmt.Fprintf(&b, "%+v", *result)
		return b.String()
	}
	split := func(c *Config) { c.Disagg = &Disagg{New: func(Env) (Decider, error) { return SplitAbove{4000}, nil }} }
	for name, edit := range map[string]func(*Config){
		"one endpoint":         func(*Config) {},
		"prefill, then decode": split,
		"oracle":               func(c *Config) { c.Policy = MustPolicy("oracle") },
		"flow control":         func(c *Config) { c.Gate, c.Flow = nil, protective },
	} {
		t.Run(name, func(t *testing.T) {
			first := log(7, 1, edit)
			require.Greater(t, strings.Count(first, "\n"), 1000)
			require.Contains(t, first, "\tnext\t")
			for _, procs := range []int{1, 4} {
				require.Equal(t, first, log(7, procs, edit))
			}
			require.NotEqual(t, first, log(8, 1, edit))
		})
	}
}

// TestEachRequestEndsOnce draws configurations and checks what must hold in all of them.
func TestEachRequestEndsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := troubled(rapid.Uint64Range(0, 1000).Draw(t, "seed"), nil)
		c.Log, c.Duration = nil, time.Minute
		c.Policy = rapid.SampledFrom(Policies()).Draw(t, "policy")
		if rapid.Bool().Draw(t, "no gate") {
			c.Gate = nil
		}
		if rapid.Bool().Draw(t, "split") {
			c.Disagg = &Disagg{New: func(Env) (Decider, error) { return SplitAbove{2000}, nil }}
		} else if c.Gate == nil && rapid.Bool().Draw(t, "flow control") {
			c.Flow = protective
		}
		c.Drain = rapid.SampledFrom([]time.Duration{-1, time.Second, time.Minute}).Draw(t, "drain")
		c.Attempts = rapid.IntRange(1, 4).Draw(t, "attempts")
		c.Faults.CrashEvery = rapid.SampledFrom([]time.Duration{0, 10 * time.Second}).Draw(t, "crashes")
		c.SLO = SLO{TTFT: time.Second}
		var pool *scheduling.Pool
		inner := c.Policy.New
		c.Policy.New = func(e Env) (scheduling.Profile, error) {
			pool = e.Pool
			return inner(e)
		}
		seen := map[int]bool{}
		result, err := Run(context.Background(), c, Observer{Outcome: func(o *Outcome) {
			require.False(t, seen[o.Request], "request %d ends twice", o.Request)
			seen[o.Request] = true
			last := o.Arrived
			for _, at := range []time.Duration{o.Admitted, o.Started, o.FirstToken} {
				if at != Never {
					require.GreaterOrEqual(t, at, last)
					last = at
				}
			}
			require.GreaterOrEqual(t, o.Finished, last)
			require.Less(t, o.CachedTokens, o.PromptTokens)
			require.LessOrEqual(t, o.Attempts, c.Attempts)
			require.Equal(t, o.Class == Refused || o.Class == Unfinished && o.Admitted == Never, o.Admitted == Never)
			if o.Class == Completed {
				require.NotEqual(t, Never, o.FirstToken)
				require.NotEmpty(t, o.Endpoint)
			}
		}})
		require.NoError(t, err)
		ended := 0
		for _, n := range result.All.Ended {
			ended += n
		}
		require.Equal(t, result.All.Arrived, ended)
		require.Len(t, seen, ended)
		require.LessOrEqual(t, result.All.Good, result.All.Ended[Completed])
		require.Zero(t, pool.Total(), "the ledger is back at zero")
		if c.Drain < 0 {
			require.Zero(t, result.All.Ended[Unfinished])
		}
	})
}

// TestNoDecisionUsesTheFuture cuts the workload off, and makes later answers longer: the decisions before stay the same.
func TestNoDecisionUsesTheFuture(t *testing.T) {
	const cut = 2 * time.Minute
	before := func(log string) string {
		end := 0
		for line := range strings.Lines(log) {
			var at int64
			_, err := fmt.Sscan(line, &at)
			require.NoError(t, err)
			if time.Duration(at) >= cut {
				break
			}
			end += len(line)
		}
		return log[:end]
	}
	for _, p := range Policies() {
		t.Run(p.Name, func(t *testing.T) {
			log := func(edit func(*workload.Request) bool) string {
				var b bytes.Buffer
				c := troubled(3, &b)
				c.Policy = p
				inner := c.Workload
				c.Workload = func(yield func(workload.Request, error) bool) {
					for w, err := range inner {
						if !edit(&w) || !yield(w, err) {
							return
						}
					}
				}
				_, err := Run(context.Background(), c)
				require.NoError(t, err)
				return b.String()
			}
			whole := log(func(*workload.Request) bool { return true })
			require.Greater(t, len(before(whole)), 10_000)
			require.Equal(t, before(whole), before(log(func(w *workload.Request) bool { return w.At < cut })))
			longer := log(func(w *workload.Request) bool {
				if w.At >= cut {
					w.OutputTokens *= 3
				}
				return true
			})
			require.Equal(t, before(whole), before(longer))
			require.NotEqual(t, whole, longer)
		})
	}
	t.Run("the length of an answer", func(t *testing.T) {
		// Answers of one second or ten: while none has ended, all decisions are the same; but not the oracle's.
		log := func(policy string, seconds func(int) int) string {
			var b bytes.Buffer
			var requests []workload.Request
			for i := range 60 {
				requests = append(requests, single(i, time.Duration(i)*10*time.Millisecond, 1000, 130*seconds(i)))
			}
			_, err := Run(context.Background(), Config{
				Policy: MustPolicy(policy), Fleet: []Group{{Count: 3, Engine: engine.Options{BlockTokens: 16, Blocks: 800}}},
				Workload: list(requests...), Log: &b,
			})
			require.NoError(t, err)
			return b.String()
		}
		ten := func(int) int { return 10 }
		mixed := func(i int) int { return 1 + i%3*9 }
		require.Equal(t, log("default", ten), log("default", mixed))
		require.NotEqual(t, log("oracle", ten), log("oracle", mixed))
	})
}

// queueing is an engine that is a server of queueing theory: prompts take no time to speak of, a step takes ten milliseconds
// whatever the batch, and at most servers requests run.
func queueing(servers int) engine.Options {
	return engine.Options{
		BlockTokens: 512, Blocks: 1 << 16, MaxRunning: servers, PrefillRate: 1e12, MaxContextTokens: 1 << 20,
		StepTime: 10 * time.Millisecond, StepTimePerSequence: time.Nanosecond, StepTimePerKVToken: time.Nanosecond,
	}
}

// poisson is arrivals with output lengths drawn by a function.
func poisson(seed uint64, n int, rate float64, output func(*rand.Rand) int) workload.Source {
	return func(yield func(workload.Request, error) bool) {
		r := rand.New(rand.NewPCG(seed, 1))
		at := 0.0
		for i := range n {
			at += r.ExpFloat64() / rate
			if !yield(single(i, time.Duration(at*float64(time.Second)), 1, output(r)), nil) {
				return
			}
		}
	}
}

// TestQueueingTheory compares mean waits with the closed formulas. A service is a thousand steps on average, so steps blur
// the times by a thousandth of it.
func TestQueueingTheory(t *testing.T) {
	long(t)
	const service = 10.0                           // seconds
	erlangC := func(c int, load float64) float64 { // the share that waits; load is in servers
		term, sum := 1.0, 0.0
		for k := range c {
			sum += term
			term *= load / float64(k+1)
		}
		tail := term / (1 - load/float64(c))
		return tail / (sum + tail)
	}
	for _, row := range []struct {
		name    string
		servers int
		busy    float64
		output  func(*rand.Rand) int
		wait    float64 // in services
	}{
		{"M/D/1 at 0.5", 1, 0.5, func(*rand.Rand) int { return 1000 }, 0.5 / (2 * 0.5)},
		{"M/D/1 at 0.8", 1, 0.8, func(*rand.Rand) int { return 1000 }, 0.8 / (2 * 0.2)},
		{"M/M/1 at 0.7", 1, 0.7, exponential, 0.7 / 0.3},
		{"M/M/4 at 0.8", 4, 0.8, exponential, erlangC(4, 3.2) / (4 * 0.2)},
	} {
		t.Run(row.name, func(t *testing.T) {
			const n = 150_000
			result, err := Run(context.Background(), Config{
				Policy: MustPolicy("round-robin"), Fleet: []Group{{Count: 1, Engine: queueing(row.servers)}},
				Workload: poisson(1, n, row.busy*float64(row.servers)/service, row.output), Scrape: Scrape{Interval: -1},
				WarmUp: time.Hour, Drain: -1,
			})
			require.NoError(t, err)
			assert.InEpsilon(t, row.wait*service, result.Queued.Mean().Seconds(), 0.05)
			assert.InEpsilon(t, service, (result.E2E.Mean() - result.Queued.Mean()).Seconds(), 0.01)
		})
	}
}

func exponential(r *rand.Rand) int { return 1 + int(r.ExpFloat64()*999.5) }

// TestLittlesLaw: what is under way on average is the rate times the mean stay.
func TestLittlesLaw(t *testing.T) {
	long(t)
	underway, samples := 0.0, 0
	result, err := Run(context.Background(), Config{
		Policy: MustPolicy("default"), Fleet: []Group{{Count: 8, Engine: small}}, Workload: chats(t, 2, 9),
		Duration: 40 * time.Minute, WarmUp: 4 * time.Minute, SampleEvery: 500 * time.Millisecond, Drain: -1,
	}, Observer{Sample: func(s *Sample) {
		if s.At >= 4*time.Minute && s.At <= 40*time.Minute {
			underway += float64(s.InFlight)
			samples++
		}
	}})
	require.NoError(t, err)
	rate := float64(result.Measured.Arrived) / result.Window.Seconds()
	assert.InEpsilon(t, rate*result.E2E.Mean().Seconds(), underway/float64(samples), 0.02)
}

// TestMoreLoadIsSlower compares the same requests at ever higher rates, and on ever slower engines.
func TestMoreLoadIsSlower(t *testing.T) {
	long(t)
	ttft := func(rate, slowdown float64) time.Duration {
		result, err := Run(context.Background(), Config{
			Policy: MustPolicy("default"), Fleet: []Group{{Count: 8, Engine: small, Slowdown: slowdown}}, Workload: chats(t, 2, rate),
			Requests: 4000, WarmUp: time.Minute, Drain: -1,
		})
		require.NoError(t, err)
		return result.TTFT.Mean()
	}
	last := time.Duration(0)
	for _, rate := range []float64{2, 6, 9, 12} {
		now := ttft(rate, 1)
		require.Greater(t, now, last, "rate %v", rate)
		last = now
	}
	last = 0
	for _, slowdown := range []float64{0.5, 1, 1.5} {
		now := ttft(6, slowdown)
		require.Greater(t, now, last, "slowdown %v", slowdown)
		last = now
	}
}

// TestOracle: whoever knows the true state of the engines has the least TTFT on average and the most good answers, at a load
// that is high and that all policies bear. A policy that refuses requests is another matter.
func TestOracle(t *testing.T) {
	long(t)
	by := map[string]*Result{}
	for _, p := range Policies() {
		sum := &Result{}
		for seed := range uint64(3) {
			result, err := Run(context.Background(), Config{
				Seed: seed, Policy: p, Fleet: []Group{{Count: 8, Engine: small}}, Workload: chats(t, seed+10, 9),
				Duration: 15 * time.Minute, WarmUp: 3 * time.Minute, SLO: SLO{TTFT: time.Second},
			})
			require.NoError(t, err)
			sum.TTFT.Merge(&result.TTFT)
			sum.Measured.Good += result.Measured.Good
			sum.Measured.Ended[Refused] += result.Measured.Ended[Refused]
		}
		by[p.Name] = sum
	}
	oracle := by["oracle"]
	for name, other := range by {
		if name != "oracle" && other.Measured.Ended[Refused] == 0 {
			assert.Less(t, oracle.TTFT.Mean(), other.TTFT.Mean(), name)
			assert.Greater(t, oracle.Measured.Good, other.Measured.Good, name)
		}
	}
}

func TestSessionWaitsForItsAnswer(t *testing.T) {
	turn := func(n int, at time.Duration, tokens int, last bool) workload.Request {
		return workload.Request{
			At: at, Turn: n, Last: last, InputTokens: tokens, OutputTokens: 1000,
			Messages: []workload.Message{{Role: workload.User, Pieces: []workload.Piece{{ID: uint64(n + 1), Tokens: 1024}}}},
		}
	}
	_, all := run1(t, Config{
		Policy: MustPolicy("default"), Fleet: []Group{{Count: 1, Engine: engine.Options{BlockTokens: 16, Blocks: 2000}}},
		Workload: list(turn(0, 0, 1024, false), turn(1, time.Second, 3048, false), turn(2, 2*time.Second, 5072, true)),
	})
	require.Len(t, all, 3)
	for i := 1; i < 3; i++ {
		assert.Equal(t, all[i-1].Finished, all[i].Arrived, "it is sent when the answer before is there")
		said := all[i-1].PromptTokens + all[i-1].OutputTokens
		assert.Equal(t, said+1024, all[i].PromptTokens)
		// All that was said is cached but for what is in no full block: the newest token never has its KV.
		assert.Equal(t, (said-1)/16*16, all[i].CachedTokens)
	}
}

func TestConfigErrors(t *testing.T) {
	_, err := Run(context.Background(), Config{
		Fleet: []Group{{Count: -1}, {Name: "engine", Count: 1, Slowdown: -2}}, Duration: -1, Requests: -1, Attempts: -1,
		Scrape: Scrape{Loss: 2, Phases: -1}, SLO: SLO{TTFT: -1},
		Faults: Faults{CrashEvery: -1, Schedule: []Fault{{Endpoint: 9}, {Kind: Slow}, {Kind: 7}}},
		Disagg: &Disagg{LinkBytesPerSecond: -1}, Scaling: []Scaling{{Group: 4, Max: -1}},
	})
	for _, want := range []string{
		"Fleet[0].Count is -1", `Fleet[1].Name is "engine"`, "Fleet[1].Slowdown is -2", "Workload is nil", "Policy has no New",
		"Duration is -1ns", "Requests is -1", "Attempts is -1", "Scrape.Loss is 2", "Scrape.Phases is -1", "SLO.TTFT is -1ns",
		"Faults.CrashEvery is -1ns", "Faults.Schedule[0].Endpoint is 9", "Faults.Schedule[1]", "Faults.Schedule[2].Kind is 7",
		"Disagg.LinkBytesPerSecond is -1", "Scaling[0].Group is 4", "Scaling[0] has Min 1 and Max -1", "Scaling[0].New is nil",
	} {
		assert.ErrorContains(t, err, want)
	}
	good := Config{Policy: MustPolicy("default"), Fleet: []Group{{Count: 1}}, Workload: list()}
	_, err = Run(context.Background(), good)
	require.NoError(t, err, "an empty workload is one")

	c := good
	c.Fleet = []Group{{Count: 1, Engine: engine.Options{Blocks: -1}}}
	_, err = Run(context.Background(), c)
	require.ErrorContains(t, err, `group "engine": engine options: Blocks is -1`)

	c = good
	broken := errors.New("line 3: broken")
	c.Workload = func(yield func(workload.Request, error) bool) { yield(workload.Request{}, broken) }
	_, err = Run(context.Background(), c)
	require.ErrorIs(t, err, broken)

	c.Workload = list(single(0, time.Second, 10, 10), single(1, 0, 10, 10))
	_, err = Run(context.Background(), c)
	require.ErrorContains(t, err, "want them in order")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Workload = chats(t, 1, 100)
	_, err = Run(ctx, c)
	require.ErrorIs(t, err, context.Canceled)

	c.Workload, c.Log = list(single(0, 0, 10, 10)), failingWriter{}
	_, err = Run(context.Background(), c)
	require.ErrorContains(t, err, "disk full")

	_, err = FindPolicy("best")
	require.ErrorContains(t, err, `policy "best" is unknown, want one of default, round-robin`)
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestFindCapacity: a server of queueing theory bears its service rate, and no more.
func TestFindCapacity(t *testing.T) {
	long(t)
	found, err := FindCapacity(context.Background(), Config{
		Policy: MustPolicy("least-request"), Fleet: []Group{{Count: 4, Engine: queueing(1)}}, Scrape: Scrape{Interval: -1},
	}, func(load float64) (workload.Source, error) {
		return poisson(1, 20_000, load*0.2, func(*rand.Rand) int { return 1000 }), nil
	}, CapacityOptions{})
	require.NoError(t, err)
	assert.InEpsilon(t, 2.0, found.Load, 0.04, "four servers of a request in ten seconds bear twice 0.2 a second")
	assert.Greater(t, found.Saturated, found.Load)
	assert.InEpsilon(t, found.Offered, found.Completed, 0.03)

	_, err = FindCapacity(context.Background(), Config{}, nil, CapacityOptions{Precision: math.NaN()})
	require.ErrorContains(t, err, "Precision NaN")
}
